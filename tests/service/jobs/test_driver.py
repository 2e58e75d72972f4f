"""One driver for the command line and for a cluster: its record, its words, its exit code.

The workers are only pretended; `tests/e2e` has the real ones.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_job
from service.cli.main import run
from service.jobs import driver
from service.jobs.claim import Claim, new_owner
from service.jobs.recorder import ProgressRecorder
from service.jobs.records import JobRecord, Records, new_job_id, now
from service.report.ending import end_of_error, stopped
from takestream.errors import ErrorKind
from tests.support.jobs import FakePool
from workers.run import job, pool, session
from workers.run.report import Progress, Report
from workers.run.tasks import Failure
from workers.store.errors import StoreError

Outcome = Callable[[], Report]


class Ran:
    """Instead of `run_job`: gives a report, or raises."""

    def __init__(self) -> None:
        self.outcome: Any = None

    async def __call__(self, pool: Any, recipe: Any, takes: Any, tell: Any, **_: Any) -> Report:
        tell(Progress(1, clips=8, clips_done=4), [])
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    ran = Ran()
    monkeypatch.setattr(session, "ray_session", lambda run: nullcontext())
    monkeypatch.setattr(pool, "Pool", FakePool)
    monkeypatch.setattr(job, "run_job", ran)
    return ran


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    """A data set of one take, and an output."""
    folder = tmp_path / "data" / "takes" / "one"
    folder.mkdir(parents=True)
    (folder / "cam.mp4").write_bytes(b"video")
    entry = {
        "take_uid": "uid-1", "take_name": "one", "root_dir": "takes/one",
        "frame_aligned_videos": {"cam01": {"0": {"relative_path": "cam.mp4"}}},
    }  # fmt: skip
    (tmp_path / "data" / "takes.json").write_text(json.dumps([entry]))
    return str(tmp_path / "data"), str(tmp_path / "out")


def submitted(dataset: str, output: str) -> str:
    job = load_job(None, {"dataset": dataset, "output": output})
    record = JobRecord(
        job_id=new_job_id(), kind="ray", status="queued", submitted_at=now(),
        spec=job.model_dump(mode="json"),
    )  # fmt: skip
    Records(output).save(record)
    return record.job_id


def lost(units: int, *failures: Failure) -> Report:
    return Report(Progress(1, units=4, units_done=4 - units, units_failed=units), [], 0, {},
                  list(failures))  # fmt: skip


CRASH = Failure("one", "cam01_0", "took its worker down 2 times", kind=ErrorKind.CRASH)
CASES = [
    (lost(0), 0, "succeeded", None),
    (lost(2), 1, "failed", "2 units that were not extracted; run it again to try once more"),
    (lost(1), 1, "failed", "1 unit that was not extracted; run it again to try once more"),
    (lost(1, CRASH), 1, "failed", "1 failure: one cam01_0: took its worker down 2 times"),
    (lost(2, CRASH, CRASH), 1, "failed", "2 failures; first: one cam01_0: took its worker down 2 "
                                         "times"),
]  # fmt: skip


@pytest.mark.parametrize(("report", "code", "status", "error"), CASES)
def test_every_way_to_run_a_job_ends_in_the_same_words(
    ran: Ran, places: tuple[str, str], capsys: pytest.CaptureFixture[str], report: Report,
    code: int, status: str, error: str | None,
) -> None:  # fmt: skip
    dataset, output = places
    ran.outcome = report
    job_id = submitted(dataset, output)
    assert run(["perform", job_id, "--output", output]) == code
    record, log = Records(output).load(job_id), Records(output).log(job_id)
    assert record is not None
    assert (record.status, record.error) == (status, error)
    assert [(f["stream"], f["kind"]) for f in record.failures] == (
        [("cam01_0", "crash")] * len(report.failures)
    )
    assert record.progress is not None
    assert record.finished_at
    end = log.splitlines()[-1].split(" ", 1)[1]
    assert end.partition("; report ")[0] == ("done" if error is None else f"done, with {error}")
    assert Path(end.partition("; report ")[2]).is_file()
    assert f"1 takes with {record.encoder_ids[0]}" in log

    said = capsys.readouterr().out
    assert run(["extract", "--dataset", dataset, "--output", output]) == code
    again = capsys.readouterr().out
    for summary in (said, again):
        assert "None" not in summary
        if error is not None and not report.failures:
            assert error in summary
    assert run(["extract", "--dataset", dataset, "--output", output, "--json"]) == code
    facts = json.loads(capsys.readouterr().out)
    assert [f["kind"] for f in facts["failures"]] == ["crash"] * len(report.failures)
    assert json.loads(Path(facts["report"]).read_text())["ok"] == (code == 0)


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (KeyboardInterrupt(), "stopped", stopped({"clips_done": 4, "clips_asked": 4}).line),
        (StoreError("no space is left there"), "failed", "no space is left there"),
        (ZeroDivisionError("odd"), "failed", "a fault of takestream: ZeroDivisionError: odd"),
    ],
)
def test_a_job_that_does_not_come_to_its_report_says_why(
    ran: Ran, places: tuple[str, str], outcome: BaseException, status: str, words: str
) -> None:
    dataset, output = places
    ran.outcome = outcome
    job_id = submitted(dataset, output)
    assert run(["perform", job_id, "--output", output]) == (130 if status == "stopped" else 1)
    record = Records(output).load(job_id)
    assert record is not None
    assert record.status == status
    assert record.error == (None if status == "stopped" else words)
    assert Records(output).log(job_id).splitlines()[-1].endswith(words)


def test_without_a_record_that_can_be_read_nothing_runs(
    ran: Ran, places: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, output = places
    job_id = submitted(dataset, output)
    Path(output, "jobs", f"{job_id}.json").write_text('{"job_id": "20')
    for asked, words in ((job_id, "is torn"), (new_job_id(), "there is no record")):
        assert run(["perform", asked, "--output", output]) == 2
        assert words in capsys.readouterr().err


def test_the_log_is_whole_before_the_record_says_ended(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    job_id = submitted(str(tmp_path), str(tmp_path))
    record, version = records.read(job_id)
    assert record is not None
    claim = Claim(records, record, version, new_owner())
    logs: list[str] = []
    replace = records.replace

    def noted(record: JobRecord, version: str | None) -> str | None:
        if record.ended:
            logs.append(records.log(job_id))
        return replace(record, version)

    records.replace = noted  # type: ignore[method-assign]
    driver._end(claim, ProgressRecorder(records, claim), end_of_error(StoreError("full")))
    assert [log.endswith("full\n") for log in logs] == [True]


def test_a_slow_output_does_not_hold_the_job_up_and_loses_no_line(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    job_id = submitted(str(tmp_path), str(tmp_path))
    record, version = records.read(job_id)
    assert record is not None
    claim = Claim(records, record, version, new_owner())
    recorder, fails = ProgressRecorder(records, claim), [True]
    replace = records.replace

    def flaky(record: JobRecord, version: str | None) -> str | None:
        if fails.pop() if fails else False:
            raise StoreError("503 SlowDown")
        return replace(record, version)

    records.replace = flaky  # type: ignore[method-assign]
    for number in range(50):
        recorder._say(f"line {number}")
        recorder(Progress(1, clips_done=number), [])
    recorder.end(stopped())
    recorder.finish()
    claim.save()
    lines = [line.split(" ", 1)[1] for line in records.log(job_id).splitlines()]
    assert lines == [*(f"line {number}" for number in range(50)), stopped().line]
    found = records.load(job_id)
    assert found is not None
    assert found.progress is not None
    assert (found.status, found.progress["clips_done"]) == ("stopped", 49)
