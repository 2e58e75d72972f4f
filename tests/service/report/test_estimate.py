"""Hours, bytes and money by a calibration: the arithmetic, and what is refused."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.instances import INSTANCES
from service.cli.main import run
from service.jobs.calibrations import FOLDER, calibration_for, keep
from service.report.estimate import Work, estimate, range_words, size_words, time_words
from takestream.storage import S3Options
from tests.support.brightness import Job
from workers.run.calibration import Calibration, Measured
from workers.run.size import WorkerSize


def of_size(size: WorkerSize, workers: int = 2, rate: float = 50.0) -> Measured:
    return Measured(size, workers, 3, (rate * 0.8, rate, rate * 1.2))


MEASURED = Calibration(
    made_at="2026-11-26T00:00:00+00:00",
    encoder_ids=("tiny-0123456789",),
    resolution="448",
    device="cuda",
    cpus=4,
    sizes=(of_size(WorkerSize("a GPU", "cuda", 4)),),
    takes=3,
    streams=4,
    units=3,
    clips=1000,
    frames=16_000,
    seconds=20.0,
    bytes_read=10**7,
    bytes_written=2 * 10**6,
    requests=50,
)


def test_the_whole_release_on_eight_workers() -> None:
    work = Work(takes=5035, clips=8_700_000, bytes_read=1_200 * 10**9)
    found = estimate(work, MEASURED, 8, worker_price=0.5, hours_left=6)
    assert found.hours[1] == pytest.approx(8_700_000 / 50 / 8 / 3600)
    assert found.hours[0] < found.hours[1] < found.hours[2]
    assert found.worker_hours == found.gpu_hours
    assert found.cost[1] == pytest.approx(8_700_000 / 50 / 3600 * 0.5)
    assert found.bytes_written == 8_700_000 * 2000
    assert (found.meets_deadline, found.workers_needed) == (False, 11)
    assert estimate(work, MEASURED, 11, hours_left=6).meets_deadline
    assert not estimate(work, MEASURED, 10, hours_left=6).meets_deadline


def test_machines_are_paid_whole() -> None:
    work = Work(1, 360_000, 1)
    found = estimate(work, MEASURED, 3, instance=INSTANCES["g6.xlarge"])
    assert found.machines == 3
    two_on_each = replace(MEASURED, sizes=(of_size(WorkerSize("a GPU", "cuda", 4, 0.5)),))
    shared = estimate(work, two_on_each, 3, instance=INSTANCES["g6.xlarge"])
    assert shared.machines == 2
    assert shared.gpu_hours[1] == pytest.approx(shared.worker_hours[1] / 2)
    on_cpu = replace(MEASURED, sizes=(of_size(WorkerSize("a processor", "cpu", 4)),))
    some = estimate(work, on_cpu, 5, instance=INSTANCES["c7i.4xlarge"])
    assert (some.machines, some.gpu_hours) == (2, (0.0, 0.0, 0.0))
    assert some.cost[1] == pytest.approx(some.hours[1] * 2 * 0.714)
    assert some.spot[0] < some.spot[1] < some.spot[2] < some.cost[2]


def test_workers_of_unequal_machines_count_in_their_proportion() -> None:
    sizes = (
        of_size(WorkerSize("small", "cuda", 4, 1.0), 1, 30.0),
        of_size(WorkerSize("large", "cuda", 5, 1 / 3), 3, 10.0),
    )
    unequal = replace(MEASURED, sizes=sizes)
    assert (unequal.workers, unequal.clips_per_s[1]) == (4, pytest.approx((30 + 3 * 10) / 4))
    found = estimate(Work(1, 360_000, 1), unequal, 8, instance=INSTANCES["g6.xlarge"])
    assert found.hours[1] == pytest.approx(360_000 / 15 / 8 / 3600)
    # Two alone on a GPU, six by three: four GPUs.
    assert (found.machines, found.gpu_hours[1]) == (4, pytest.approx(found.hours[1] * 4))


@given(
    clips=st.integers(0, 10**9),
    takes=st.integers(0, 10**4),
    workers=st.integers(1, 500),
    prepare=st.floats(0, 100),
    start=st.floats(0, 600),
    left=st.floats(0.1, 1000),
)
def test_the_workers_that_are_needed_are_enough_and_none_less(
    clips: int, takes: int, workers: int, prepare: float, start: float, left: float
) -> None:
    measured = replace(MEASURED, prepare_seconds=prepare, start_seconds=start)
    work = Work(takes, clips, 0)
    found = estimate(work, measured, workers, hours_left=left)
    assert 0 <= found.hours[0] <= found.hours[1] <= found.hours[2]
    if not found.workers_needed:
        assert found.workers_needed == 0 or left * 3600 <= start
        return
    needed = found.workers_needed
    assert estimate(work, measured, needed, hours_left=left * (1 + 1e-9) + 1e-9).meets_deadline
    if needed > 1:
        fewer = estimate(work, measured, needed - 1, hours_left=left * (1 - 1e-9) - 1e-9)
        assert not fewer.meets_deadline


def test_words() -> None:
    assert size_words(1_200_000_000_000) == "1.20 TB (1.09 TiB)"
    assert size_words(0) == "0.00 MB (0.00 MiB)"
    assert range_words((1.0, 2.0, 3.0)) == "2.0 (1.0 to 3.0)"
    assert range_words((2.0, 2.0, 2.0)) == "2.0"
    assert time_words((1.0, 2.0, 3.0)) == "2.0 (1.0 to 3.0) h"
    assert time_words((0.1, 0.2, 0.3)) == "12.0 (6.0 to 18.0) min"


def test_plan_uses_the_newest_of_the_same_encoder_and_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(tmp_path)
    places = ["--dataset", str(job.root), "--output", str(job.output)]
    assert calibration_for(job.recipe) is None
    assert run(["plan", *places, "--probe"]) == 0
    assert "`takestream calibrate` with" in capsys.readouterr().err
    mine = replace(MEASURED, encoder_ids=job.recipe.encoder_ids)
    keep(
        replace(mine, sizes=(of_size(WorkerSize("a GPU", "cuda", 4), rate=2.0),)),
        str(job.output),
        S3Options(),
    )
    uri = keep(mine, str(job.output), S3Options())
    keep(MEASURED, str(job.output), S3Options())
    (job.output / FOLDER / "99991231T000000.json").write_text("{")
    assert calibration_for(job.recipe) == (mine, uri)
    assert run(["plan", *places, "--probe", "--worker-price", "0.5", "--deadline", "1h"]) == 0
    said = capsys.readouterr().err
    assert "on 2 workers" in said
    assert uri in said
    assert re.search(r"deadline 20\S+: is met; 1 worker would do for certain", said)
    assert run(["plan", *places, "--probe", "--deadline", "2026-01-01", "--workers", "1"]) == 0
    said = capsys.readouterr().err
    assert "on 1 worker:" in said
    assert "is not met for certain; no number of workers is enough" in said
    assert run(["plan", *places, "--instance", "c7i.4xlarge"]) == 2
    assert "has no GPU" in capsys.readouterr().err
    assert run(["plan", *places, "--device", "cpu", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["calibration"], facts["estimate"]) == (None, None)
    assert run(["plan", *places, "--probe", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["calibration"]["uri"] == uri
    assert math.isclose(facts["estimate"]["hours"][1], facts["clips_left"] / 50 / 2 / 3600)
