"""How the workers of a pool share the machines of a Ray cluster."""

import asyncio
import math
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray._private.state import state as ray_state

from configs.run import RunSpec
from workers.run.memory import CORES_PER_WORKER
from workers.run.session import RayUnavailable

# Workers that share a GPU. The threads of one process take turns at the interpreter, so that one
# process cannot decode for a large GPU, however many cores there are; and with fewer cores than
# decoding threads all of them get slower (docs/gpu.md has the figures).
MOST_ON_A_GPU, CORES_ON_A_GPU = 4, 5
# CPUs that Ray sets aside for a worker with a GPU, at most.
CPUS_WITH_A_GPU = 4
ANSWER_SECONDS = 3.0
# Where Ray, and Kubernetes by way of Ray, say in which region a node is.
REGION_LABELS = ("ray.io/availability-region", "topology.kubernetes.io/region")


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: Ray's.
        host: its name.
        cpus: CPUs that Ray gives away there.
        gpus: the same of GPUs.
        address: of its raylet, host and port.
        region: of its provider, where the node's labels say it.
        leaves_in: seconds until it is taken back, where Ray was told so; None where it stays.
    """

    id: str
    host: str
    cpus: float
    gpus: float
    address: tuple[str, int] = ("", 0)
    region: str | None = None
    leaves_in: float | None = None

    def answers(self) -> bool:
        """Whether its raylet takes connections; may block for `ANSWER_SECONDS`."""
        try:
            socket.create_connection(self.address, ANSWER_SECONDS).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Shares:
    """What each worker of a pool gets.

    Attributes:
        workers: for how many there is room now, or how many were asked for.
        device: `cpu` or `cuda`.
        threads: CPU threads of each.
        cpus: CPUs that Ray sets aside for each.
        gpus: the part of a GPU that Ray sets aside for each; 0 on CPU.
        nodes: ids of the machines that they are for; empty where any will do.
    """

    workers: int
    device: str
    threads: int
    cpus: float
    gpus: float = 0.0
    nodes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[str, int, float, float]:
        """What one worker gets, wherever it is."""
        return self.device, self.threads, self.cpus, self.gpus

    @property
    def options(self) -> dict[str, Any]:
        """For Ray's actors."""
        return {"num_cpus": self.cpus, **({"num_gpus": self.gpus} if self.gpus else {})}


def nodes_alive() -> list[Node]:
    """The machines of the cluster that this process has joined; none where it has joined none."""
    if not ray.is_initialized():
        return []
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    # By node, when it goes, in milliseconds since 1970; 0 where nobody said when.
    drained: dict[str, int] = ray_state.get_draining_nodes()
    now = time.time()
    return [
        Node(
            str(one["NodeID"]),
            str(one["NodeManagerHostname"]),
            float(one["Resources"].get("CPU", 0)),
            float(one["Resources"].get("GPU", 0)),
            (str(one["NodeManagerAddress"]), int(one["NodeManagerPort"])),
            _region(one.get("Labels") or {}),
            _left(drained.get(str(one["NodeID"])), now),
        )
        for one in found
        if one["Alive"]
    ]


def _left(deadline: int | None, now: float) -> float | None:
    if deadline is None:
        return None
    return deadline / 1000 - now if deadline else math.inf


def _region(labels: Mapping[str, str]) -> str | None:
    return next((labels[name] for name in REGION_LABELS if labels.get(name)), None)


async def any_gone(nodes: Iterable[str]) -> bool:
    """Whether a machine died, or is about to: a task that died with it did nothing wrong.

    Args:
        nodes: their ids; of one alone it is asked whether it answers, too.
    """
    # Ray takes half a minute to find that out; a machine's processes die one by one.
    await asyncio.sleep(1)
    asked = set(nodes)
    alive = [one for one in await asyncio.to_thread(nodes_alive) if one.id in asked]
    if len(alive) < len(asked):
        return True
    return len(alive) == 1 and not await asyncio.to_thread(alive[0].answers)


def shares_of(run: RunSpec, nodes: Sequence[Node]) -> Shares:
    """How workers of one size, that of the smallest machine, share these machines.

    Raises RayUnavailable when a GPU is asked for of a Ray that was started here, and it sees none;
    a cluster may get one yet.
    """
    on_gpu = run.device == "cuda" or (run.device == "auto" and any(one.gpus >= 1 for one in nodes))
    if on_gpu:
        return _on_gpus(run, [one for one in nodes if one.gpus >= 1])
    cpus = [int(one.cpus) for one in nodes if one.cpus >= 1]
    if not cpus:
        # Of machines that are yet to come nothing is known: a worker fits on any.
        count = 0 if run.workers == "auto" else run.workers
        return Shares(count, "cpu", 1, 1)
    if run.workers == "auto":
        threads = min(one // max(1, one // CORES_PER_WORKER) for one in cpus)
        return Shares(sum(one // threads for one in cpus), "cpu", threads, threads)
    threads = max(1, min(sum(cpus) // run.workers, *cpus))
    # A fraction lets more workers than cores be asked for; it reserves, it does not limit.
    return Shares(run.workers, "cpu", threads, min(threads, sum(cpus) / run.workers))


def sizes_of(run: RunSpec, nodes: Sequence[Node]) -> list[Shares]:
    """How workers share these machines, each machine having workers of the size that suits it.

    One element, for any machine, where they all suit the same size, or a number of workers was
    asked for; else one for each size, with its machines.

    Raises RayUnavailable as `shares_of` does.
    """
    one_size = shares_of(run, nodes)
    if run.workers != "auto":
        return [one_size]
    alone = run.model_copy(update={"device": one_size.device})
    found: dict[tuple[str, int, float, float], Shares] = {}
    for node in nodes:
        if (node.gpus if one_size.device == "cuda" else node.cpus) < 1:
            continue
        its = shares_of(alone, [node])
        before = found.get(its.size, replace(its, workers=0))
        found[its.size] = replace(
            its, workers=before.workers + its.workers, nodes=(*before.nodes, node.id)
        )
    if len(found) < 2:
        return [replace(shares, nodes=()) for shares in found.values()] or [one_size]
    return list(found.values())


def _on_gpus(run: RunSpec, nodes: Sequence[Node]) -> Shares:
    if not nodes:
        if run.address is None:
            raise RayUnavailable("device: cuda, but Ray sees no GPU; use --device auto or cpu")
        return Shares(0 if run.workers == "auto" else run.workers, "cuda", 1, 1, 1.0)
    cpus, gpus = int(sum(one.cpus for one in nodes)), int(sum(one.gpus for one in nodes))
    # For each GPU, on the machine that has the fewest cores for it.
    cores = min(one.cpus / int(one.gpus) for one in nodes)
    if run.workers == "auto":
        together = max(1, min(MOST_ON_A_GPU, int(cores // CORES_ON_A_GPU)))
        count = gpus * together
    else:
        count, together = run.workers, math.ceil(run.workers / gpus)
    # Ray counts parts in 1/10,000, and so many have to fit on each GPU.
    part = 1.0 if together == 1 else 10_000 // together / 10_000
    threads = max(1, int(cores // together))
    return Shares(
        count, "cuda", threads, min(threads, CPUS_WITH_A_GPU, cpus / max(count, gpus)), part
    )
