"""What a run costs, and that it stops at its budget."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.budget import BudgetSpec
from configs.load import SettingsError, load_job
from service.report.ending import end_of
from service.report.estimate import bill_lines, compared
from tests.service.report.test_estimate import MEASURED
from tests.workers.run.test_outage import TAKES, Answering
from workers.run.job import run_job
from workers.run.recipe import make_recipe
from workers.run.report import Progress, Report
from workers.run.size import WorkerSize
from workers.run.spending import Bill, Spending
from workers.run.tasks import PreparedTake

ON_CPU = WorkerSize("a processor", "cpu", 4)
HALF_A_GPU = WorkerSize("a GPU", "cuda", 4, 0.5)
NOW = datetime(2026, 11, 26, 8, tzinfo=UTC)


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0, 5000)), max_size=20))
def test_workers_are_paid_while_they_are_there(ticks: list[tuple[int, float]]) -> None:
    spending, now, expected = Spending(BudgetSpec(worker_price=2.0)), 0.0, 0.0
    for workers, seconds in ticks:
        now += seconds
        spending.tick({ON_CPU: workers}, now)
        expected += workers * seconds
    bill = spending.bill
    assert bill.worker_hours == pytest.approx(expected / 3600)
    assert bill.cost == pytest.approx(2 * expected / 3600)
    assert bill.gpu_hours == 0


def test_prices_of_machines_are_shared_by_their_workers() -> None:
    assert BudgetSpec(instance="c7i.4xlarge").price_of("cpu", 4) == pytest.approx(0.714 / 4)
    assert BudgetSpec(instance="g6.xlarge").price_of("cuda", 4) == pytest.approx(0.8048)
    assert BudgetSpec(instance="g6.xlarge").price_of("cuda", 2, 0.5) == pytest.approx(0.4024)
    assert BudgetSpec(instance="c7i.4xlarge").price_of("cuda", 4) is None
    assert BudgetSpec(instance="g6.xlarge", worker_price=1.5).price_of("cpu", 4) == 1.5


def test_workers_of_two_sizes_are_paid_by_their_part_of_a_machine() -> None:
    spending = Spending(BudgetSpec(instance="g6.xlarge"))
    assert spending.bill.cost is None
    spending.tick({HALF_A_GPU: 2, WorkerSize("a GPU", "cuda", 4): 1}, 3600)
    bill = spending.bill
    assert (bill.worker_hours, bill.gpu_hours) == (3, 2)
    assert bill.cost == pytest.approx(2 * 0.8048)
    assert bill.price == pytest.approx(2 * 0.8048 / 3)
    unknown = Spending(BudgetSpec())
    unknown.tick({ON_CPU: 1}, 3600)
    assert (unknown.bill.cost, unknown.bill.price) == (None, None)


def test_the_limits() -> None:
    spending = Spending(BudgetSpec(worker_price=1.0, max_cost=2.0))
    spending.tick({HALF_A_GPU: 1}, 7199)
    assert spending.over() is None
    spending.tick({HALF_A_GPU: 1}, 7201)
    stop = spending.over()
    assert stop is not None
    assert stop.fatal
    assert "has cost 2.0003, and --max-cost is 2" in stop.reason
    assert spending.bill.gpu_hours == spending.bill.worker_hours / 2
    late = Spending(BudgetSpec(deadline=NOW))
    assert late.over(NOW - timedelta(seconds=1)) is None
    assert "its deadline, 2026-11-26T08:00+00:00, has come" in late.over(NOW).reason


def test_deadlines_in_words(tmp_path: Path) -> None:
    def budget(**settings: Any) -> BudgetSpec:
        places = {"dataset": "d", "output": str(tmp_path)}
        return load_job(None, {**places, "run": {"budget": settings}}).run.budget

    left = budget(deadline="1.5h").deadline - datetime.now(UTC)
    assert timedelta(hours=1.4) < left <= timedelta(hours=1.5)
    assert budget(deadline="2026-11-26T08:00").deadline == NOW
    with pytest.raises(SettingsError, match="deadline"):
        budget(deadline="soon")
    with pytest.raises(SettingsError, match="max_cost needs to know what a worker costs"):
        budget(max_cost=3.0)
    with pytest.raises(SettingsError, match=r"no price is known of 'g6.xlarg'.*did you mean"):
        budget(instance="g6.xlarg")


def test_a_job_stops_at_its_deadline_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    past = {"deadline": "2026-01-01"}
    settings = {
        "dataset": str(tmp_path / "data"),
        "output": str(tmp_path / "out"),
        "run": {"budget": past},
    }
    recipe = make_recipe(load_job(None, settings))
    asked: list[str] = []

    def becomes(task: Any) -> PreparedTake:
        asked.append(task.take.uid)
        return PreparedTake(task.take, (), ())

    report = asyncio.run(run_job(Answering(becomes), recipe, TAKES, interval=0.01))
    assert 0 < len(asked) < len(TAKES)
    assert not report.ok
    assert "its deadline" in report.failures[-1].reason
    assert end_of(report).exit_code == 1


def test_the_bill_beside_the_estimate() -> None:
    progress = Progress(1, clips_done=3600 * 50, takes_done=1)
    bill = compared(Bill(1.25, 1.25, 2.0, 2.5), progress, MEASURED, "s3://out/calibration/x.json")
    assert bill.expected_hours == pytest.approx((50 / 60, 1.0, 50 / 40))
    assert bill.expected_cost == pytest.approx((100 / 60, 2.0, 100 / 40))
    assert list(bill_lines(bill)) == [
        "1.25 worker hours and 1.25 GPU hours; by the calibration 1.00 (0.83 to 1.25)",
        "cost 2.50; by the calibration 2.00 (1.67 to 2.50)",
    ]
    assert Report(progress).bill is None
