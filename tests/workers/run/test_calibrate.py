"""Measured units: real ones, that stay in the stores."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.support.brightness import STREAMS, Job
from workers.dataset.egoexo import read_takes
from workers.media.counters import Counters
from workers.run.calibrate import CalibrationError, calibrate
from workers.run.calibration import Calibration
from workers.run.extract import UnitExtractor
from workers.run.shares import Shares
from workers.run.tasks import Extract, Finish, Prepare


class Here:
    """The work of a pool, done where it is asked for."""

    workers, shares, lost = 1, Shares(1, "cpu", 2, 2), None

    def __init__(self, extractor: UnitExtractor) -> None:
        self.extractor = extractor

    async def load(self, recipe: Any) -> str:
        return ""

    def submit(self, tasks: Any, sink: Any) -> None:
        for task in tasks:
            match task:
                case Prepare():
                    sink(self.extractor.prepare(task.take, task.streams))
                case Extract():
                    sink(self.extractor.extract(task.unit, counters=Counters()))
                case Finish():
                    sink(self.extractor.finish(task.take))


def measure(job: Job, units: int) -> Calibration:
    extractor, _ = job.prepare()
    takes = [(take, STREAMS) for take in read_takes(str(job.root))]
    return asyncio.run(calibrate(Here(extractor), job.recipe, takes, units))


def test_what_was_measured_was_done_and_is_not_done_again(tmp_path: Path) -> None:
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


def test_why_nothing_could_be_measured_is_said(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for name in STREAMS:
        job.path(name).write_bytes(b"no video")
    take = dataclasses.replace(read_takes(str(job.root))[0])
    extractor, prepared = job.prepare(take=take)
    assert prepared.failures
    with pytest.raises(CalibrationError, match="no unit to measure: "):
        asyncio.run(calibrate(Here(extractor), job.recipe, [(take, STREAMS)], 1))
