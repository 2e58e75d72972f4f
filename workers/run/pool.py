"""The Ray side: queues that feed a pool of workers, and outlive their deaths.

A worker has one batch task in flight, and urgent ones in front of it. A worker that dies, or makes
no progress for too long, is replaced; its tasks are tried again, at last stream by stream, so that
the stream that kills the decoder is found and left out while the others are written.
"""

import asyncio
import contextvars
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import ray
from ray.exceptions import ActorDiedError, RayError

from configs.schema import RunSpec
from workers.run.health import Health
from workers.run.recipe import Recipe
from workers.run.session import node_lost
from workers.run.shares import shares_of
from workers.run.tasks import Query, Record, Task, UnitRecord, Window
from workers.run.worker import (
    EARLIER,
    KEPT_OWNERS,
    URGENT_LANES,
    Worker,
    crash_failure,
    pool_failure,
)

log = logging.getLogger(__name__)

URGENT_PRIORITY = 1
POLL_SECONDS = 1.0
PARTING_SECONDS = 3.0

# What a task gives: its record, and before it the parts of a window.
Sink = Callable[[Any], None]
Counts = dict[str, float]
T = TypeVar("T")


@dataclass(order=True)
class _Queued:
    priority: int
    number: int
    task: Task = field(compare=False)
    sink: Sink = field(compare=False)
    urgent: bool = field(compare=False)
    deaths: int = field(default=0, compare=False)


@dataclass
class _Slot:
    """One place for a worker, and what its worker has done for each owner."""

    worker: Any = None
    running: int = 0
    hiring: asyncio.Lock = field(default_factory=asyncio.Lock)
    counts: dict[str, Counts] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)


