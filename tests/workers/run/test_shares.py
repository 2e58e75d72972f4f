"""How workers share the GPUs and cores of a cluster; Ray's own count of them."""

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import RunSpec
from workers.run.session import RayUnavailable, ray_session
from workers.run.shares import Shares, shares_of


def shared(run: RunSpec, cpus: int, gpus: int) -> Shares:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "cluster_resources", lambda: {"CPU": float(cpus), "GPU": float(gpus)})
        return shares_of(run)


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
    found = shared(RunSpec(device="cuda"), cpus, gpus)
    assert (found.workers, found.gpus, found.threads) == (workers, part, threads)


@given(st.integers(1, 512), st.integers(1, 64), st.one_of(st.just("auto"), st.integers(1, 300)))
def test_they_fit_on_the_cluster(cpus: int, gpus: int, workers: int | str) -> None:
    found = shared(RunSpec(device="cuda", workers=workers), cpus, gpus)
    on_each = round(found.gpus * 10_000)
    assert found.workers <= gpus * (10_000 // on_each)
    assert found.workers * found.cpus <= cpus * (1 + 1e-9)
    assert found.threads >= 1


def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(RayUnavailable, match="Ray sees no GPU"):
        shared(RunSpec(device="cuda"), 8, 0)
    assert shared(RunSpec(device="auto"), 8, 0).device == "cpu"
    assert shared(RunSpec(device="cpu"), 8, 2).gpus == 0


@pytest.mark.slow
def test_ray_places_three_workers_on_one_gpu() -> None:
    @ray.remote
    class Placed:
        def gpus(self) -> list[int]:
            return list(ray.get_gpu_ids())

    with ray_session(RunSpec()):
        ray.shutdown()
        ray.init(address="local", num_cpus=16, num_gpus=1, include_dashboard=False)
        found = shares_of(RunSpec(device="cuda"))
        placed = [Placed.options(**found.options).remote() for _ in range(found.workers)]  # type: ignore[attr-defined]
        assert ray.get([one.gpus.remote() for one in placed]) == [[0]] * 3
