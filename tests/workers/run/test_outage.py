"""A job whose storage is gone stops with its name; one whose objects are bad goes on."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_job
from takestream.errors import ErrorKind
from workers.dataset.take import Stream, Take
from workers.run.job import run_job
from workers.run.recipe import Recipe, make_recipe
from workers.run.report import Report
from workers.run.size import WorkerSize
from workers.run.tasks import Failure, Prepare, PreparedTake, Record, Task

TAKES = [
    (Take(f"u{n}", f"t{n}", None, None, None, 1.0, (Stream("a_0", "a", "0", None, False),)),
     ("a_0",))
    for n in range(50)
]  # fmt: skip


class Answering:
    """Instead of the pool: gives what `becomes` says of each task."""

    workers, alive, lost = 1, 1, None
    sizes, left_out = Counter({WorkerSize("a processor", "cpu", 1): 1}), ()

    def __init__(self, becomes: Callable[[Task], Record]) -> None:
        self._becomes = becomes

    def submit(self, tasks: list[Task], sink: Callable[[Record], None]) -> None:
        for task in tasks:
            sink(self._becomes(task))

    def counts(self, owner: str) -> dict[str, float]:
        return {}

    def cancel(self, owner: str) -> None:
        pass


def recipe_of(dataset: str, output: Path) -> Recipe:
    s3 = {"endpoint_url": "http://127.0.0.1:9"}
    settings: dict[str, Any] = {"dataset": dataset, "output": str(output), "s3": s3}
    return make_recipe(load_job(None, settings))


def run(recipe: Recipe, becomes: Callable[[Task], Record]) -> Report:
    pool: Any = Answering(becomes)
    return asyncio.run(run_job(pool, recipe, TAKES, interval=0.01))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")


def lost(task: Task, uri: str) -> PreparedTake:
    assert isinstance(task, Prepare)
    failure = Failure(task.take.name, None, "no answer", ErrorKind.UNAVAILABLE, uri)
    return PreparedTake(task.take, (), (), failures=(failure,))


def test_a_storage_that_is_gone_stops_the_job_and_is_named(tmp_path: Path, keys: None) -> None:
    began = time.monotonic()
    report = run(recipe_of("s3://gone/data", tmp_path), lambda task: lost(task, "s3://gone/x.mp4"))
    assert time.monotonic() - began < 30
    assert not report.ok
    assert report.failures[-1].kind is ErrorKind.OUTAGE
    assert report.failures[-1].reason.startswith("s3://gone does not answer")
    assert "same command" in report.failures[-1].reason
    assert len(report.failures) < 10


def test_objects_that_cannot_be_had_do_not_stop_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "takes.json").write_text("[]")
    report = run(recipe_of(str(data), tmp_path / "out"), lambda task: lost(task, f"{data}/x.mp4"))
    assert len(report.failures) == len(TAKES)
    assert {failure.kind for failure in report.failures} == {ErrorKind.UNAVAILABLE}


def test_only_tasks_in_a_row_count(tmp_path: Path, keys: None) -> None:
    def every_second(task: Task) -> Record:
        if int(task.take.name[1:]) % 2:
            return PreparedTake(task.take, ("store",), ())
        return lost(task, "s3://gone/x.mp4")

    report = run(recipe_of("s3://gone/data", tmp_path), every_second)
    assert {failure.kind for failure in report.failures} == {ErrorKind.UNAVAILABLE}
    assert len(report.failures) == len(TAKES) / 2
