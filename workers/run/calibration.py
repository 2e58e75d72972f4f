"""What a calibration found, as data."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

CALIBRATION_VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """What some units took.

    Attributes:
        made_at: ISO 8601, UTC.
        encoder_ids: Of the targets, fed from one decoding.
        resolution: Of the videos.
        device: `cpu` or `cuda`.
        machine: Name of the processor or GPU where this was run.
        cpus: Cores of this machine.
        workers: That measured at the same time.
        threads: CPU threads of each.
        takes: Of which units were taken.
        streams: Of these units.
        clips_per_s: Of one worker, the least, the mean and the greatest of its units; clips times
            streams, of all targets together.
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
        gpu_share: The part of a GPU that each worker had, on `cuda`.
    """

    made_at: str
    encoder_ids: tuple[str, ...]
    resolution: str
    device: str
    machine: str
    cpus: int
    workers: int
    threads: int
    takes: int
    streams: int
    clips_per_s: tuple[float, float, float]
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
    gpu_share: float = 1.0
    calibration_version: int = CALIBRATION_VERSION

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Any) -> Self | None:
        """From JSON; None where it is none of this version."""
        try:
            if facts["calibration_version"] != CALIBRATION_VERSION:
                return None
            known: dict[str, Any] = {name: facts[name] for name in cls.__dataclass_fields__}
        except (KeyError, TypeError):
            return None
        known |= {name: tuple(known[name]) for name in ("encoder_ids", "clips_per_s")}
        return cls(**known)
