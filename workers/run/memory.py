"""What memory a job takes on this machine, estimated before it runs, and what is free."""

import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from math import prod
from pathlib import Path

from configs.run import RunSpec
from models.memory import PASS_FRAMES
from models.resolve import working_bytes
from models.weights import size_here
from workers.dataset.take import Stream, Take
from workers.run.recipe import Recipe, Target

# Ray's own processes and the one that drives the job.
RAY_MIB = 500
# What a worker takes before it decodes: torch, Ray and the default encoder.
WORKER_MIB = 700
# A decoder keeps frames to refer to, and packets and pictures on their way to the encoder. With 4
# streams at 448 px a worker was seen to take 860 MiB.
STREAM_MIB, FRAMES_KEPT = 30, 25
# Of an encoder: being read, waiting, and being encoded.
BATCHES = 3
CORES_PER_WORKER = 4
MIB = 2**20


@dataclass(frozen=True)
class MemoryEstimate:
    """Of a job on this machine, in MiB.

    Attributes:
        workers: How many workers it has.
        worker: What each of them takes at most.
        total: With Ray and the driver.
        free: What processes may still take here; None where that cannot be known.
    """

    workers: int
    worker: int
    total: int
    free: int | None

    @property
    def warning(self) -> str | None:
        """What to do when it does not fit; None when it does, or nobody knows."""
        if self.free is None or self.total <= self.free:
            return None
        fit = (self.free - RAY_MIB) // self.worker
        todo = f"use --workers {fit}" if fit >= 1 else "use a larger machine"
        several = "workers" if self.workers > 1 else "worker"
        return (
            f"{self.workers} {several} may take {self.total} MiB of memory in all, and {self.free}"
            f" MiB are free: {todo}, or some may be killed"
        )


def memory_of(
    recipe: Recipe, takes: Sequence[tuple[Take, tuple[str, ...]]], workers: int | None = None
) -> MemoryEstimate:
    """What a job takes at most, from what is known before anything is read.

    Args:
        recipe: The job.
        takes: Its takes, each with the names of the streams wanted.
        workers: How many there are; by default what the job's settings give on this machine.
    """
    if workers is None:
        asked = recipe.job.run.workers
        workers = max(1, cores() // CORES_PER_WORKER) if asked == "auto" else asked
    frames = max(
        (sum(map(_stream_mib, _wanted(take, names, recipe))) for take, names in takes), default=0
    )
    worker = WORKER_MIB + sum(map(_encoder_mib, recipe.targets, repeat(recipe.job.run))) + frames
    return MemoryEstimate(workers, worker, RAY_MIB + workers * worker, free_mib())


def _encoder_mib(target: Target, run: RunSpec) -> int:
    """What an encoder takes in a worker: weights, pictures that wait for it, and a clip in it."""
    encoder = target.encoder
    # Loading keeps what was read beside what it becomes.
    weights = 2 * (size_here(encoder.weights) or 0)
    clips = max(1, PASS_FRAMES // encoder.frames) if run.batch_size == "auto" else run.batch_size
    pictures = 0
    if encoder.preprocess is not None:
        # Numbers of what is not rounded take four bytes.
        each = (
            3 * prod(encoder.preprocess.size) * (4 if encoder.preprocess.method == "float" else 1)
        )
        pictures = BATCHES * clips * encoder.frames * each
    working = 0 if run.device == "cuda" else working_bytes(encoder)
    return (weights + pictures + working) // MIB


def _wanted(take: Take, names: Sequence[str], recipe: Recipe) -> list[tuple[int, int]]:
    return [_size(s, recipe.job.select.resolution) for s in take.streams if s.key in names]


def _size(stream: Stream, resolution: str) -> tuple[int, int]:
    """Pixels of a stream of Ego-Exo4D, which are not known for certain before it is probed."""
    if resolution == "448":
        return (448, 796)
    if stream.key.endswith("_rgb"):
        return (1408, 1408)
    return (2160, 3840) if stream.key.endswith("_0") else (480, 640)


def _stream_mib(size: tuple[int, int]) -> int:
    height, width = size
    return STREAM_MIB + FRAMES_KEPT * height * width * 3 // 2 // MIB


def peak_mib() -> tuple[int, int]:
    """The most MiB of memory that this process has taken, of the machine and of its GPU."""
    torch = sys.modules.get("torch")
    on_gpu = 0
    if torch is not None and torch.cuda.is_initialized():
        on_gpu = torch.cuda.max_memory_reserved() // MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, on_gpu


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def free_mib() -> int | None:
    """MiB of memory that processes may still take, by machine and by control group."""
    found: list[int] = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) // 1024)
    except (OSError, ValueError, IndexError):
        pass
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, used = (int(Path("/sys/fs/cgroup", one).read_text()) for one in (limit, usage))
        except (OSError, ValueError):
            continue
        found.append((most - used) // 2**20)
    return min(found, default=None)
