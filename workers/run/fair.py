"""The queue of a pool's batch tasks, from which each job gets its part of the workers."""

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field

from workers.run.calls import Sink
from workers.run.tasks import Task

# What a task is taken to last before any of its owner has ended.
FIRST_SECONDS = 5.0
# How much the latest task tells of the next.
_NEW = 0.2


@dataclass(order=True)
class Queued:
    """A task that waits, or is tried again.

    Attributes:
        priority: the least goes first, of those of one owner.
        number: in the order in which tasks came; 0 before it is added.
        task: to be done.
        sink: gets what comes of it.
        urgent: whether it goes in front of all batch tasks.
        deaths: workers that it took down.
    """

    priority: int
    number: int
    task: Task = field(compare=False)
    sink: Sink = field(compare=False)
    urgent: bool = field(compare=False)
    deaths: int = field(default=0, compare=False)


@dataclass
class _Owner:
    weight: float
    waiting: list[Queued] = field(default_factory=list)
    # Seconds of workers that it has had, by its weight; and what a task of it lasts.
    served: float = 0.0
    usual: float = FIRST_SECONDS
    under_way: int = 0


class FairOrder:
    """Start-time fair queuing: the next task is of the owner that had least for its weight.

    An owner is charged what its tasks usually last when one is taken, and the difference when it
    is done. One that comes, or comes back, starts level with the others: nobody saves up.
    Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996.
    """

    def __init__(self) -> None:
        self._owners: dict[str, _Owner] = {}
        self._numbers = itertools.count(1)

    def add(self, item: Queued) -> None:
        """Add a task; one that is put back has the place that it had."""
        name = item.task.owner
        if name not in self._owners:
            level = min((o.served for o in self._owners.values()), default=0.0)
            self._owners[name] = _Owner(item.task.recipe.job.weight, served=level)
        elif not (owner := self._owners[name]).waiting and not owner.under_way:
            owner.served = max(owner.served, self._level(name))
        item.number = item.number or next(self._numbers)
        heapq.heappush(self._owners[name].waiting, item)

    def next(self) -> Queued:
        """The next task, of those that wait; there has to be one."""
        waiting = [one for one in self._owners.values() if one.waiting]
        owner = min(waiting, key=lambda one: (one.served, one.waiting[0]))
        owner.served += owner.usual / owner.weight
        owner.under_way += 1
        return heapq.heappop(owner.waiting)

    def ended(self, item: Queued, seconds: float) -> None:
        """What was taken from the queue has ended, or is put back, after so many seconds."""
        if (owner := self._owners.get(item.task.owner)) is None:
            return
        owner.under_way -= 1
        owner.served += (seconds - owner.usual) / owner.weight
        if seconds:
            owner.usual += _NEW * (seconds - owner.usual)

    def forget(self, name: str) -> None:
        """An owner has nothing more to do."""
        owner = self._owners.get(name)
        if owner is not None and not owner.waiting:
            del self._owners[name]

    @property
    def weight(self) -> float:
        """Of all owners with something to do."""
        busy = [one for one in self._owners.values() if one.waiting or one.under_way]
        return sum(one.weight for one in busy)

    def _level(self, name: str) -> float:
        others = (
            one.served
            for other, one in self._owners.items()
            if other != name and (one.waiting or one.under_way)
        )
        return min(others, default=0.0)


class FairQueue(FairOrder):
    """The same, for workers that wait for tasks."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = asyncio.Semaphore(0)

    async def get(self) -> Queued:
        """The next task, once there is one."""
        await self._waiting.acquire()
        return self.next()

    def put_nowait(self, item: Queued) -> None:
        """Add a task; one that is put back has the place that it had."""
        self.add(item)
        self._waiting.release()
