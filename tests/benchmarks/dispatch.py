"""What a unit costs besides its work: real driver, pool and Ray actors, and units of no work.

    python -m tests.benchmarks.dispatch [--takes 5035] [--workers 2 8] [--profile FILE]

Takes of the release's make-up, each with its preparation and its end. A worker answers at once, so
what is left is the job's own: choosing what is next, messages there and back, counting.
"""

import argparse
import asyncio
import cProfile
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray

from configs.load import load_job
from tests.benchmarks.lengths import release_takes
from tests.benchmarks.simulation import prepared_take
from workers.dataset.take import Take
from workers.run import slots
from workers.run.job import run_job
from workers.run.pool import Pool
from workers.run.recipe import Recipe, make_recipe
from workers.run.session import ray_session
from workers.run.size import WorkerSize
from workers.run.tasks import Extract, FinishedTake, Prepare, PreparedTake, Record, Task, UnitRecord
from workers.run.worker import URGENT_LANES

# With these the release's takes are about 10,000 units.
UNIT_FRAMES = 3400


@ray.remote(concurrency_groups={"urgent": URGENT_LANES, "control": 1})  # type: ignore[call-overload]
class Idler:
    """A worker, as `workers.run.worker.Worker` is one to the pool, whose tasks need no work."""

    def __init__(self, device: str, threads: int, gpu_share: float, *, metrics: bool) -> None:
        self._size = WorkerSize("none", device, threads, gpu_share)
        self._work: dict[str, PreparedTake] = {}
        self._units = 0

    @ray.method(concurrency_group="urgent")
    def load(self, recipe: Any) -> str:
        """Nothing to load."""
        return ""

    @ray.method(concurrency_group="control")
    def place(self) -> tuple[str, str, WorkerSize]:
        """Where it is."""
        return ray.get_runtime_context().get_node_id(), "here", self._size

    @ray.method(concurrency_group="control")
    def counts(self) -> dict[str, dict[str, float]]:
        """As many numbers as a worker counts."""
        return self._counts()

    def _counts(self) -> dict[str, dict[str, float]]:
        return {"job": {f"count_{n}": float(self._units + n) for n in range(25)}}

    @ray.method(concurrency_group="control")
    def cancel(self, owner: str) -> None:
        """Nothing runs."""

    def run(self, task: Task) -> tuple[Record, dict[str, dict[str, float]]]:
        """The record of a task that went well, and the counts."""
        return self._record(task), self._counts()

    def _record(self, task: Task) -> Record:
        if isinstance(task, Prepare):
            return prepared_take(task.recipe, task.take)
        if isinstance(task, Extract):
            self._units += 1
            counts = {f"count_{n}": float(n) for n in range(25)}
            return UnitRecord(
                task.take, task.unit.ranges, "done", 0.01, counts=counts,
                worker=f"here {id(self)}", size=self._size, began=time.time(),
            )  # fmt: skip
        return FinishedTake(task.take, complete=True)


@dataclass(frozen=True)
class Overhead:
    """What a run cost.

    Attributes:
        workers: that it had.
        tasks, units: that it did; of the tasks, the units.
        seconds: from the first task to the end, workers being ready.
        driver_seconds: CPU time of the driver's process.
        memory_mib: the most that this process took.
    """

    workers: int
    tasks: int
    units: int
    seconds: float
    driver_seconds: float
    memory_mib: float


def measure(recipe: Recipe, takes: Sequence[Take], workers: int, profile: Path | None) -> Overhead:
    """Run a job of no work on so many workers."""
    asked = [(take, tuple(stream.key for stream in take.streams)) for take in takes]

    async def go() -> Overhead:
        async with Pool(recipe.job.run.model_copy(update={"workers": workers})) as pool:
            if why := await pool.load(recipe):
                raise RuntimeError(why)
            profiler = cProfile.Profile()
            if profile:
                profiler.enable()
            began, busy = time.perf_counter(), time.process_time()
            report = await run_job(pool, recipe, asked)
            took, busy = time.perf_counter() - began, time.process_time() - busy
            if profile:
                profiler.disable()
                profiler.dump_stats(profile)
        assert report.ok, report.failures[:3]
        units = report.progress.units_done
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Overhead(workers, units + 2 * len(takes), units, took, busy, memory)

    return asyncio.run(go())


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--takes", type=int, default=5035, help="at most 5,035")
    asked.add_argument("--workers", type=int, nargs="+", default=[2, 8])
    asked.add_argument("--json", type=Path, help="file for the numbers")
    asked.add_argument("--profile", type=Path, help="file for what cProfile says of the driver")
    options = asked.parse_args()
    takes = release_takes()[: options.takes]
    found = []
    with tempfile.TemporaryDirectory() as scratch, patch.object(slots, "Worker", Idler):
        settings = {
            "dataset": scratch, "output": f"{scratch}/out", "run": {"device": "cpu"},
            "store": {"unit_frames": UNIT_FRAMES},
        }  # fmt: skip
        recipe = make_recipe(load_job(None, settings))
        for workers in options.workers:
            with ray_session(recipe.job.run):
                one = measure(recipe, takes, workers, options.profile)
            found.append(one)
            print(
                f"{workers} workers: {one.units} units, {one.tasks} tasks, {one.seconds:.1f} s;"
                f" {one.seconds / one.units * 1e3:.2f} ms a unit,"
                f" {one.driver_seconds / one.tasks * 1e3:.2f} ms CPU of the driver a task;"
                f" {one.memory_mib:.0f} MiB",
                flush=True,
            )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))


if __name__ == "__main__":
    main()
