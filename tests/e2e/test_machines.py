"""A job on machines that come, die and prove unfit; several raylets on this one."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import xarray as xr
from ray.cluster_utils import Cluster

from configs.load import load_job
from configs.run import RunSpec
from service.jobs.choose import ChosenJob, choose
from tests.support.clusters import raylets, run
from workers.run import nodeproof
from workers.run.calibrate import calibrate
from workers.run.calibration import Calibration
from workers.run.pool import Pool
from workers.run.report import Progress
from workers.run.session import ray_session

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with raylets(monkeypatch) as cluster:
        yield cluster


@pytest.fixture
def chosen(
    cluster: Cluster,
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
) -> ChosenJob:
    """A job of 30 units on the cluster."""
    takes = {
        name: {"cam01_0": make_video(frames=320, seed=n), "cam02_0": make_video(frames=320, seed=9)}
        for n, name in enumerate("abc")
    }
    return choose(
        load_job(
            None,
            {
                "dataset": str(make_dataset(takes)),
                "output": str(tmp_path / "features"),
                "store": {"unit_frames": 32},
                "run": {"address": cluster.address, "device": "cpu"},
            },
        )
    )


def features(chosen: ChosenJob) -> dict[str, Any]:
    (folder,) = Path(chosen.recipe.job.output).glob(chosen.recipe.target.encoder_id)
    return {path.name: xr.open_zarr(path).load() for path in sorted(folder.glob("*.zarr"))}


def test_machines_that_come_later_work_and_those_that_die_cost_nothing(
    cluster: Cluster, chosen: ChosenJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes: list[Any] = []
    seen: set[str] = set()
    waited = [0]

    def happens(pool: Pool, progress: Progress) -> None:
        seen.update(slot.node for slot in pool._slots if slot.worker is not None)
        if not nodes:
            assert pool.alive == 0
            waited[0] += 1
            if waited[0] == 5:
                nodes.append(cluster.add_node(num_cpus=1))
        elif len(nodes) == 1 and progress.units_done >= 3:
            nodes.append(cluster.add_node(num_cpus=1))
        elif len(nodes) == 2 and len(seen) == 2:
            cluster.remove_node(nodes[0], allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))

    report = run(chosen, happens)
    assert report.ok, report.failures
    assert len(nodes) == 3
    assert len(seen) >= 2
    assert report.progress.units_done == report.progress.units == 30
    assert "is done elsewhere" in caplog.text
    assert "a worker died on" not in caplog.text
    found = features(chosen)
    alone = choose(
        chosen.recipe.job.model_copy(
            update={
                "output": str(tmp_path / "alone"),
                "run": chosen.recipe.job.run.model_copy(update={"address": None}),
            }
        )
    )
    cluster.shutdown()
    assert run(alone, lambda pool, progress: None).ok
    for name, expected in features(alone).items():
        for array in ("features", "valid", "frame_time", "reason"):
            assert np.array_equal(found[name][array], expected[array], equal_nan=True), name


def test_a_machine_that_sees_another_data_set_or_output_is_left_out_by_name(
    cluster: Cluster, chosen: ChosenJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add_node(num_cpus=1)
    # The driver's own view is changed, since all machines here have one disk.
    monkeypatch.setattr(nodeproof.Objects, "get", lambda self, key: None)
    report = run(chosen, lambda pool, progress: None)
    (failure,) = report.failures
    assert "no machine of the cluster can be used" in failure.reason
    assert "is not there for the driver" in failure.reason
    assert len(report.left_out) == 1
    assert report.progress.units_done == 0
    left = [path for path in Path(chosen.recipe.job.output).rglob("*") if path.is_file()]
    assert not left


def test_without_a_gpu_node_a_job_for_gpus_waits_and_runs_nowhere_else(
    cluster: Cluster, chosen: ChosenJob
) -> None:
    cluster.add_node(num_cpus=2)
    run_spec = chosen.recipe.job.run.model_copy(update={"device": "cuda", "max_wait": 4.0})
    job = chosen.recipe.job.model_copy(update={"run": run_spec})
    asked: list[dict[str, float]] = []

    def happens(pool: Pool, progress: Progress) -> None:
        assert pool.alive == 0
        asked.append(pool.shares.options)

    report = run(choose(job), happens)
    (failure,) = report.failures
    assert "no worker came up in" in failure.reason
    assert asked[0] == {"num_cpus": 1, "num_gpus": 1.0}
    assert report.progress.clips_done == 0


@pytest.fixture
def scaling() -> Iterator[str]:
    """The address of a cluster without machines, whose autoscaler adds two of one CPU at most."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    address = f"{ray.util.get_node_ip_address()}:{port}"
    machine = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2}
    config = {
        "cluster_name": "test",
        "max_workers": 2,
        "idle_timeout_minutes": 5,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True,
            "disable_launch_config_check": True, "gcs_address": address,
        },
        "auth": {}, "file_mounts": {}, "cluster_synced_files": [], "docker": {},
        "initialization_commands": [], "setup_commands": [], "head_setup_commands": [],
        "worker_setup_commands": [], "head_start_ray_commands": [], "worker_start_ray_commands": [],
        "head_node": {}, "worker_nodes": {}, "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "machine": machine,
        },
    }  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="ts-", ignore_cleanup_errors=True) as folder:
        file = Path(folder, "autoscaler.json")
        file.write_text(json.dumps(config))
        head = subprocess.Popen(
            [
                Path(sys.executable).parent / "ray", "start", "--head", "--block",
                f"--port={port}", f"--temp-dir={folder}", "--num-cpus=0",
                "--include-dashboard=false", f"--autoscaling-config={file}",
            ],
            env={
                **kept, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
            },
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while not answers(address):
                assert head.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
            yield address
        finally:
            ray.shutdown()
            head.terminate()
            try:
                head.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)
                head.wait()
            # The machines that the autoscaler made outlive it.
            for process in psutil.process_iter(["cmdline"]):
                if folder in " ".join(process.info["cmdline"] or ()):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def test_a_job_has_the_autoscaler_add_machines_from_none(
    scaling: str,
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_A")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    video = {"cam01_0": make_video(frames=320), "cam02_0": make_video(frames=320, seed=2)}
    job = {
        "dataset": str(make_dataset({"a": video, "b": video})),
        "output": str(tmp_path / "features"),
        "store": {"unit_frames": 32},
        "run": {"address": scaling, "device": "cpu"},
    }
    seen: set[str] = set()

    def happens(pool: Pool, progress: Progress) -> None:
        seen.update(slot.node for slot in pool._slots if slot.worker is not None)

    report = run(choose(load_job(None, job)), happens)
    assert report.ok, report.failures
    assert len(seen) == 2


def test_a_job_whose_own_raylet_dies_ends_with_a_sentence_and_goes_on_later(
    cluster: Cluster, chosen: ChosenJob, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=1)
    job = chosen.recipe.job
    words = [
        sys.executable, "-m", "takestream", "extract", "--dataset", job.dataset,
        "--output", job.output, "--unit-frames", "32", "--device", "cpu",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*words, "--address", cluster.address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(Path(job.output).glob("*/*.zarr/features/c/*/*/*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # This machine's first raylet, the head's, is the one that a driver joins.
    cluster.head_node.all_processes["raylet"][0].process.kill()
    killed = time.monotonic()
    out, err = process.communicate(timeout=90)
    assert time.monotonic() - killed < 45
    assert process.returncode == 1, (out, err)
    assert "Why it stopped" in out
    assert "raylet on this machine" in out
    assert "same command again to go on" in out.replace("\n", " ")
    assert "Traceback" not in out + err
    (report,) = Path(job.output).glob("*/reports/*.json")
    failures = json.loads(report.read_text())["failures"]
    assert [(f["kind"], f["take"]) for f in failures] == [("engine", "")]
    (store, *_) = Path(job.output).glob("*/*.zarr")
    written = {path: path.stat().st_mtime_ns for path in store.glob("features/c/*/*/*")}
    assert written
    again = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)
    assert again.returncode == 0, again
    assert written == {path: path.stat().st_mtime_ns for path in written}


def test_machines_of_two_sizes_have_workers_that_suit_them_and_are_measured_apart(
    cluster: Cluster, chosen: ChosenJob
) -> None:
    small, large = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=3)
    threads: dict[str, set[int]] = {}

    async def go() -> Calibration:
        async with Pool(chosen.recipe.job.run) as pool:
            sizes = {(one.workers, one.threads) for one in pool._slots.sizes}
            assert sizes == {(1, 1), (1, 3)}
            measuring = asyncio.create_task(calibrate(pool, chosen.recipe, chosen.takes, 12))
            while not measuring.done():
                for slot in pool._slots:
                    if slot.worker is not None:
                        threads.setdefault(slot.node, set()).add(slot.size.threads)
                await asyncio.sleep(0.1)
            return measuring.result()

    with ray_session(chosen.recipe.job.run):
        found = asyncio.run(asyncio.wait_for(go(), 200))
    assert threads == {small.node_id: {1}, large.node_id: {3}}
    assert {one.size.threads: one.workers for one in found.sizes} == {1: 1, 3: 1}
    assert sum(one.units for one in found.sizes) == found.units == 12
    assert all(one.clips_per_s[1] > 0 for one in found.sizes)


def test_a_larger_machine_that_comes_later_has_larger_workers(
    cluster: Cluster, chosen: ChosenJob
) -> None:
    small = cluster.add_node(num_cpus=1)
    added: list[Any] = []
    threads: dict[str, set[int]] = {}

    def happens(pool: Pool, progress: Progress) -> None:
        if not added and progress.units_done >= 2:
            added.append(cluster.add_node(num_cpus=2))
        for slot in pool._slots:
            # One that was asked for before its machine was known may be there for a moment.
            if slot.worker is not None and not slot.withdrawn:
                threads.setdefault(slot.node, set()).add(slot.size.threads)

    report = run(chosen, happens)
    assert report.ok, report.failures
    assert report.progress.units_done == 30
    assert threads[small.node_id] == {1}
    assert 2 in threads[added[0].node_id]
    assert not report.progress.counts.get("workers_lost")


def test_gpus_are_shared_as_the_cores_of_their_own_machine_allow(cluster: Cluster) -> None:
    few = cluster.add_node(num_cpus=4, num_gpus=1)
    many = cluster.add_node(num_cpus=10, num_gpus=1)
    run_spec = RunSpec(device="cuda", address=cluster.address)

    async def go() -> list[tuple[str, Any]]:
        async with Pool(run_spec) as pool:
            while pool.alive < 3:
                await asyncio.sleep(0.2)
            return sorted(
                (slot.node, slot.size.gpu_share) for slot in pool._slots if slot.worker is not None
            )

    with ray_session(run_spec):
        found = asyncio.run(asyncio.wait_for(go(), 120))
    expected = [(few.node_id, 1.0), (many.node_id, 0.5), (many.node_id, 0.5)]
    assert found == sorted(expected)
