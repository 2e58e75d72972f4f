"""The Ray side: queues that feed a pool of workers, and outlive their deaths.

Machines that come get workers (`workers.run.slots`), once they have proved to be fit.
A worker has one batch task in flight, and urgent ones in front of it. A worker that dies, or makes
no progress for too long, is replaced; its tasks are tried again, at last stream by stream, so that
the stream that kills the decoder is found and left out while the others are written.
"""

import asyncio
import contextvars
import itertools
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self, TypeVar

import ray
from ray.exceptions import ActorDiedError, RayError

from configs.run import RunSpec
from workers.run.calls import (
    POLL_SECONDS,
    PoolMetrics,
    Sink,
    Tally,
    counted_as,
    gave_up,
    pause,
    record_of,
    result,
    tell_cancelled,
)
from workers.run.fair import FairQueue, Queued
from workers.run.health import Health
from workers.run.neighbours import Neighbours
from workers.run.proofs import Proofs
from workers.run.recipe import Recipe
from workers.run.session import node_lost
from workers.run.shares import Shares, any_gone, nodes_alive
from workers.run.size import WorkerSize
from workers.run.slots import ALL, Counts, Slot, Slots
from workers.run.tasks import Query, Record, Task
from workers.run.worker import URGENT_LANES, crash_failure, pool_failure

log = logging.getLogger(__name__)

URGENT_PRIORITY, PARTING_SECONDS = 1, 3.0
T = TypeVar("T")


