"""What a job will take, by a calibration: hours, bytes, money, and whether a deadline is met."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from configs.instances import SPOT, Instance
from workers.run.calibration import Calibration, Range, many, sizes_words
from workers.run.plan import PlannedTake
from workers.run.report import Progress
from workers.run.spending import Bill


@dataclass(frozen=True)
class Work:
    """What is left to do of a job.

    Attributes:
        takes: With something to do.
        clips: Times streams, of all encoders together.
        bytes_read: Of the videos.
    """

    takes: int
    clips: int
    bytes_read: int

    @classmethod
    def of(cls, planned: Sequence[PlannedTake]) -> "Work":
        """Of a plan."""
        left = [take for take in planned if take.clips > take.clips_done]
        clips = sum(take.clips - take.clips_done for take in left)
        return cls(len(left), clips, sum(take.bytes for take in left))


@dataclass(frozen=True)
class Estimate:
    """What a job will take on some workers like those that were measured.

    Attributes:
        workers: How many.
        hours: From its start to its end.
        worker_hours, gpu_hours: Of all workers, and of the GPUs that they share; 0 on CPU.
        bytes_read, bytes_written: Of videos, and of features.
        machines: Of the instance; None without one.
        cost: In the currency of the price; None without a price.
        spot: The same on spot machines of the instance; None without one.
        workers_needed: For the deadline, with the least rate that was measured; None without a
            deadline, or where it is too near for any number.
        meets_deadline: Whether the greatest of `hours` ends before it; None without one.
    """

    workers: int
    hours: Range
    worker_hours: Range
    gpu_hours: Range
    bytes_read: int
    bytes_written: int
    machines: int | None = None
    cost: Range | None = None
    spot: Range | None = None
    workers_needed: int | None = None
    meets_deadline: bool | None = None

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def estimate(
    work: Work,
    calibration: Calibration,
    workers: int,
    *,
    worker_price: float | None = None,
    instance: Instance | None = None,
    hours_left: float | None = None,
) -> Estimate:
    """What a job will take.

    Args:
        work: What is left of it.
        calibration: Of the same encoders.
        workers: How many there will be, of the sizes that were measured, in the same proportion.
        worker_price: Of one worker for an hour; the instance's share without one.
        instance: The kind of machine, each with as many workers as it has room for.
        hours_left: Until the deadline.
    """
    hours = _each(lambda rate: _hours(work, calibration, rate, workers), calibration)
    worker_hours = _scaled(hours, workers)
    machines = cost = spot = None
    if instance is not None:
        # As many of each size as were measured, in proportion.
        machines = math.ceil(
            workers
            * sum(
                one.workers
                / calibration.workers
                / instance.workers(one.size.device, one.size.threads, one.size.gpu_share)
                for one in calibration.sizes
            )
        )
        cost = _scaled(hours, machines * instance.price)
        spot = (cost[0] * SPOT[0], cost[1] * sum(SPOT) / 2, cost[2] * SPOT[1])
    if worker_price is not None:
        cost, spot = _scaled(worker_hours, worker_price), None
    needed = meets = None
    if hours_left is not None:
        needed = _workers_needed(work, calibration, hours_left)
        meets = hours[2] <= hours_left
    return Estimate(
        workers,
        hours,
        worker_hours,
        _scaled(worker_hours, calibration.gpus),
        work.bytes_read,
        round(work.clips * calibration.bytes_written / calibration.clips),
        machines,
        cost,
        spot,
        needed,
        meets,
    )


def estimate_lines(
    calibration: Calibration, uri: str, costs: Estimate, deadline: datetime | None
) -> list[str]:
    """An estimate for a person, and what it rests on."""
    lines = [
        f"on {many(costs.workers, 'worker')}: {time_words(costs.hours)};"
        f" {time_words(costs.worker_hours)} of all workers"
        + (f", {time_words(costs.gpu_hours)} of GPUs" if any(costs.gpu_hours) else "")
        + f"; writes {size_words(costs.bytes_written)}"
    ]
    if costs.cost is not None:
        unit = "" if costs.machines is None else " USD at list price"
        if costs.machines is not None:
            unit += f" on {costs.machines} machine{'' if costs.machines == 1 else 's'}"
        lines.append(f"cost {range_words(costs.cost, 2)}{unit}")
    if costs.spot is not None:
        lines[-1] += f"; on spot machines {range_words(costs.spot, 2)} USD"
    if deadline is not None:
        enough = (
            "no number of workers is enough"
            if costs.workers_needed is None
            else f"{many(costs.workers_needed, 'worker')} would do for certain"
        )
        met = "is met" if costs.meets_deadline else "is not met for certain"
        when = deadline.isoformat(timespec="minutes")
        lines.append(f"deadline {when}: {met}; {enough}")
    lines.append(
        f"by {uri}: {calibration.units} units of {calibration.takes} takes,"
        f" {sizes_words(calibration.sizes)}, {calibration.memory_mib} MiB"
    )
    return lines


def compared(bill: Bill, progress: Progress, calibration: Calibration, uri: str) -> Bill:
    """A bill with what the calibration says that the clips of the run take."""
    takes = max(0, progress.takes_done)
    hours = _each(
        lambda rate: (progress.clips_done / rate + takes * calibration.prepare_seconds) / 3600,
        calibration,
    )
    cost = None if bill.price is None else _scaled(hours, bill.price)
    return replace(bill, expected_hours=hours, expected_cost=cost, calibration=uri)


def bill_lines(bill: Bill) -> Iterator[str]:
    """What a run cost beside what was expected, for a person."""
    gpu = f" and {bill.gpu_hours:.2f} GPU hours" if bill.gpu_hours else ""
    words = f"{bill.worker_hours:.2f} worker hours{gpu}"
    if bill.expected_hours is not None:
        words += f"; by the calibration {range_words(bill.expected_hours, 2)}"
    yield words
    if bill.cost is not None:
        words = f"cost {bill.cost:.2f}"
        if bill.expected_cost is not None:
            words += f"; by the calibration {range_words(bill.expected_cost, 2)}"
        yield words


def size_words(count: int) -> str:
    """Bytes as people count them, by thousands and by 1024: `1.20 TB (1.09 TiB)`."""
    for power, decimal, binary in ((4, "TB", "TiB"), (3, "GB", "GiB"), (2, "MB", "MiB")):
        if count >= 1000**power or power == 2:
            return f"{count / 1000**power:.2f} {decimal} ({count / 1024**power:.2f} {binary})"
    raise AssertionError


def range_words(values: Range, digits: int = 1) -> str:
    """`12.3 (11.0 to 14.5)`."""
    low, middle, high = (f"{value:,.{digits}f}" for value in values)
    return middle if low == high else f"{middle} ({low} to {high})"


def time_words(hours: Range) -> str:
    """`12.3 (11.0 to 14.5) h`, or minutes where it is less than an hour."""
    if hours[2] < 1:
        return f"{range_words((hours[0] * 60, hours[1] * 60, hours[2] * 60))} min"
    return f"{range_words(hours)} h"


def _each(hours: Any, calibration: Calibration) -> Range:
    slow, mean, fast = calibration.clips_per_s
    return hours(fast), hours(mean), hours(slow)


def _hours(work: Work, calibration: Calibration, rate: float, workers: int) -> float:
    if not work.clips:
        return 0.0
    busy = work.clips / rate + work.takes * calibration.prepare_seconds
    return (busy / workers + calibration.start_seconds) / 3600


def _workers_needed(work: Work, calibration: Calibration, hours_left: float) -> int | None:
    if not work.clips:
        return 0
    seconds = hours_left * 3600 - calibration.start_seconds
    if seconds <= 0:
        return None
    busy = work.clips / calibration.clips_per_s[0] + work.takes * calibration.prepare_seconds
    return max(1, math.ceil(busy / seconds))


def _scaled(values: Range, factor: float) -> Range:
    return values[0] * factor, values[1] * factor, values[2] * factor
