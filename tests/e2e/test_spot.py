"""Machines that are taken back with notice, and a driver that dies: nothing is lost or repeated."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import xarray as xr
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from configs.load import load_job
from service.jobs.choose import choose
from tests.support.clusters import raylets, run
from workers.run.pool import Pool
from workers.run.report import Progress

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with raylets(monkeypatch) as cluster:
        yield cluster


def drain(cluster: Cluster, node: Any, seconds: float) -> None:
    """As a provider's notice that a spot machine goes, by way of Ray's autoscaler."""
    accepted, why = ray._raylet.GcsClient(address=cluster.address).drain_node(
        node.node_id,
        autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "spot",
        int((time.time() + seconds) * 1000),
    )
    assert accepted, why


def test_work_moves_before_a_spot_machine_goes_and_no_unit_is_done_twice(
    cluster: Cluster,
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    video = {"cam01_0": make_video(frames=320), "cam02_0": make_video(frames=320, seed=2)}
    settings = {
        "dataset": str(make_dataset(dict.fromkeys("abcd", video))),
        "output": str(tmp_path / "out"), "store": {"unit_frames": 32},
        "run": {"address": cluster.address, "device": "cpu"},
    }  # fmt: skip
    chosen = choose(load_job(None, settings))
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    gone: list[float] = []
    on_it: list[int] = []

    def happens(pool: Pool, progress: Progress) -> None:
        workers = [slot for slot in pool._slots if slot.node == nodes[0].node_id]
        if not gone and progress.units_done >= 4 and pool.alive == 2:
            drain(cluster, nodes[0], 60)
            gone.append(time.monotonic())
        elif gone and len(gone) == 1:
            on_it.append(sum(slot.worker is not None for slot in workers))
            if not on_it[-1]:
                # The provider takes it. Nothing of the job is there any more.
                gone.append(time.monotonic())
                cluster.remove_node(nodes[0], allow_graceful=False)

    report = run(chosen, happens)
    assert report.ok, report.failures
    assert len(gone) == 2
    assert "is taken back in" in caplog.text
    assert "is done elsewhere" not in caplog.text
    counts = report.progress.counts
    assert not counts.get("workers_lost")
    assert report.progress.units_done == report.progress.units == 40
    # Each clip was encoded once: what ran when the notice came was finished, and no more begun.
    clips = sum(int(xr.open_zarr(uri).valid.size) for uri in report.stores)
    assert report.progress.clips_done == clips == counts["clips"]


def test_a_notice_of_seconds_gives_the_unit_back_between_two_batches(
    cluster: Cluster,
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
) -> None:
    video = {"cam01_0": make_video(frames=320), "cam02_0": make_video(frames=320, seed=2)}
    settings = {
        "dataset": str(make_dataset(dict.fromkeys("abcd", video))),
        "output": str(tmp_path / "out"), "store": {"unit_frames": 320},
        "run": {"address": cluster.address, "device": "cpu", "batch_size": 1},
    }  # fmt: skip
    chosen = choose(load_job(None, settings))
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    drained: list[bool] = []

    def happens(pool: Pool, progress: Progress) -> None:
        there = [s for s in pool._slots if s.node == nodes[0].node_id and s.running and s.counts]
        if not drained and there and pool.alive == 2:
            drain(cluster, nodes[0], 5)
            drained.append(True)

    report = run(chosen, happens)
    assert drained
    assert report.ok, report.failures
    assert not report.progress.counts.get("workers_lost")
    assert report.progress.units_done == report.progress.units == 4