class Pool:
    """Workers on the Ray cluster, for whoever lives in the same event loop: a job, or a service.

    Use as an async context manager, within a `ray_session`; leaving it stops all work.
    """

    def __init__(self, run: RunSpec) -> None:
        self.run = run
        self._slots = Slots(run, nodes_alive())
        self._proofs = Proofs(run)
        self._batch = FairQueue()
        self._urgent: asyncio.PriorityQueue[Queued] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._before = Tally()
        self._cancelled: set[str] = set()
        self._open: Counter[str] = Counter()
        self._loops: list[asyncio.Task[None]] = []
        self._calls: set[asyncio.Task[Any]] = set()
        self._health = Health(run)
        self._neighbours = Neighbours()
        self._metrics = PoolMetrics(run)

    async def __aenter__(self) -> Self:
        self._context = contextvars.copy_context()
        for slot in self._slots:
            self._open_up(slot)
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
        if not self._health.gone:
            await asyncio.to_thread(self._neighbours.leave)
        # Without its head Ray would wait for an answer, and the workers are gone anyway.
        self._slots.end(kill=not self._health.gone)

    @property
    def shares(self) -> Shares:
        """What a worker gets of a machine that is yet to come."""
        return self._slots.shares

    @property
    def sizes(self) -> Counter[WorkerSize]:
        """How many workers of which size are hired and not lost since."""
        return Counter(slot.size for slot in self._slots if slot.worker is not None)

    @property
    def left_out(self) -> list[str]:
        """Machines that are not used, each with the reason."""
        return sorted(self._slots.left_out.values())

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
        return self._health.lost or self._slots.lost

    async def load(self, recipe: Recipe) -> str:
        """Have every worker load the recipe's encoder; empty, or why one cannot.

        Raises RayError when a worker dies of it.
        """
        found = await asyncio.gather(*(self._call(self._load(s, recipe)) for s in self._slots))
        return next((why for why in found if why), "")

    async def query(self, recipe: Recipe, text: str | None, image: bytes | None) -> Query:
        """A text or a picture as a vector. Raises RayError when the worker dies of it."""
        slot = next(iter(self._slots))

        async def ask() -> Query:
            worker = await self._slots.hired(slot)
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
            self._put(Queued(URGENT_PRIORITY if urgent else task.priority, 0, task, sink, urgent))

    def cancel(self, owner: str) -> None:
        """Drop what is queued for `owner`; what runs ends at its next batch, as `stopped`.

        Its sinks hear nothing more of what was only queued.
        """
        if not self._open[owner]:
            return
        self._cancelled.add(owner)
        for slot in self._slots:
            if slot.worker is not None:
                self._call(tell_cancelled(slot.worker, owner))

    def counts(self, owner: str | None = None) -> Counts:
        """Work done so far, by dead workers too: for one owner, or for all."""
        return self._before.total((slot.counts for slot in self._slots), owner)

    def _call(self, call: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Make a call to a worker as the pool's own, whoever asks for it.

        When a client hangs up, Serve has Ray cancel all calls made on its behalf, by asyncio
        context; and an actor waits for ever for a call that was cancelled on its way.
        """
        task = asyncio.get_running_loop().create_task(call, context=self._context)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    def _put(self, queued: Queued) -> None:
        if queued.urgent:
            self._urgent.put_nowait(replace(queued, number=next(self._numbers)))
        else:
            self._batch.put_nowait(queued)

    def _open_up(self, slot: Slot) -> None:
        self._loops.append(asyncio.create_task(self._serve(slot, self._batch)))
        for _ in range(URGENT_LANES):
            self._loops.append(asyncio.create_task(self._serve(slot, self._urgent)))

    async def _serve(self, slot: Slot, queue: "FairQueue | asyncio.PriorityQueue[Queued]") -> None:
        while not slot.withdrawn:
            if self.run.address and not await self._has_come(slot):
                continue  # what is queued is for those that are there
            queued = await queue.get()
            began = time.monotonic()
            slot.running += 1
            try:
                await self._take(slot, queued)
            finally:
                slot.running -= 1
                if not queued.urgent:
                    self._batch.ended(queued, time.monotonic() - began)

    async def _take(self, slot: Slot, queued: Queued) -> None:
        """Do a task with the worker of a slot, or put it back."""
        owner = queued.task.owner
        if slot.withdrawn or (self.run.address and slot.worker is None):
            self._put(queued)  # another lane has lost it meanwhile
            return
        if owner in self._cancelled:
            self._close(owner)
            return
        if queued.urgent and (why := self.lost):
            self._tell(queued, queued.task.failed(pool_failure(queued.task, why)))
            return
        try:
            worker = await self._ready(slot, queued.task)
            if worker is None:
                self._put(queued)
                return
        except (RayError, TimeoutError) as error:
            # It had begun nothing, so this is not the task's doing.
            await self._start_failed(error, [slot.node])
            self._put(queued)
            return
        try:
            if owner in self._cancelled:  # while the worker started
                self._close(owner)
                return
            record = await self._watched(slot, worker, queued)
        except (RayError, TimeoutError) as error:
            node = slot.node
            self._retire(slot, worker, owner)
            await self._retry(queued, error, node)
        else:
            if gave_up(record) and owner not in self._cancelled:
                self._put(queued)  # the machine was taken back, nobody stopped it
                return
            self._tell(queued, record)

    async def _has_come(self, slot: Slot) -> bool:
        there = self._slots.machines
        try:
            await self._slots.hired(slot)
        except (RayError, TimeoutError) as error:
            if not (slot.recalled or slot.withdrawn):
                await self._start_failed(error, there)
            return False
        return True

    async def _start_failed(self, error: Exception, machines: Sequence[str]) -> None:
        """A worker did not come up: it may have waited on a machine that died meanwhile."""
        if not self.run.address or not await any_gone(machines):
            self._health.start_failed(error)
        await asyncio.sleep(POLL_SECONDS)

    async def _load(self, slot: Slot, recipe: Recipe) -> str:
        worker = await self._slots.hired(slot)
        try:
            return str(await worker.load.remote(recipe))
        except RayError:
            self._retire(slot, worker, "")
            raise

    async def _ready(self, slot: Slot, task: Task) -> Any:
        """The slot's worker, the recipe's encoder loaded; None where its machine cannot be used.

        Raises RayError, TimeoutError.
        """
        worker, recipe = await self._slots.hired(slot), task.recipe
        if recipe.key not in slot.loaded:
            try:
                # What is wrong with an encoder that loads nowhere, the task's record says.
                why = await self._soon(result(worker.load.remote(recipe)))
                why = await self._soon(self._proofs.why_not(slot, worker, task, why))
            except (RayError, TimeoutError):
                self._retire(slot, worker, "")
                raise
            if why:
                self._slots.leave_out(slot, why)
                self._retire(slot, worker, "", lost=False)
                return None
            if slot.worker is worker:
                slot.loaded.add(recipe.key)
        self._health.started()
        return worker

    async def _soon(self, call: Coroutine[Any, Any, T]) -> T:
        """What comes of a call. Raises TimeoutError where it takes as long as a stall."""
        return await asyncio.wait_for(asyncio.shield(self._call(call)), self.run.stall_seconds)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            hiring = any(slot.hiring.locked() for slot in self._slots)
            await asyncio.to_thread(self._health.look, self.alive, hiring)
            if self._health.gone:
                continue
            nodes, part = await asyncio.to_thread(nodes_alive), ALL
            if self.run.address:
                standing = self._batch.weight, self._slots.settled
                part = await asyncio.to_thread(self._neighbours.look, *standing)
            for slot in self._slots.follow(nodes, sum(self._open.values()), part):
                self._open_up(slot)
            for slot, owner in itertools.product(self._slots.hurried(), self._open):
                self._call(tell_cancelled(slot.worker, owner))
            for slot in self._slots.left():
                self._retire(slot, slot.worker, "", lost=False)
            self._loops = [loop for loop in self._loops if not loop.done()]
            self._metrics.show(self._slots, self._open, self.waiting, self._before)

    async def _watched(self, slot: Slot, worker: Any, queued: Queued) -> Record:
        """The record of a task. Raises TimeoutError when its worker makes no progress."""
        running = asyncio.ensure_future(
            record_of(worker, queued.task, queued.sink, urgent=queued.urgent)
        )
        clock = asyncio.get_running_loop().time
        owner = counted_as(queued.task.owner)
        moved, seen = clock(), None
        try:
            while True:
                done, _ = await asyncio.wait({running}, timeout=pause(self.run, len(self._slots)))
                if done:
                    record, counts = running.result()
                    if slot.worker is worker:
                        slot.counts = counts
                    return record
                await self._poll(slot, worker)
                if slot.counts.get(owner) != seen:
                    moved, seen = clock(), slot.counts.get(owner)
                elif clock() - moved > self.run.stall_seconds:
                    raise TimeoutError(f"no progress for {clock() - moved:.0f} s")
        finally:
            running.cancel()

    async def _poll(self, slot: Slot, worker: Any) -> None:
        # A dead worker shows in its task; a busy one answers next time.
        with suppress(RayError, TimeoutError):
            counts = await asyncio.wait_for(result(worker.counts.remote()), 5)
            if slot.worker is worker:
                slot.counts = counts

    def _retire(self, slot: Slot, worker: Any, owner: str, *, lost: bool = True) -> None:
        if worker is None or slot.worker is not worker:
            return  # never hired, or its other lane has seen to it
        with suppress(RayError):
            ray.kill(worker, no_restart=True)
        self._before.add(slot.counts)
        self._before.add({counted_as(owner): {"workers_lost": float(lost)}})
        slot.worker, slot.counts, slot.loaded = None, {}, set()

    async def _retry(self, queued: Queued, error: Exception, node: str) -> None:
        if (isinstance(error, ActorDiedError) and error.preempted) or node_lost(ask=False):
            self._put(queued)
            return
        if self.run.address and isinstance(error, RayError) and await any_gone([node]):
            log.warning("a machine of the cluster is gone; %s is done elsewhere", queued.task.name)
            self._put(queued)
            return
        task, deaths = queued.task, queued.deaths + 1
        how, apart = self._health.how(error), task.by_stream()
        log.warning("a worker died on %s (%s)", task.name, how)
        if deaths < self.run.attempts:
            self._put(replace(queued, deaths=deaths))
        elif apart:
            self._open[task.owner] += len(apart) - 1
            for alone in apart:
                self._put(replace(queued, task=alone, deaths=self.run.attempts - 1))
        else:
            self._before.add({counted_as(task.owner): {"units_quarantined": 1.0}})
            self._tell(queued, task.failed(crash_failure(task, deaths, how)))

    def _tell(self, queued: Queued, record: Record) -> None:
        self._close(queued.task.owner)
        self._metrics.failed(record)
        queued.sink(record)

    def _close(self, owner: str) -> None:
        self._open[owner] -= 1
        if not self._open[owner]:
            # Owners come and go for as long as a service runs.
            del self._open[owner]
            self._batch.forget(owner)
            self._cancelled.discard(owner)
