"""The Ray side: a priority queue that feeds a pool of workers, and outlives their deaths.

One task is in flight per worker. A worker that dies, or makes no progress for too long, is
replaced; its unit is tried again, at last stream by stream, so that the stream that kills the
decoder is found and left out while the others are written.
"""

import asyncio
import itertools
import logging
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayError

from workers.recipe import Recipe
from workers.worker import Record, Task, Worker, failed_by_crash

log = logging.getLogger(__name__)

# Lower runs first. On-demand work goes in front of a batch; units go in front of new takes, so that
# a take is finished before the next one is begun.
ON_DEMAND, FINISH, UNIT, PREPARE = 0, 1, 2, 3
PRIORITY = {"prepare": PREPARE, "extract": UNIT, "finish": FINISH}
POLL_SECONDS = 1.0


@dataclass(order=True)
class _Queued:
    priority: int
    number: int
    task: Task = field(compare=False)
    deaths: int = field(default=0, compare=False)


@dataclass
class _Slot:
    """One place for a worker, and what the workers that held it have done."""

    worker: Any = None
    counts: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)


@ray.remote(num_cpus=0)
class Dispatcher:
    """Feeds tasks to workers; records come out of `records`. Lives as long as its driver."""

    def __init__(
        self, recipe: Recipe, workers: int, options: dict[str, Any], device: str, threads: int
    ) -> None:
        self._recipe = recipe
        self._options = options
        self._device, self._threads = device, threads
        self._queue: asyncio.PriorityQueue[_Queued] = asyncio.PriorityQueue()
        self._records: asyncio.Queue[Record] = asyncio.Queue()
        self._numbers = itertools.count()
        self._slots = [_Slot() for _ in range(workers)]
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to run tasks."""
        self._loops = [asyncio.create_task(self._serve(slot)) for slot in self._slots]

    async def submit(self, tasks: list[Task]) -> None:
        """Queue tasks by their priority; equals keep their order."""
        for task in tasks:
            self._put(_Queued(PRIORITY[task.kind], 0, task))

    async def records(self, timeout: float) -> list[Record]:
        """All records since the last call; waits up to `timeout` seconds for the first."""
        try:
            found = [await asyncio.wait_for(self._records.get(), timeout)]
        except TimeoutError:
            return []
        while not self._records.empty():
            found.append(self._records.get_nowait())
        return found

    async def counts(self) -> dict[str, float]:
        """Work done so far by all workers, dead ones included."""
        total: dict[str, float] = {}
        for slot in self._slots:
            for part in (slot.before, slot.counts):
                for name, value in part.items():
                    total[name] = total.get(name, 0) + value
        return total

    async def stop(self) -> None:
        """Run nothing more; units under way give back at their next batch."""
        for loop in self._loops:
            loop.cancel()
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.stop.remote()

    def _put(self, queued: _Queued) -> None:
        self._queue.put_nowait(replace(queued, number=next(self._numbers)))

    async def _serve(self, slot: _Slot) -> None:
        while True:
            queued = await self._queue.get()
            try:
                if slot.worker is None:
                    await self._hire(slot)
                record = await self._watched(slot, queued.task)
            except (RayError, TimeoutError) as error:
                self._retire(slot)
                self._retry(queued, error)
            else:
                self._records.put_nowait(record)

    async def _hire(self, slot: _Slot) -> None:
        slot.worker = Worker.options(**self._options).remote(  # type: ignore[attr-defined]
            self._recipe, self._device, self._threads
        )
        # Loading weights may take long and is no stall.
        await _result(slot.worker.counts.remote())

    async def _watched(self, slot: _Slot, task: Task) -> Record:
        """The record of `task`. Raises TimeoutError when its worker makes no progress."""
        reference = slot.worker.run.remote(task)
        waiting: asyncio.Future[Record] = asyncio.ensure_future(_result(reference))
        clock = asyncio.get_running_loop().time
        moved, seen = clock(), None
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=POLL_SECONDS)
                counts = await self._poll(slot)
                if done:
                    return waiting.result()
                if counts != seen:
                    moved, seen = clock(), counts
                elif clock() - moved > self._recipe.job.run.stall_seconds:
                    raise TimeoutError(f"no progress for {clock() - moved:.0f} s")
        finally:
            waiting.cancel()

    async def _poll(self, slot: _Slot) -> dict[str, float]:
        # A dead worker shows in its task; a busy one answers next time.
        with suppress(RayError, TimeoutError):
            slot.counts = await asyncio.wait_for(_result(slot.worker.counts.remote()), 5)
        return slot.counts

    def _retire(self, slot: _Slot) -> None:
        ray.kill(slot.worker, no_restart=True)
        for name, value in slot.counts.items():
            slot.before[name] = slot.before.get(name, 0) + value
        slot.before["workers_lost"] = slot.before.get("workers_lost", 0) + 1
        slot.worker, slot.counts = None, {}

    def _retry(self, queued: _Queued, error: Exception) -> None:
        if isinstance(error, ActorDiedError) and error.preempted:
            self._put(queued)
            return
        deaths = queued.deaths + 1
        task, attempts = queued.task, self._recipe.job.run.attempts
        unit = task.unit
        how = _how(error)
        log.warning("a worker died on %s (%s)", unit.name if unit else task.take.name, how)
        if deaths < attempts:
            self._put(replace(queued, deaths=deaths))
        elif unit is not None and len(unit.streams) > 1:
            for name in unit.streams:
                alone = replace(task, unit=replace(unit, streams=(name,)))
                self._put(replace(queued, task=alone, deaths=attempts - 1))
        else:
            self._records.put_nowait(failed_by_crash(task, deaths, how))


async def _result(reference: Any) -> Any:
    return await reference


def _how(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error)
    if isinstance(error, OutOfMemoryError):
        return "it ran out of memory"
    return "its process died"
