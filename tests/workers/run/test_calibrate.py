"""Measured units: real ones, that stay in the stores."""

import asyncio
import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.brightness import STREAMS, Job
from tests.support.faulty_job import media_apart
from workers.dataset.egoexo import read_takes
from workers.media.counters import Counters
from workers.run.calibrate import CalibrationError, calibrate
from workers.run.calibration import Calibration, sizes_words
from workers.run.extract import UnitExtractor
from workers.run.shares import Shares
from workers.run.size import WorkerSize
from workers.run.tasks import Extract, Finish, Prepare

SMALL, LARGE = WorkerSize("a", "cpu", 2), WorkerSize("b", "cpu", 8)


class Here:
    """The work of a pool, done where it is asked for."""

    workers, shares, lost = 3, Shares(3, "cpu", 2, 2), None

    def __init__(self, extractor: UnitExtractor, by: tuple[WorkerSize, ...]) -> None:
        self.extractor = extractor
        self.sizes = Counter({SMALL: 2, LARGE: 1})
        self._turns = itertools.cycle(by)

    async def load(self, recipe: Any) -> str:
        return ""

    def submit(self, tasks: Any, sink: Any) -> None:
        for task in tasks:
            match task:
                case Prepare():
                    sink(self.extractor.prepare(task.take, task.streams))
                case Extract():
                    record = self.extractor.extract(task.unit, counters=Counters())
                    sink(dataclasses.replace(record, worker="one", size=next(self._turns)))
                case Finish():
                    sink(self.extractor.finish(task.take))


def measure(job: Job, units: int, *by: WorkerSize) -> Calibration:
    extractor, _ = job.prepare()
    takes = [(take, STREAMS) for take in read_takes(str(job.root))]
    return asyncio.run(calibrate(Here(extractor, by or (SMALL,)), job.recipe, takes, units))


def test_what_was_measured_was_done_and_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_apart(monkeypatch.setattr)
    job = Job(tmp_path)
    found = measure(job, 2)
    assert (found.units, found.takes, found.streams) == (2, 1, 2)
    low, mean, high = found.clips_per_s
    assert mean == pytest.approx(found.clips / found.seconds)
    assert (low, high) == (pytest.approx(mean * 0.75), pytest.approx(mean * 1.25))
    assert found.bytes_read > 1000
    assert found.bytes_written > 0
    assert all(found.stages[name] > 0 for name in ("read", "decode", "convert", "write"))
    assert found.memory_mib > 50
    assert Calibration.of(found.facts()) == found
    assert Calibration.of({"calibration_version": 0}) is None
    # The rest, and the take is complete, as after a job.
    rest = measure(job, 100)
    assert rest.units >= 1
    assert job.dataset().attrs["status"] == "complete"
    assert job.run() == []
    with pytest.raises(CalibrationError, match="in the output already"):
        measure(job, 1)


def test_workers_of_each_size_are_measured_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = measure(
        Job(tmp_path, store={"unit_frames": 16, "dtype": "float32"}), 4, SMALL, SMALL, SMALL, LARGE
    )
    one, other = found.sizes
    assert (one.size, one.workers, one.units) == (SMALL, 2, 3)
    assert (other.size, other.workers, other.units) == (LARGE, 1, 1)
    low, mean, high = other.clips_per_s
    assert (low, high) == (pytest.approx(mean * 0.75), pytest.approx(mean * 1.25))
    assert found.workers == 3
    assert found.clips_per_s[1] == pytest.approx((2 * one.clips_per_s[1] + mean) / 3)
    assert not caplog.text
    measure(Job(tmp_path / "other"), 1, SMALL)
    assert "no unit was done by the workers of 8 threads on b" in caplog.text
    assert Calibration.of(json.loads(json.dumps(found.facts()))) == found
    assert "2 cpu workers of 2 threads on a" in sizes_words(found.sizes)


def test_why_nothing_could_be_measured_is_said(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for name in STREAMS:
        job.path(name).write_bytes(b"no video")
    take = dataclasses.replace(read_takes(str(job.root))[0])
    extractor, prepared = job.prepare(take=take)
    assert prepared.failures
    with pytest.raises(CalibrationError, match="no unit to measure: "):
        asyncio.run(calibrate(Here(extractor, (SMALL,)), job.recipe, [(take, STREAMS)], 1))
