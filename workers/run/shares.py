"""How the workers of a pool share the machines of a Ray cluster."""

import math
from dataclasses import dataclass
from typing import Any

import ray

from configs.schema import RunSpec
from workers.run.memory import CORES_PER_WORKER
from workers.run.session import RayUnavailable

# Workers that share a GPU. The threads of one process take turns at the interpreter, so that one
# process cannot decode for a large GPU, however many cores there are; and with fewer cores than
# decoding threads all of them get slower (docs/gpu.md has the figures).
MOST_ON_A_GPU, CORES_ON_A_GPU = 4, 5


@dataclass(frozen=True)
class Shares:
    """What each worker of a pool gets.

    Attributes:
        workers: how many there are.
        device: `cpu` or `cuda`.
        threads: CPU threads of each.
        cpus: CPUs that Ray sets aside for each.
        gpus: the part of a GPU that Ray sets aside for each; 0 on CPU.
    """

    workers: int
    device: str
    threads: int
    cpus: float
    gpus: float = 0.0

    @property
    def options(self) -> dict[str, Any]:
        """For Ray's actors."""
        return {"num_cpus": self.cpus, **({"num_gpus": self.gpus} if self.gpus else {})}


def shares_of(run: RunSpec) -> Shares:
    """How the workers share the cluster that this process has joined.

    Raises RayUnavailable when Ray has no GPU and one is asked for.
    """
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = int(total.get("CPU", 1)), int(total.get("GPU", 0))
    if run.device == "cuda" and not gpus:
        raise RayUnavailable("device: cuda, but Ray sees no GPU; use --device auto or cpu")
    if gpus and run.device != "cpu":
        return _on_gpus(run, cpus, gpus)
    count = max(1, cpus // CORES_PER_WORKER) if run.workers == "auto" else run.workers
    threads = max(1, cpus // count)
    # A fraction lets more workers than cores be asked for; it reserves, it does not limit.
    return Shares(count, "cpu", threads, min(threads, cpus / count))


def _on_gpus(run: RunSpec, cpus: int, gpus: int) -> Shares:
    if run.workers == "auto":
        count = gpus * max(1, min(MOST_ON_A_GPU, cpus // gpus // CORES_ON_A_GPU))
    else:
        count = run.workers
    together = math.ceil(count / gpus)
    # Ray counts parts in 1/10,000, and so many have to fit on each GPU.
    part = 1.0 if together == 1 else 10_000 // together / 10_000
    threads = max(1, cpus // max(count, gpus))
    return Shares(count, "cuda", threads, min(threads, 4, cpus / count), part)
