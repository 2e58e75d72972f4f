"""Ray's own processes die, or workers do not come up: the job ends with a sentence, and soon."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.children import processes, with_default_signals

pytestmark = pytest.mark.e2e

# Kills each worker process of Ray as it imports what it works with.
POISON = """
import os, sys
if any("default_worker" in word for word in sys.argv):
    import importlib.abc
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "workers.run.extract":
                os.kill(os.getpid(), 9)
    sys.meta_path.insert(0, Finder())
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def start(
    make_video: Callable[..., Path], make_dataset: Callable[..., Path], output: Path
) -> Iterator[Start]:
    """start(**environment) → a running job of some minutes, marked so that `processes` finds it."""
    take = {f"cam0{n}_0": make_video(frames=2000, seed=n) for n in (1, 2)}
    dataset = make_dataset({"a": take})
    started: list[subprocess.Popen[str]] = []

    def begin(**environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "takestream", "extract", "--dataset", str(dataset),
             "--output", str(output), "--unit-frames", "64"],
            env={**os.environ, "RUN_MARK": str(output), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=with_default_signals,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def wait_for_chunks(output: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 200
    while not list(output.glob("*/*.zarr/features/c/*/*/*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_nothing_is_left(output: Path) -> None:
    deadline = time.monotonic() + 10
    while left := processes(f"RUN_MARK={output}"):
        assert time.monotonic() < deadline, [
            Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left
        ]
        time.sleep(0.2)


@pytest.mark.parametrize("title", ["raylet", pytest.param("gcs_server", marks=pytest.mark.slow)])
def test_a_lost_node_ends_the_job_with_summary_and_report(
    start: Start, output: Path, title: str
) -> None:
    process = start()
    wait_for_chunks(output, process)
    (pid,) = processes(f"RUN_MARK={output}", f"/{title} ")
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    out, err = process.communicate(timeout=90)
    took = time.monotonic() - killed
    assert process.returncode == 1, (out, err)
    assert took < 45, took  # about 10 s where nothing else runs
    assert "Why it stopped" in out
    assert f"{title.replace('_', ' ')} process on this machine died (signal 9)" in out
    assert "again" in out
    assert "fault of takestream" not in out + err
    assert "Traceback" not in out + err
    (report,) = output.glob("*/reports/*.json")
    facts = json.loads(report.read_text())
    assert not facts["ok"]
    # No unit is blamed for it.
    assert [(f["kind"], f["fatal"], f["take"]) for f in facts["failures"]] == [
        ("engine", True, "")
    ]  # fmt: skip
    assert_nothing_is_left(output)


def test_nothing_of_ray_outlives_a_driver_that_is_killed(start: Start, output: Path) -> None:
    process = start()
    wait_for_chunks(output, process)
    (raylet,) = processes(f"RUN_MARK={output}", "/raylet ")
    # Their environment may be lost under their title.
    agents = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    assert len(agents) > 2
    process.kill()
    process.communicate()
    assert_nothing_is_left(output)
    deadline = time.monotonic() + 10
    while left := [pid for pid in agents if Path(f"/proc/{pid}/cmdline").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.mark.slow
def test_workers_that_do_not_come_up_are_not_the_unit_s_fault(
    start: Start, output: Path, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(POISON)
    process = start(PYTHONPATH=f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1, (out, err)
    assert "workers do not come up here: 3 in a row died while they started" in out
    assert "MiB of memory are free" in out
    assert "took its worker down" not in out + err
    (report,) = output.glob("*/reports/*.json")
    assert [f["kind"] for f in json.loads(report.read_text())["failures"]] == ["engine"]
    assert_nothing_is_left(output)
