"""Jobs of a service whose work is only pretended."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from configs.load import parse
from configs.schema import ServeSpec
from service.jobs.claim import has_ended, pid_namespace, start_of
from service.jobs.manager import Jobs
from service.jobs.records import JobRecord, Records, new_job_id, now
from workers.run.report import Progress, Report


class FakePool:
    """Stands in for the workers."""

    workers = alive = 1
    waiting = 0

    def __init__(self, run: object = None) -> None:
        self.cancelled: list[str] = []

    async def __aenter__(self) -> "FakePool":
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def load(self, recipe: object) -> str:
        return ""

    def submit(self, tasks: Any, sink: Any, *, urgent: bool = False) -> None:
        pass

    def cancel(self, owner: str) -> None:
        self.cancelled.append(owner)


class Work:
    """What jobs do instead of extracting: wait for `go`. runs: the owners they ran under."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.go = asyncio.Event()
        self.progress = Progress(1, clips_done=3)
        self.error: Exception | None = None

    async def __call__(self, pool: Any, recipe: Any, takes: Any, news: Any, **more: Any) -> Report:
        self.runs.append(more["owner"])
        news(self.progress, [])
        await self.go.wait()
        if self.error:
            raise self.error
        return Report(self.progress)


def spec_of(root: Path, **more: Any) -> ServeSpec:
    places = {"dataset": str(root / "data"), "output": str(root / "out")}
    return parse(ServeSpec, {"job": places, **more}, "test")


def jobs_of(spec: ServeSpec, records: Records | None = None) -> Jobs:
    return Jobs(spec, FakePool(), records or records_of(spec))


def records_of(spec: ServeSpec) -> Records:
    return Records(spec.job.output)


def left_behind(serve: ServeSpec, **changes: Any) -> JobRecord:
    """A record as a service that is gone left it."""
    facts = {
        "job_id": new_job_id(), "kind": "service", "status": "running", "submitted_at": now(),
        "spec": serve.job.model_dump(mode="json"),
    }  # fmt: skip
    record = JobRecord.model_validate({**facts, **changes})
    records_of(serve).save(record)
    return record


async def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def other_owner() -> str:
    """An owner that lives on another machine, as far as anybody can tell."""
    return "far~boot~pid:[1]/7/1/abc"


def gone_owner() -> str:
    """An owner whose process has ended on this machine."""
    process = subprocess.Popen(["sleep", "60"])
    mine = pid_namespace()
    owner = f"{mine}/{process.pid}/{start_of(process.pid)}/abc"
    assert not has_ended(owner)
    process.kill()
    deadline = time.monotonic() + 5
    while not has_ended(owner):  # a zombie has ended too
        assert time.monotonic() < deadline
    process.wait()
    assert has_ended(owner)
    return owner
