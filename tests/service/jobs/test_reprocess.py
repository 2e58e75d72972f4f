"""A version made again: its takes, streams and clips, by another encoder; and how it moved."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.load import SettingsError
from service.cli.main import run
from service.jobs.calibrations import keep
from service.jobs.choose import ChosenJob
from service.jobs.reprocess import again, moved
from service.report.summary import write_report
from takestream.storage import S3Options
from tests.service.report.test_estimate import MEASURED
from tests.support.brightness import STREAMS, Job
from workers.run.report import Progress, Report
from workers.run.tasks import UnitRecord

FOUR = {"encoders": [{"preset": "efficientnet_lite", "frames": 4}]}
S3 = S3Options()


@pytest.fixture
def old(tmp_path: Path) -> Job:
    """A version on a grid of its own, of one stream, and the report of its job."""
    job = Job(tmp_path, grid={"stride": 8, "tail": "drop"}, rotate={"cam01_0": 180})
    job.run(STREAMS[1:])
    assert write_report(job.recipe, Report(Progress(1)))
    return job


def test_takes_streams_and_grid_are_those_of_the_old_stores(old: Job) -> None:
    todo = again(str(old.output), "efficientnet_lite", FOUR, S3)
    (target,) = todo.chosen.recipe.targets
    assert todo.old == old.recipe.target.encoder_id != target.encoder_id
    assert target.encoder.frames == 4
    assert (target.grid.stride, target.grid.window, target.grid.tail) == (8, 32, "drop")
    assert target.grid.fps == "auto"
    assert todo.chosen.recipe.job.rotate == {"cam01_0": 180}
    assert [names for _, names in todo.chosen.takes] == [STREAMS[1:]]
    # What the caller says wins.
    other = again(str(old.output), todo.old, {**FOUR, "grid": {"stride": 16}}, S3)
    assert other.chosen.recipe.target.grid.stride == 16


def test_what_moved_is_measured_where_both_are_complete(old: Job) -> None:
    todo = again(str(old.output), "efficientnet_lite", FOUR, S3)
    first = old.recipe.target.encoder_id
    old.recipe = todo.chosen.recipe
    records: list[UnitRecord] = []
    extractor, prepared = old.prepare(STREAMS[1:])
    (empty,) = moved(old.recipe, str(old.output), first, S3)
    assert (empty.takes, empty.spread("cka")) == ((), None)
    records += [extractor.extract(unit) for unit in prepared.units]
    assert extractor.finish(prepared.take).complete
    assert sum(record.clips for record in records) == 9
    (found,) = moved(old.recipe, str(old.output), first, S3)
    (take,) = found.takes
    assert (take.take_uid, take.clips) == ("u", 9)
    # Grey that gets brighter is seen the same by four frames of a clip as by eight.
    assert take.cka == pytest.approx(1, abs=1e-3)
    assert take.neighbours is None
    kept = json.loads(Path(found.uri or "").read_text())
    assert kept["from"] == first
    assert np.allclose(kept["cka"], found.spread("cka"))
    # The old version is as it was, and what is done is not done again.
    assert old.dataset(first).attrs["status"] == "complete"
    assert old.prepare(STREAMS[1:])[1].units == ()


def test_a_dry_run_says_what_is_to_do(old: Job, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["reprocess", "--output", str(old.output), "--from", "efficientnet_lite", "--dry-run"]
    assert run([*ask, "--encoder", "efficientnet_lite", "--frames", "4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["takes"], facts["streams"], facts["clips_left"]) == (1, 1, facts["clips"])
    assert run([*ask, "--encoder", "efficientnet_lite"]) == 2
    assert "itself: name another --encoder" in capsys.readouterr().err
    assert run([*ask[:3], "--from", "clip", "--dry-run"]) == 2
    assert "no one encoder_id" in capsys.readouterr().err


def test_a_dry_run_says_the_price_by_units_of_the_new_encoder(
    old: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = [
        "reprocess", "--output", str(old.output), "--from", "efficientnet_lite",
        "--encoder", "efficientnet_lite", "--frames", "4", "--worker-price", "0.5", "--dry-run",
    ]  # fmt: skip
    assert run(ask) == 0
    assert "--calibrate 12 adds hours and cost" in capsys.readouterr().out
    asked: list[int] = []

    def measure(chosen: ChosenJob, units: int) -> None:
        asked.append(units)
        found = replace(MEASURED, encoder_ids=chosen.recipe.encoder_ids)
        keep(found, str(old.output), S3)

    monkeypatch.setattr("service.cli.reprocess.calibrate_here", measure)
    assert run([*ask, "--calibrate", "3"]) == 0
    said = capsys.readouterr().out
    assert asked == [3]
    assert "on 2 workers" in said
    assert "cost 0." in said
    assert "--calibrate" not in said


def test_without_a_report_the_data_set_has_to_be_said(old: Job) -> None:
    for report in old.output.glob("*/reports/*"):
        report.unlink()
    with pytest.raises(SettingsError, match="no report"):
        again(str(old.output), "efficientnet_lite", FOUR, S3)
    todo = again(str(old.output), "efficientnet_lite", {**FOUR, "dataset": str(old.root)}, S3)
    assert [names for _, names in todo.chosen.takes] == [STREAMS[1:]]
