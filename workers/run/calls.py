"""Calls to a worker, and what they count, as the pool makes and keeps them."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray.exceptions import RayError

from workers.run.slots import Counts
from workers.run.tasks import Record, Task, UnitRecord, Window
from workers.run.worker import EARLIER, KEPT_OWNERS

# What a task gives: its record, and before it the parts of a window.
Sink = Callable[[Any], None]


async def tell_cancelled(worker: Any, owner: str) -> None:
    with suppress(RayError):
        await worker.cancel.remote(owner)


def gave_up(record: Record) -> bool:
    return isinstance(record, UnitRecord) and record.outcome == "stopped"


async def record_of(worker: Any, task: Task, sink: Sink, *, urgent: bool) -> Record:
    if not isinstance(task, Window):
        method = worker.run_urgent if urgent else worker.run
        record: Record = await method.remote(task)
        return record
    async for reference in worker.window.remote(task):
        item = await reference
        if isinstance(item, UnitRecord):
            return item
        sink(item)
    raise RuntimeError(f"{task.name}: ended without a record")


async def result(reference: Any) -> Any:
    return await reference


def counted_as(owner: str) -> str:
    return owner.partition("/")[0]


def add(total: Counts, counts: Counts) -> None:
    for name, value in counts.items():
        total[name] = total.get(name, 0) + value


def fold_in(apart: dict[str, Counts], name: str, counts: Counts) -> None:
    """Add to the counts of `name`; owners that were not added to for long become one sum."""
    apart[name] = apart.pop(name, {})
    add(apart[name], counts)
    while len(apart) > KEPT_OWNERS + 1:
        oldest = next(name for name in apart if name != EARLIER)
        add(apart.setdefault(EARLIER, {}), apart.pop(oldest))
