"""How workers share the GPUs and cores of a cluster; Ray's own count of them."""

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from configs.run import RunSpec
from workers.run.session import RayUnavailable, ray_session
from workers.run.shares import Node, Shares, nodes_alive, shares_of, sizes_of


def shared(run: RunSpec, *nodes: tuple[float, float]) -> Shares:
    """Of machines with so many CPUs and GPUs."""
    return shares_of(run, [Node(str(n), f"host{n}", *node) for n, node in enumerate(nodes)])


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "part", "threads"),
    [
        (4, 1, 1, 1.0, 4),
        (8, 1, 1, 1.0, 8),
        (10, 1, 2, 0.5, 5),
        (16, 1, 3, 0.3333, 5),
        (96, 1, 4, 0.25, 24),
        (192, 8, 32, 0.25, 6),
        (2, 4, 4, 1.0, 1),
    ],
)
def test_a_gpu_has_workers_for_its_cores(
    cpus: int, gpus: int, workers: int, part: float, threads: int
) -> None:
    found = shared(RunSpec(device="cuda"), (cpus, gpus))
    assert (found.workers, found.gpus, found.threads) == (workers, part, threads)


MACHINES = st.lists(st.tuples(st.integers(1, 128), st.integers(0, 8)), min_size=1, max_size=9)


@given(MACHINES, st.one_of(st.just("auto"), st.integers(1, 300)), st.sampled_from(["cpu", "auto"]))
def test_they_fit_on_the_cluster(
    machines: list[tuple[int, int]], workers: int | str, device: str
) -> None:
    found = shared(RunSpec(device=device, workers=workers), *machines)
    assert found.threads >= 1
    assert found.workers >= 1
    on_gpus = [one for one in machines if one[1]]
    if found.device == "cpu":
        assert device == "cpu" or not on_gpus
        assert found.workers * found.cpus <= sum(cpus for cpus, _ in machines) * (1 + 1e-9)
        assert found.threads <= min(cpus for cpus, _ in machines)
    else:
        on_each = round(found.gpus * 10_000)
        assert found.workers <= sum(gpus for _, gpus in on_gpus) * (10_000 // on_each)
        assert found.workers * found.cpus <= sum(cpus for cpus, _ in on_gpus) * (1 + 1e-9)


def test_several_machines_get_workers_of_one_size() -> None:
    found = shared(RunSpec(device="cpu"), (0, 0), (16, 0), (9, 0), (2, 0))
    assert (found.workers, found.threads) == (8 + 4 + 1, 2)
    found = shared(RunSpec(device="cpu"), (16, 0), (9, 0))
    assert (found.workers, found.threads) == (4 + 2, 4)


def sized(run: RunSpec, *nodes: tuple[float, float]) -> list[Shares]:
    return sizes_of(run, [Node(str(n), f"host{n}", *node) for n, node in enumerate(nodes)])


def test_each_machine_has_workers_that_suit_it() -> None:
    found = sized(RunSpec(device="cpu"), (0, 0), (16, 0), (6, 0), (4, 0))
    assert [(one.workers, one.threads, one.nodes) for one in found] == [
        (4 + 1, 4, ("1", "3")),
        (1, 6, ("2",)),
    ]
    found = sized(RunSpec(device="cuda"), (64, 0), (16, 1), (4, 1), (192, 8))
    assert [(one.workers, one.threads, one.gpus, one.nodes) for one in found] == [
        (3, 5, 0.3333, ("1",)),
        (1, 4, 1.0, ("2",)),
        (32, 6, 0.25, ("3",)),
    ]
    # One size is for any machine, that of a number of workers too.
    assert [one.nodes for one in sized(RunSpec(device="cpu"), (16, 0), (4, 0))] == [()]
    (found,) = sized(RunSpec(device="cpu", workers=5), (16, 0), (6, 0))
    assert (found.workers, found.threads, found.nodes) == (5, 4, ())


@given(MACHINES, st.sampled_from(["cpu", "auto"]))
def test_those_of_each_machine_fit_on_it(machines: list[tuple[int, int]], device: str) -> None:
    for found in sized(RunSpec(device=device), *machines):
        mine = [machines[int(node)] for node in found.nodes] or [
            one for one in machines if found.device == "cpu" or one[1]
        ]
        room = [
            min(int(cpus / found.cpus + 1e-9), int(gpus / found.gpus) if found.gpus else 999)
            for cpus, gpus in mine
        ]
        assert sum(room) >= found.workers
        assert min(room) >= 1


def test_a_gpu_that_is_not_there_is_told_here_and_waited_for_on_a_cluster() -> None:
    with pytest.raises(RayUnavailable, match="Ray sees no GPU"):
        shared(RunSpec(device="cuda"), (8, 0))
    waiting = shared(RunSpec(device="cuda", address="auto"), (8, 0))
    assert (waiting.workers, waiting.device, waiting.gpus) == (0, "cuda", 1.0)
    assert shared(RunSpec(device="auto"), (8, 0)).device == "cpu"
    assert shared(RunSpec(device="cpu"), (8, 2)).gpus == 0
    assert shared(RunSpec(device="cpu", address="auto"), (0, 0)).workers == 0


@pytest.mark.slow
def test_ray_places_three_workers_on_one_gpu() -> None:
    @ray.remote
    class Placed:
        def gpus(self) -> list[int]:
            return list(ray.get_gpu_ids())

    with ray_session(RunSpec()):
        ray.shutdown()
        ray.init(address="local", num_cpus=16, num_gpus=1, include_dashboard=False)
        found = shares_of(RunSpec(device="cuda"), nodes_alive())
        placed = [Placed.options(**found.options).remote() for _ in range(found.workers)]  # type: ignore[attr-defined]
        assert ray.get([one.gpus.remote() for one in placed]) == [[0]] * 3
