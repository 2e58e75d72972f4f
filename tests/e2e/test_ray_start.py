"""Ray's start, in our own words: on a busy machine, without space, and with nothing of its own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.children import with_default_signals

pytestmark = pytest.mark.e2e

Extract = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def extract(make_video: Callable[..., Path], make_dataset: Callable[..., Path]) -> Extract:
    """extract(output, **environment) → a small job, started."""
    dataset = make_dataset({"a": {"cam01_0": make_video(frames=64)}})

    def start(output: Path, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "takestream", "extract", "--dataset", str(dataset),
             "--output", str(output)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=with_default_signals,
        )  # fmt: skip

    return start


@pytest.fixture
def small_folder() -> Iterator[Path]:
    """A folder of a file system of 64 KiB: enough to be taken for a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="s-", dir="/tmp"))  # short, as sockets need it
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_nothing_that_ray_says_is_said(extract: Extract, tmp_path: Path) -> None:
    # With this set Ray's compiled part writes a line to the standard error itself.
    process = extract(tmp_path / "out", RAY_BACKEND_LOG_LEVEL="error")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, (out, err)
    assert [line for line in err.splitlines() if not line.startswith("progress ")] == []
    assert out.startswith("1 of 1 take complete")


def test_no_space_for_ray_is_told_with_the_folder(
    extract: Extract, small_folder: Path, tmp_path: Path
) -> None:
    process = extract(tmp_path / "out", TMPDIR=str(small_folder))
    out, err = process.communicate(timeout=200)
    assert process.returncode == 2, (out, err)
    (line,) = [line for line in err.splitlines() if not line.startswith("progress ")]
    assert line.startswith(
        f"takestream: error: Ray cannot be started: {small_folder} has 0 MiB left"
    )
    assert "TMPDIR" in line


@pytest.mark.slow
def test_four_jobs_start_at_once(extract: Extract, tmp_path: Path) -> None:
    jobs = [extract(tmp_path / f"out{n}") for n in range(4)]
    ended = [job.communicate(timeout=280) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4, ended
    assert len(list(tmp_path.glob("out*/*/*.zarr/zarr.json"))) == 4
