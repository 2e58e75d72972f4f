"""How the workers of a pool share the machines of a Ray cluster."""

from typing import Any

import ray

from configs.schema import RunSpec
from workers.run.memory import CORES_PER_WORKER
from workers.run.session import RayUnavailable


def shares_of(run: RunSpec) -> tuple[int, dict[str, Any], str, int]:
    """How many workers, their Ray options, their device, and the CPU threads of each.

    Raises RayUnavailable when Ray has no GPU and one is asked for.
    """
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = int(total.get("CPU", 1)), int(total.get("GPU", 0))
    if run.device == "cuda" and not gpus:
        raise RayUnavailable("device: cuda, but Ray sees no GPU; use --device auto or cpu")
    if gpus and run.device != "cpu":
        count = gpus if run.workers == "auto" else min(run.workers, gpus)
        threads = max(1, cpus // max(1, gpus))
        return count, {"num_gpus": 1, "num_cpus": min(threads, 4)}, "cuda", threads
    count = max(1, cpus // CORES_PER_WORKER) if run.workers == "auto" else run.workers
    threads = max(1, cpus // count)
    # A fraction lets more workers than cores be asked for; it reserves, it does not limit.
    return count, {"num_cpus": min(threads, cpus / count)}, "cpu", threads
