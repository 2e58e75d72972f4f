"""A whole extraction job: takes into prepared takes into units into finished stores."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from takestream.errors import StorageError, StorageUnavailable
from takestream.storage import storage_of
from workers.dataset.layouts import dataset_of
from workers.dataset.take import Take
from workers.run.dispatch import AHEAD, Dispatch
from workers.run.pool import Pool
from workers.run.recipe import Recipe
from workers.run.report import Progress, Report
from workers.run.shares import nodes_alive
from workers.run.spending import Spending
from workers.run.tasks import (
    PreparedTake,
    Record,
    Task,
)
from workers.run.tracing import carried, span
from workers.run.transfer import machine_region, transfers
from workers.run.worker import pool_failure
from workers.store.objects import PROBE_PATIENCE, probe_writable

log = logging.getLogger(__name__)


async def run_job(
    pool: Pool,
    recipe: Recipe,
    takes: Sequence[tuple[Take, tuple[str, ...]]],
    on_progress: Callable[[Progress, Sequence[Record]], None] = lambda progress, records: None,
    *,
    owner: str = "job",
    interval: float = 0.5,
    done: Mapping[str, PreparedTake] = MappingProxyType({}),
) -> Report:
    """Extract the named streams of each take; take values carry all their streams.

    Resumes by itself: what stores hold already is skipped. `on_progress` is called at least every
    `interval` seconds or so, with the records that came in. Cancelling it leaves a resumable state.
    `done` holds takes that are known to be complete, by uid; they are not looked at again.
    Raises StorageError when the output cannot be written.
    """
    await asyncio.to_thread(probe_writable, recipe.job.output, recipe.output_s3)
    with span("takestream job", owner=owner, takes=len(takes), output=recipe.job.output) as traced:
        report = await _run_job(pool, recipe, takes, on_progress, owner, interval, done)
        traced |= {"ok": report.ok, "clips": report.progress.clips_done}
    return report


async def _run_job(
    pool: Pool,
    recipe: Recipe,
    takes: Sequence[tuple[Take, tuple[str, ...]]],
    on_progress: Callable[[Progress, Sequence[Record]], None],
    owner: str,
    interval: float,
    done: Mapping[str, PreparedTake],
) -> Report:
    records: asyncio.Queue[Record] = asyncio.Queue()
    trace = carried()
    afar = await asyncio.to_thread(_elsewhere, recipe, takes)
    for words in afar:
        log.warning("%s", words)

    def submit(tasks: list[Task]) -> None:
        some = [replace(task, trace=trace) for task in tasks] if trace else tasks
        pool.submit(some, records.put_nowait)

    job = Dispatch(recipe, takes, submit, owner, done)
    job.report.places.notes += afar
    job.report.losses.strict = recipe.job.strict
    spending = Spending(recipe.job.run.budget)
    counts, counted = pool.counts(owner), time.monotonic()
    try:
        job.advance(pool.workers * AHEAD)
        while not job.over:
            came = await _waiting(records, interval)
            for record in came:
                job.take_in(record)
            # The sum over thousands of workers, for each record, would keep the driver busy.
            if job.over or time.monotonic() - counted >= interval:
                counts, counted = pool.counts(owner), time.monotonic()
            for storage in job.silent() or job.still(bool(came), counts):
                if await asyncio.to_thread(_answers, recipe, storage):
                    job.heard(storage)
                else:
                    job.stop(storage)
            job.advance(pool.workers * AHEAD)
            job.progress.tick(time.monotonic() - job.began, counts)
            spending.tick(pool.sizes, job.progress.seconds)
            job.report.bill, job.report.left_out = spending.bill, pool.left_out
            on_progress(job.progress, came)
            if not job.over and (stop := spending.over()):
                job.report.failures.append(stop)
                break
            if not job.over and (why := pool.lost):
                job.report.failures.append(pool_failure(None, why))
                break
    finally:
        pool.cancel(owner)
    return job.report


def _elsewhere(recipe: Recipe, takes: Sequence[tuple[Take, tuple[str, ...]]]) -> list[str]:
    """Which videos lie in another region than the workers, in sentences."""
    run = recipe.job.run
    here = {run.region or node.region for node in nodes_alive() if node.cpus or node.gpus}
    if not any(here) and run.address is None:
        here = {machine_region()}
    return [one.words for one in transfers(recipe, takes, [name for name in here if name])]


def _answers(recipe: Recipe, storage: str) -> bool:
    """Whether a storage answers anything, be it a refusal."""
    brief = {
        name: replace(s3, patience=PROBE_PATIENCE)
        for name, s3 in (("s3", recipe.job.s3), ("output_s3", recipe.output_s3))
    }
    job = recipe.job.model_copy(update=brief)
    try:
        if storage_of(job.dataset) == storage:
            dataset_of(job).identity()
        if storage_of(job.output) == storage:
            probe_writable(job.output, job.output_s3)
    except StorageUnavailable:
        return False
    except StorageError:
        return True
    return True


async def _waiting(records: "asyncio.Queue[Record]", seconds: float) -> list[Record]:
    try:
        # Not wait_for: on Python 3.11 it loses a cancellation that comes together with a record.
        async with asyncio.timeout(seconds):
            found = [await records.get()]
    except TimeoutError:
        return []
    while not records.empty():
        found.append(records.get_nowait())
    return found
