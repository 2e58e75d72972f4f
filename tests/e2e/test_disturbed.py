"""Killed, interrupted, crashed: the store ends up as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

from tests.support.children import with_default_signals

pytestmark = pytest.mark.e2e

# Kills the worker process as soon as it decodes the stream that the environment names.
POISON = """
import os
if os.environ.get("POISON"):
    import importlib.abc, sys
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "workers.run.extract":
                sys.meta_path.remove(self)
                import workers.media.decode as decoding
                plain = decoding.decode
                def poisoned(source, *rest, **more):
                    if os.environ["POISON"] in source.uri:
                        os.kill(os.getpid(), 9)
                    return plain(source, *rest, **more)
                decoding.decode = poisoned
            return None
    sys.meta_path.insert(0, Finder())
"""


def workers_of(parent: int) -> list[int]:
    """Pids of the Ray workers below a process that hold an encoder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"ray::Worker" in title and f"RUN_MARK={parent}".encode() in environment:
                found.append(int(entry.name))
    return found


@pytest.fixture
def job(make_video: Callable[..., Path], make_dataset: Callable[..., Path]) -> tuple[str, ...]:
    take = {"cam01_0": make_video(frames=220), "cam02_0": make_video(frames=220, seed=2)}
    dataset = make_dataset({"a": take, "b": {"aria01_rgb": make_video(frames=150, seed=5)}})
    return ("extract", "--dataset", str(dataset), "--unit-frames", "64", "--json")


def start(job: tuple[str, ...], output: Path) -> subprocess.Popen[str]:
    mark = str(time.monotonic_ns())
    process = subprocess.Popen(
        [sys.executable, "-m", "takestream", *job, "--output", str(output)],
        env={**os.environ, "RUN_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_default_signals,
    )
    process.mark = int(mark)  # type: ignore[attr-defined]
    return process


def wait_for_chunks(output: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(list(output.glob("*/*.zarr/features/c/*/*/*"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stores(output: Path) -> dict[str, xr.Dataset]:
    return {path.name: xr.open_zarr(path).load() for path in output.glob("*/*.zarr")}


def same(first: Path, second: Path) -> None:
    one, two = stores(first), stores(second)
    assert one.keys() == two.keys()
    for name in one:
        xr.testing.assert_identical(one[name], two[name])


@pytest.fixture
def undisturbed(job: tuple[str, ...], takestream: Callable, tmp_path: Path) -> Path:
    output = tmp_path / "undisturbed"
    done = takestream(*job, "--output", output)
    assert done.returncode == 0, done.stderr
    return output


def test_killed_worker_and_interrupted_driver_leave_an_equal_store(
    job: tuple[str, ...], undisturbed: Path, takestream: Callable, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    process = start(job, output)
    wait_for_chunks(output, 1, process)
    victims = workers_of(process.mark)  # type: ignore[attr-defined]
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    facts = json.loads(out)
    assert facts["failures"] == []
    assert facts["counts"]["workers_lost"] == len(victims)
    same(undisturbed, output)

    output = tmp_path / "interrupted"
    process = start(job, output)
    wait_for_chunks(output, 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    half = len(list(output.glob("*/*.zarr/features/c/*/*/*")))
    done = takestream(*job, "--output", output)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["clips"]["found"] > 0
    assert half < len(list(output.glob("*/*.zarr/features/c/*/*/*")))
    same(undisturbed, output)


@pytest.mark.slow
def test_a_stream_that_kills_its_worker_is_named_and_the_others_written(
    job: tuple[str, ...], takestream: Callable, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(POISON)
    output = tmp_path / "features"
    env = {"PYTHONPATH": str(tmp_path / "site"), "POISON": "cam02_0"}
    done = takestream(*job, "--output", output, "--unit-frames", "4096", env=env)
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert [(f["take"], f["stream"]) for f in facts["failures"]] == [("a", "cam02_0")]
    found = stores(output)
    assert found["uid-b.zarr"].attrs["status"] == "complete"
    assert found["uid-a.zarr"].attrs["status"] == "partial"
    assert found["uid-a.zarr"].valid.sel(stream="cam01_0").all()
    healed = takestream(*job, "--output", output, "--unit-frames", "4096")
    assert healed.returncode == 0, healed.stderr
    assert stores(output)["uid-a.zarr"].valid.all()


@pytest.mark.slow
def test_a_chunk_that_is_taken_away_while_the_job_runs_is_a_failure(
    job: tuple[str, ...], undisturbed: Path, takestream: Callable, tmp_path: Path
) -> None:
    output = tmp_path / "features"
    process = start(job, output)
    wait_for_chunks(output, 1, process)
    next(output.glob("*/*.zarr/features/c/*/*/*")).unlink()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    facts = json.loads(out)
    assert not facts["ok"]
    (failure,) = facts["failures"]
    assert failure["kind"] == "incomplete"
    assert "clips that were written are not in the store" in failure["reason"]
    assert facts["units"]["failed"] == 0
    again = takestream(*job, "--output", output)
    assert again.returncode == 0, again.stderr
    same(undisturbed, output)
