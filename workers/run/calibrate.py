"""A few units of the real data, measured: what a job's estimate rests on."""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from takestream.errors import ErrorKind, TakestreamError
from workers.dataset.take import Take
from workers.run.calibration import Calibration, Measured, Range
from workers.run.history import STAGES
from workers.run.memory import cores
from workers.run.pool import Pool
from workers.run.recipe import Recipe
from workers.run.size import WorkerSize
from workers.run.tasks import Extract, Finish, Prepare, PreparedTake, Record, Unit, UnitRecord

log = logging.getLogger(__name__)

# With fewer units than three the spread is not known: the rate may be so much off, either way.
UNKNOWN_SPREAD, FEW = 0.25, 3
OWNER = "calibration"


class CalibrationError(TakestreamError):
    """Nothing could be measured."""

    kind = ErrorKind.INCOMPLETE


async def calibrate(
    pool: Pool, recipe: Recipe, takes: Sequence[tuple[Take, tuple[str, ...]]], units: int
) -> Calibration:
    """Measure some units of a job, each of another take where there are enough.

    They are units that the job has to do anyway: what is computed is in the stores.

    Args:
        pool: The workers; all of them work at the same time.
        recipe: The job.
        takes: Of the job.
        units: How many to measure.

    Raises:
        CalibrationError: No unit could be done, or none is left to do.
    """
    began = time.monotonic()
    if why := await pool.load(recipe):
        raise CalibrationError(why, kind=ErrorKind.MODEL)
    started = time.monotonic() - began
    prepared, prepare_seconds = await _prepared(pool, recipe, takes, units)
    chosen = _chosen(prepared, units)
    if not chosen:
        reasons = [failure.reason for one in prepared for failure in one.failures]
        raise CalibrationError(
            f"no unit to measure: {reasons[0]}"
            if reasons
            else "no unit to measure: all that was looked at is in the output already. Name an "
            "output of its own, or other takes"
        )
    records = [
        one
        for one in await _done(pool, [Extract(recipe, u.take, OWNER, unit=u) for u in chosen])
        if isinstance(one, UnitRecord)
    ]
    good = [one for one in records if one.outcome == "done" and one.seconds and not one.failures]
    if not good:
        reasons = [failure.reason for one in records for failure in one.failures]
        raise CalibrationError(f"no unit could be done: {next(iter(reasons), 'no reason known')}")
    whole = [one for one in prepared if one.units and all(u in chosen for u in one.units)]
    await _done(pool, [Finish(recipe, one.take, OWNER) for one in whole])
    return _measured(pool, recipe, good, prepare_seconds, started)


async def _prepared(
    pool: Pool, recipe: Recipe, takes: Sequence[tuple[Take, tuple[str, ...]]], units: int
) -> tuple[list[PreparedTake], float]:
    """Takes with units to do, and the seconds that a worker needs to prepare one."""
    found: list[PreparedTake] = []
    spent, looked = 0.0, 0
    # Spread over the data set, a few at a time: the first ones may be done already.
    step = max(1, len(takes) // max(1, units))
    order = [takes[n] for first in range(step) for n in range(first, len(takes), step)]
    for start in range(0, len(order), max(units, 1)):
        some = order[start : start + max(units, 1)]
        began = time.monotonic()
        tasks = [Prepare(recipe, take, OWNER, names) for take, names in some]
        done = [one for one in await _done(pool, tasks) if isinstance(one, PreparedTake)]
        spent += (time.monotonic() - began) * min(pool.workers, len(some))
        looked += len(some)
        found += done
        if len([one for one in found if one.units]) >= units or looked >= 10 * units:
            break
    return found, spent / max(1, looked)


def _chosen(prepared: Sequence[PreparedTake], units: int) -> list[Unit]:
    """Units in turn, one of each take; whole ones before the last of a take, which is shorter."""
    left = [
        sorted(one.units, key=lambda u: (u.first_frame - u.last_frame, u.first_frame))
        for one in prepared
    ]
    chosen: list[Unit] = []
    while len(chosen) < units and any(left):
        for some in left:
            if some and len(chosen) < units:
                chosen.append(some.pop(0))
    return chosen


async def _done(pool: Pool, tasks: Sequence[Any]) -> list[Record]:
    if not tasks:
        return []
    records: asyncio.Queue[Record] = asyncio.Queue()
    pool.submit(tasks, records.put_nowait)
    found: list[Record] = []
    while len(found) < len(tasks):
        try:
            async with asyncio.timeout(1):
                found.append(await records.get())
        except TimeoutError:
            if why := pool.lost:
                raise CalibrationError(why, kind=ErrorKind.ENGINE) from None
    return found


def _measured(
    pool: Pool,
    recipe: Recipe,
    records: Sequence[UnitRecord],
    prepare_seconds: float,
    started: float,
) -> Calibration:
    def total(name: str) -> float:
        return sum(record.counts.get(name, 0.0) for record in records)

    return Calibration(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        encoder_ids=recipe.encoder_ids,
        resolution=recipe.job.select.resolution,
        device=pool.shares.device,
        cpus=cores(),
        sizes=_sizes(pool, records),
        takes=len({one.take.uid for one in records}),
        streams=round(fmean(len({s for r in one.ranges for s in r.streams}) for one in records)),
        units=len(records),
        clips=sum(one.clips for one in records),
        frames=int(total("frames_decoded")),
        seconds=sum(one.seconds for one in records),
        bytes_read=int(total("bytes_read")),
        bytes_written=int(total("bytes_written")),
        requests=int(total("requests")),
        stages={name: round(total(f"{name}_seconds"), 6) for name in STAGES},
        prepare_seconds=prepare_seconds,
        start_seconds=started,
        memory_mib=max(one.peak_mib[0] for one in records),
        gpu_mib=max(one.peak_mib[1] for one in records),
    )


def _sizes(pool: Pool, records: Sequence[UnitRecord]) -> tuple[Measured, ...]:
    """What workers of each size did; those that had no unit are not known."""
    by_size: dict[WorkerSize, list[UnitRecord]] = {}
    for record in records:
        if record.size is not None:
            by_size.setdefault(record.size, []).append(record)
    for size in set(pool.sizes) - set(by_size):
        log.warning(
            "no unit was done by the workers of %d threads on %s: more --units would measure them",
            size.threads,
            size.machine,
        )
    found = []
    for size, some in by_size.items():
        seen = len({record.worker for record in some})
        workers = max(seen, pool.sizes[size])
        found.append(Measured(size, workers, len(some), _rates(some)))
    return tuple(found)


def _rates(records: Sequence[UnitRecord]) -> Range:
    mean = sum(one.clips for one in records) / sum(one.seconds for one in records)
    if len(records) < FEW:
        return mean * (1 - UNKNOWN_SPREAD), mean, mean * (1 + UNKNOWN_SPREAD)
    rates = [one.clips / one.seconds for one in records]
    return min(rates), mean, max(rates)