class Pool:
    """Workers on the Ray cluster, for whoever lives in the same event loop: a job, or a service.

    Use as an async context manager, within a `ray_session`; leaving it stops all work.
    """

    def __init__(self, run: RunSpec) -> None:
        self.run = run
        self.shares = shares_of(run)
        self._slots = [_Slot() for _ in range(self.shares.workers)]
        self._batch: asyncio.PriorityQueue[_Queued] = asyncio.PriorityQueue()
        self._urgent: asyncio.PriorityQueue[_Queued] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._before: dict[str, Counts] = {}
        self._cancelled: set[str] = set()
        self._open: Counter[str] = Counter()
        self._loops: list[asyncio.Task[None]] = []
        self._calls: set[asyncio.Task[Any]] = set()
        self._health = Health(run)

    async def __aenter__(self) -> Self:
        self._context = contextvars.copy_context()
        for slot in self._slots:
            queues = [self._batch, *[self._urgent] * URGENT_LANES]
            self._loops += [asyncio.create_task(self._serve(slot, queue)) for queue in queues]
        self._loops.append(asyncio.create_task(self._watch()))
        return self

    async def __aexit__(self, *error: object) -> None:
        for owner in list(self._open):
            self.cancel(owner)
        # What runs gets the time of a batch or two to end cleanly.
        with suppress(TimeoutError):
            async with asyncio.timeout(PARTING_SECONDS):
                while any(slot.running for slot in self._slots):
                    await asyncio.sleep(0.05)
        for loop in self._loops:
            loop.cancel()
        for slot in self._slots:
            # Without its head Ray would wait for an answer, and the workers are gone anyway.
            if slot.worker is not None and not self._health.gone:
                with suppress(RayError):
                    ray.kill(slot.worker, no_restart=True)
            slot.worker = None

    @property
    def workers(self) -> int:
        """How many workers there are when all are alive."""
        return len(self._slots)

    @property
    def waiting(self) -> int:
        """Urgent tasks that no worker has taken yet."""
        return self._urgent.qsize()

    @property
    def alive(self) -> int:
        """Workers hired and not lost since."""
        return sum(slot.worker is not None for slot in self._slots)

    @property
    def lost(self) -> str | None:
        """Why no work can be done any more, in words; None as long as it can."""
        return self._health.lost

    async def load(self, recipe: Recipe) -> str:
        """Have every worker load the recipe's encoder; empty, or why one cannot.

        Raises RayError when a worker dies of it.
        """
        calls = [self._call(self._load(slot, recipe)) for slot in self._slots]
        found = await asyncio.gather(*calls)
        return next((why for why in found if why), "")

    async def query(self, recipe: Recipe, text: str | None, image: bytes | None) -> Query:
        """A text or a picture as a vector. Raises RayError when the worker dies of it."""
        slot = self._slots[0]

        async def ask() -> Query:
            worker = await self._hired(slot)
            try:
                found: Query = await worker.query.remote(recipe, text, image)
            except RayError:
                self._retire(slot, worker, "")
                raise
            return found

        return await asyncio.shield(self._call(ask()))

    def submit(self, tasks: Sequence[Task], sink: Sink, *, urgent: bool = False) -> None:
        """Queue tasks; `sink` gets what comes of them, in the event loop.

        Every task ends in one record, or in one per stream when it had to be taken apart. A window
        that lost its worker begins again, so its parts may come twice.
        """
        if not self._open:
            self._health.renew()
        for task in tasks:
            self._open[task.owner] += 1
            priority = URGENT_PRIORITY if urgent else task.priority
            self._put(_Queued(priority, 0, task, sink, urgent))

    def cancel(self, owner: str) -> None:
        """Drop what is queued for `owner`; what runs ends at its next batch, as `stopped`.

        Its sinks hear nothing more of what was only queued.
        """
        if not self._open[owner]:
            return
        self._cancelled.add(owner)
        for slot in self._slots:
            if slot.worker is not None:
                self._call(_tell_cancelled(slot.worker, owner))

    def counts(self, owner: str | None = None) -> Counts:
        """Work done so far, by dead workers too: for one owner, or for all."""
        total: Counts = {}
        for part in (self._before, *(slot.counts for slot in self._slots)):
            for name, counts in part.items():
                if owner in (None, name):
                    _add(total, counts)
        return total

    def _call(self, call: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Make a call to a worker as the pool's own, whoever asks for it.

        When a client hangs up, Serve has Ray cancel its call and all calls made on its behalf, by
        asyncio context. Ray never delivers a call that was cancelled on its way, and an actor
        waits for it before it takes any later one: the worker would be deaf from then on.
        """
        task = asyncio.get_running_loop().create_task(call, context=self._context)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    def _put(self, queued: _Queued) -> None:
        queue = self._urgent if queued.urgent else self._batch
        queue.put_nowait(replace(queued, number=next(self._numbers)))

    async def _serve(self, slot: _Slot, queue: "asyncio.PriorityQueue[_Queued]") -> None:
        while True:
            queued = await queue.get()
            owner = queued.task.owner
            if owner in self._cancelled:
                self._close(owner)
                continue
            if queued.urgent and (why := self.lost):
                self._tell(queued, queued.task.failed(pool_failure(queued.task, why)))
                continue
            try:
                worker = await self._ready(slot, queued.task.recipe)
            except (RayError, TimeoutError) as error:
                # It had begun nothing, so this is not the task's doing.
                self._health.start_failed(error)
                self._put(queued)
                await asyncio.sleep(POLL_SECONDS)
                continue
            try:
                if owner in self._cancelled:  # while the worker started
                    self._close(owner)
                    continue
                slot.running += 1
                try:
                    record = await self._watched(slot, worker, queued)
                finally:
                    slot.running -= 1
            except (RayError, TimeoutError) as error:
                self._retire(slot, worker, owner)
                self._retry(queued, error)
            else:
                if _gave_up(record) and owner not in self._cancelled:
                    self._put(queued)  # nobody asked for that
                    continue
                self._tell(queued, record)
                if queued.urgent:  # nobody waits for its counts
                    await self._poll(slot, worker)

    async def _load(self, slot: _Slot, recipe: Recipe) -> str:
        worker = await self._hired(slot)
        try:
            return str(await worker.load.remote(recipe))
        except RayError:
            self._retire(slot, worker, "")
            raise

    async def _ready(self, slot: _Slot, recipe: Recipe) -> Any:
        """The slot's worker, the recipe's encoder loaded. Raises RayError, TimeoutError."""
        worker = await self._hired(slot)
        if recipe.key not in slot.loaded:
            try:
                loading = self._call(_result(worker.load.remote(recipe)))
                # What it says of an encoder that does not load, the task's record says too.
                await asyncio.wait_for(asyncio.shield(loading), self.run.stall_seconds)
            except (RayError, TimeoutError):
                self._retire(slot, worker, "")
                raise
            if slot.worker is worker:
                slot.loaded.add(recipe.key)
        self._health.started()
        return worker

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            hiring = any(slot.hiring.locked() for slot in self._slots)
            await asyncio.to_thread(self._health.look, self.alive, hiring)

    async def _hired(self, slot: _Slot) -> Any:
        async with slot.hiring:
            if slot.worker is None:
                worker = Worker.options(**self.shares.options).remote(  # type: ignore[attr-defined]
                    self.shares.device, self.shares.threads
                )
                try:
                    # Starting may take long and is no stall.
                    await worker.counts.remote()
                except BaseException:
                    ray.kill(worker, no_restart=True)
                    raise
                slot.worker = worker
            return slot.worker

    async def _watched(self, slot: _Slot, worker: Any, queued: _Queued) -> Record:
        """The record of a task. Raises TimeoutError when its worker makes no progress."""
        running = asyncio.ensure_future(_record(worker, queued))
        clock = asyncio.get_running_loop().time
        owner = _counted_as(queued.task.owner)
        moved, seen = clock(), None
        try:
            while True:
                done, _ = await asyncio.wait({running}, timeout=POLL_SECONDS)
                if not done or not queued.urgent:
                    await self._poll(slot, worker)
                if done:
                    return running.result()
                if slot.counts.get(owner) != seen:
                    moved, seen = clock(), slot.counts.get(owner)
                elif clock() - moved > self.run.stall_seconds:
                    raise TimeoutError(f"no progress for {clock() - moved:.0f} s")
        finally:
            running.cancel()

    async def _poll(self, slot: _Slot, worker: Any) -> None:
        # A dead worker shows in its task; a busy one answers next time.
        with suppress(RayError, TimeoutError):
            counts = await asyncio.wait_for(_result(worker.counts.remote()), 5)
            if slot.worker is worker:
                slot.counts = counts

    def _retire(self, slot: _Slot, worker: Any, owner: str) -> None:
        if worker is None or slot.worker is not worker:
            return  # never hired, or its other lane has seen to it
        with suppress(RayError):
            ray.kill(worker, no_restart=True)
        for name, counts in (*slot.counts.items(), (_counted_as(owner), {"workers_lost": 1.0})):
            _fold_in(self._before, name, counts)
        slot.worker, slot.counts, slot.loaded = None, {}, set()

    def _retry(self, queued: _Queued, error: Exception) -> None:
        if (isinstance(error, ActorDiedError) and error.preempted) or node_lost(ask=False):
            self._put(queued)
            return
        deaths = queued.deaths + 1
        task, how = queued.task, self._health.how(error)
        apart = task.by_stream()
        log.warning("a worker died on %s (%s)", task.name, how)
        if deaths < self.run.attempts:
            self._put(replace(queued, deaths=deaths))
        elif apart:
            self._open[task.owner] += len(apart) - 1
            for alone in apart:
                self._put(replace(queued, task=alone, deaths=self.run.attempts - 1))
        else:
            self._tell(queued, task.failed(crash_failure(task, deaths, how)))

    def _tell(self, queued: _Queued, record: Record) -> None:
        self._close(queued.task.owner)
        queued.sink(record)

    def _close(self, owner: str) -> None:
        self._open[owner] -= 1
        if not self._open[owner]:
            # Owners come and go for as long as a service runs.
            del self._open[owner]
            self._cancelled.discard(owner)


async def _tell_cancelled(worker: Any, owner: str) -> None:
    with suppress(RayError):
        await worker.cancel.remote(owner)


def _gave_up(record: Record) -> bool:
    return isinstance(record, UnitRecord) and record.outcome == "stopped"


async def _record(worker: Any, queued: _Queued) -> Record:
    if not isinstance(queued.task, Window):
        method = worker.run_urgent if queued.urgent else worker.run
        record: Record = await method.remote(queued.task)
        return record
    async for reference in worker.window.remote(queued.task):
        item = await reference
        if isinstance(item, UnitRecord):
            return item
        queued.sink(item)
    raise RuntimeError(f"{queued.task.name}: ended without a record")


def _add(total: Counts, counts: Counts) -> None:
    for name, value in counts.items():
        total[name] = total.get(name, 0) + value


def _fold_in(apart: dict[str, Counts], name: str, counts: Counts) -> None:
    """Add to the counts of `name`; owners that were not added to for long become one sum."""
    apart[name] = apart.pop(name, {})
    _add(apart[name], counts)
    while len(apart) > KEPT_OWNERS + 1:
        oldest = next(name for name in apart if name != EARLIER)
        _add(apart.setdefault(EARLIER, {}), apart.pop(oldest))


async def _result(reference: Any) -> Any:
    return await reference


def _counted_as(owner: str) -> str:
    return owner.partition("/")[0]
