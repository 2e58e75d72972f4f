"""Calls to a worker, and what they count, as the pool makes and keeps them."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from ray.exceptions import RayError

from configs.run import RunSpec
from workers.run.metrics import RayMetrics
from workers.run.slots import Counts, Slots
from workers.run.tasks import Record, Task, UnitRecord, Window
from workers.run.worker import EARLIER, KEPT_OWNERS

# Seconds between two looks at a worker, and looks in a second at all workers together: each costs
# the driver half a millisecond.
POLL_SECONDS, POLLS_PER_SECOND = 1.0, 100
# What a pool counts, not its workers.
OF_POOLS = ("workers_lost", "units_quarantined")
# What a task gives: its record, and before it the parts of a window.
Sink = Callable[[Any], None]


def pause(run: RunSpec, workers: int) -> float:
    """Seconds between two looks at what a worker counts while it has a task."""
    return min(max(POLL_SECONDS, workers / POLLS_PER_SECOND), run.stall_seconds / 4)


async def tell_cancelled(worker: Any, owner: str) -> None:
    with suppress(RayError):
        await worker.cancel.remote(owner)


def gave_up(record: Record) -> bool:
    return isinstance(record, UnitRecord) and record.outcome == "stopped"


async def record_of(
    worker: Any, task: Task, sink: Sink, *, urgent: bool
) -> tuple[Record, dict[str, Counts]]:
    """What comes of a task, and what its worker has counted then, by owner."""
    if not isinstance(task, Window):
        method = worker.run_urgent if urgent else worker.run
        found: tuple[Record, dict[str, Counts]] = await method.remote(task)
        return found
    record: Record | None = None
    async for reference in worker.window.remote(task):
        item = await reference
        if isinstance(item, UnitRecord):
            record = item
        elif record is None:
            sink(item)
        else:
            return record, item
    raise RuntimeError(f"{task.name}: ended without a record")


async def result(reference: Any) -> Any:
    return await reference


def counted_as(owner: str) -> str:
    return owner.partition("/")[0]


def add(total: Counts, counts: Counts) -> None:
    for name, value in counts.items():
        total[name] = total.get(name, 0) + value


class Tally:
    """What workers that are gone have counted, by owner."""

    def __init__(self) -> None:
        self._by: dict[str, Counts] = {}

    def add(self, counts: Mapping[str, Counts]) -> None:
        """Add counts by owner; owners that were not added to for long become one sum."""
        for name, some in counts.items():
            self._by[name] = self._by.pop(name, {})
            add(self._by[name], some)
        while len(self._by) > KEPT_OWNERS + 1:
            oldest = next(name for name in self._by if name != EARLIER)
            add(self._by.setdefault(EARLIER, {}), self._by.pop(oldest))

    def total(self, others: Iterable[Mapping[str, Counts]], owner: str | None) -> Counts:
        """With what others have counted: for one owner, or for all."""
        found: Counts = {}
        for part in (self._by, *others):
            for name, counts in part.items():
                if owner in (None, name):
                    add(found, counts)
        return found


class PoolMetrics:
    """What a pool shows at the metrics endpoint of the Ray of its machine.

    Args:
        run: how the job runs; a Ray that was started here has no such endpoint.
    """

    def __init__(self, run: RunSpec) -> None:
        self._ray = RayMetrics() if run.address else None

    def show(
        self, slots: Slots, outstanding: Mapping[str, int], waiting: int, before: Tally
    ) -> None:
        """Show how a pool stands.

        Args:
            slots: its places for workers.
            outstanding: tasks queued or under way, by owner.
            waiting: urgent tasks that no worker has taken yet.
            before: what was counted of workers that are gone.
        """
        if self._ray is None:
            return
        self._ray.gauges(
            {
                "workers": slots.room,
                "workers_alive": sum(slot.worker is not None for slot in slots),
                "queue": waiting,
                "jobs": sum(counted_as(owner) == owner for owner in outstanding),
            }
        )
        # All else the workers show themselves.
        counts = before.total((), None)
        self._ray.counts({name: counts[name] for name in OF_POOLS if name in counts})

    def failed(self, record: Record) -> None:
        """Count what went wrong of a task."""
        if self._ray is not None:
            for failure in record.failures:
                self._ray.error(failure.kind.value)
