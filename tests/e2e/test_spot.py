"""Machines that are taken back with notice, and a driver that dies: nothing is lost or repeated."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
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


class Head:
    """A Ray cluster of one machine at an address of its own, in processes that can be killed."""

    def __init__(self, port: int, folder: str) -> None:
        self._folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        subprocess.run(
            [
                Path(sys.executable).parent / "ray", "start", "--head", f"--port={port}",
                f"--temp-dir={folder}", "--num-cpus=2", "--include-dashboard=false",
            ],
            env={**kept, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
            check=True, capture_output=True, timeout=90,
        )  # fmt: skip

    def kill(self, only: str = "") -> None:
        """Its processes at once, or those of one kind."""
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if self._folder in words and only in words:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def test_a_head_that_dies_and_comes_back_costs_what_was_in_flight(
    make_video: Callable[..., Path], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    video = {"cam01_0": make_video(frames=320), "cam02_0": make_video(frames=320, seed=2)}
    root, output = make_dataset(dict.fromkeys("abcdef", video)), tmp_path / "out"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def begin() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                sys.executable, "-m", "takestream", "extract", "--dataset", root,
                "--output", output, "--unit-frames", "32", "--device", "cpu", "--json",
                "--address", f"{ray.util.get_node_ip_address()}:{port}",
            ],
            env={**kept, "RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def chunks() -> dict[Path, int]:
        found = output.glob("*/*.zarr/features/c/*/*/*")
        return {path: path.stat().st_mtime_ns for path in found}

    with tempfile.TemporaryDirectory(prefix="ts-", ignore_cleanup_errors=True) as folder:
        heads = [Head(port, f"{folder}/1")]
        try:
            job = begin()
            until = time.monotonic() + 150
            while len(chunks()) < 20:
                assert job.poll() is None, job.communicate()
                assert time.monotonic() < until
                time.sleep(0.2)
            # Its machine dies; the driver, with a raylet beside it, is on another.
            heads[0].kill("gcs_server")
            out, said = job.communicate(timeout=120)
            heads[0].kill()
            assert job.returncode == 1, said
            (why,) = [f["reason"] for f in json.loads(out)["failures"] if f["kind"] == "engine"]
            assert "head of the Ray cluster" in why
            assert "Run the same command again" in why
            before = chunks()
            assert 20 <= len(before) < 120
            heads.append(Head(port, f"{folder}/2"))
            again = begin()
            out, said = again.communicate(timeout=200)
        finally:
            for head in heads:
                head.kill()
    assert again.returncode == 0, said
    facts = json.loads(out)
    after = chunks()
    assert len(after) == 120
    # Nothing that was written is written again; of a unit in flight one stream may have been.
    assert {path: after[path] for path in before} == before
    assert facts["units"]["done"] <= 60 - len(before) // 2 + 2
    assert facts["takes"]["complete"] == 6
