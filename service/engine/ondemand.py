"""Features computed for a request that waits: before any batch, each window once."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from workers.dataset.take import Take
from workers.run.pool import Pool
from workers.run.recipe import Recipe
from workers.run.tasks import ClipPart, ClipRange, Prepare, PreparedTake, Task, UnitRecord, Window
from workers.run.tracing import NOTHING

# A part as it is sent to a replica.
Part = ClipPart | UnitRecord


class Busy(Exception):
    """This cannot be computed now; `retry_after` is in seconds."""

    def __init__(self, why: str, retry_after: int = 5) -> None:
        super().__init__(f"{why}; try again later")
        self.retry_after = retry_after


class OnDemand:
    """Runs urgent tasks on a pool; askers of the same thing share one run of it.

    Work is cancelled when the last who asked for it is gone.
    """

    def __init__(self, pool: Pool, queue: int) -> None:
        self._pool = pool
        self._queue = queue
        self._under_way: dict[object, _Shared] = {}

    async def prepare(
        self,
        recipe: Recipe,
        take: Take,
        streams: Sequence[str],
        trace: Mapping[str, str] = NOTHING,
    ) -> PreparedTake:
        """Probe a take and make its store stand ready for these streams. Raises Busy."""

        def task(owner: str) -> Task:
            return Prepare(recipe, take, owner, tuple(streams), trace=dict(trace))

        key = ("prepare", recipe.key, take, tuple(streams))
        async for item in self._shared(key, task, clips=1):
            if isinstance(item, PreparedTake):
                return item
        raise RuntimeError(f"{take.name}: prepared without a record")

    async def window(
        self,
        recipe: Recipe,
        take: Take,
        streams: Sequence[str],
        start: int,
        stop: int,
        trace: Mapping[str, str] = NOTHING,
    ) -> AsyncIterator[Part]:
        """Clips `[start, stop)` of the streams, part by part, then a record or several.

        Work that several ask for is below the span of the first. A part may come twice when a
        worker was lost. Raises Busy.
        """

        def task(owner: str) -> Task:
            clips = ClipRange(0, start, stop, tuple(streams))
            return Window(recipe, take, owner, clips=clips, trace=dict(trace))

        key = ("window", recipe.key, take, tuple(streams), start, stop)
        async for item in self._shared(key, task, clips=(stop - start) * len(streams)):
            assert isinstance(item, ClipPart | UnitRecord)
            yield item

    def close(self) -> None:
        """End all windows under way; requests that wait for one get Busy."""
        for shared in self._under_way.values():
            shared.end()

    async def _shared(
        self, key: object, make: Callable[[str], Task], clips: int
    ) -> AsyncIterator[object]:
        shared = self._under_way.get(key)
        if shared is None:
            if self._pool.waiting >= self._queue:
                raise Busy(f"{self._pool.waiting} requests wait for a worker already")
            task = make(f"on-demand/{uuid.uuid4().hex}")
            shared = _Shared(task.owner, clips)
            self._under_way[key] = shared
            self._pool.submit([task], shared.add, urgent=True)
        shared.followers += 1
        try:
            async for item in shared.follow():
                yield item
        finally:
            shared.followers -= 1
            if shared.done or not shared.followers:
                if self._under_way.get(key) is shared:
                    del self._under_way[key]
                if not shared.done:
                    self._pool.cancel(shared.owner)


@dataclass
class _Shared:
    """One run and what came of it so far; several may follow it from its beginning."""

    owner: str
    left: int
    followers: int = 0

    def __post_init__(self) -> None:
        self._items: list[object] = []
        self._changed = asyncio.Event()
        self._ended = False

    @property
    def done(self) -> bool:
        """Whether every clip is accounted for."""
        return self.left <= 0

    def add(self, item: object) -> None:
        self._items.append(item)
        if isinstance(item, UnitRecord):
            self.left -= item.clips
        elif isinstance(item, PreparedTake):
            self.left = 0
        self._tell()

    def end(self) -> None:
        """Have nothing more come."""
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncIterator[object]:
        at = 0
        while True:
            changed = self._changed
            while at < len(self._items):
                yield self._items[at]
                at += 1
            if self.done:
                return
            if self._ended:
                raise Busy("the service goes down")
            if changed is self._changed:
                await changed.wait()
