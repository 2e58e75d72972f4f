"""What a calibration found, as data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import msgspec

from workers.run.size import WorkerSize

CALIBRATION_VERSION = 2

Range = tuple[float, float, float]
"""The least, the mean, and the greatest."""


@dataclass(frozen=True)
class Measured:
    """What the workers of one size did.

    Attributes:
        size: What each had of its machine.
        workers: How many there were.
        units: How many of the units were theirs.
        clips_per_s: Of one worker, the least, the mean and the greatest of these units; clips times
            streams, of all targets together.
    """

    size: WorkerSize
    workers: int
    units: int
    clips_per_s: Range


@dataclass(frozen=True)
class Calibration:
    """What some units took.

    Attributes:
        made_at: ISO 8601, UTC.
        encoder_ids: Of the targets, fed from one decoding.
        resolution: Of the videos.
        device: `cpu` or `cuda`.
        cpus: Cores of the machine where this was run.
        sizes: Of the workers that measured at the same time, size by size: machines differ.
        takes: Of which units were taken.
        streams: Of these units.
        units: How many were measured.
        clips, frames: Encoded clips, and decoded frames.
        seconds: Of work, all workers together.
        bytes_read, bytes_written, requests: Of these units.
        stages: Seconds of each stage, all threads together: stages overlap, so their sum is not
            `seconds`. `read` is the time of requests, several at a time; converting on a GPU is
            the time that the host gives to it.
        prepare_seconds: That preparing a take takes: probing, and making its stores.
        start_seconds: Until the first worker was ready.
        memory_mib: The most that a worker took.
        gpu_mib: The most memory of its GPU.
    """

    made_at: str
    encoder_ids: tuple[str, ...]
    resolution: str
    device: str
    cpus: int
    sizes: tuple[Measured, ...]
    takes: int
    streams: int
    units: int
    clips: int
    frames: int
    seconds: float
    bytes_read: int
    bytes_written: int
    requests: int
    stages: dict[str, float] = field(default_factory=dict)
    prepare_seconds: float = 0.0
    start_seconds: float = 0.0
    memory_mib: int = 0
    gpu_mib: int = 0
    calibration_version: int = CALIBRATION_VERSION

    @property
    def workers(self) -> int:
        """How many measured at the same time."""
        return sum(one.workers for one in self.sizes)

    @property
    def clips_per_s(self) -> Range:
        """Of one worker, on average over the workers of all sizes."""
        low, mean, high = (
            sum(one.workers * one.clips_per_s[n] for one in self.sizes) / self.workers
            for n in range(3)
        )
        return low, mean, high

    @property
    def gpus(self) -> float:
        """The part of a GPU that a worker has, on average; 0 on CPU."""
        return sum(one.workers * one.size.gpus for one in self.sizes) / self.workers

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "workers": self.workers, "clips_per_s": self.clips_per_s}

    @classmethod
    def of(cls, facts: Any) -> Self | None:
        """From JSON; None where it is none of this version."""
        try:
            found = msgspec.convert(facts, cls)
        except msgspec.ValidationError:
            return None
        return found if found.calibration_version == CALIBRATION_VERSION and found.sizes else None


def sizes_words(sizes: Sequence[Measured]) -> str:
    """`3 cpu workers of 4 threads on a processor, 12.0 (10.0 to 13.0) clips/s each`, and others."""
    return "; ".join(map(_words, sizes))


def _words(one: Measured) -> str:
    low, mean, high = (f"{rate:,.1f}" for rate in one.clips_per_s)
    workers, threads = many(one.workers, f"{one.size.device} worker"), one.size.threads
    return (
        f"{workers} of {many(threads, 'thread')} on {one.size.machine}, {mean} ({low} to {high})"
        " clips/s each"
    )


def many(count: int, what: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{count} {what}{'' if count == 1 else 's'}"
