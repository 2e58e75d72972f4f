"""`takestream demo`: all of it works, and nothing that it started outlives it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.children import with_default_signals

pytestmark = pytest.mark.e2e


def left_over(mark: str) -> list[str]:
    """Command lines of the processes whose environment carries `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"DEMO_MARK={mark}".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return [line for line in found if line]


def start(folder: Path, mark: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "takestream", "demo", "--dir", str(folder), "--json"],
        env={**os.environ, "DEMO_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_default_signals,
    )


def wait_until_gone(mark: str) -> list[str]:
    deadline = time.monotonic() + 20
    while (left := left_over(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def test_the_demo_end_to_end(example: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "demo", "whole"
    shutil.copytree(example, folder / "example")
    process = start(folder, mark)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    facts = json.loads(out)
    assert facts["verified"]
    assert facts["takes"]["complete"] == 2
    assert len(facts["pictures"]) == 2
    for picture in facts["pictures"]:
        with Image.open(picture) as image:
            assert image.width == 1600
            assert len(np.unique(np.asarray(image.convert("L").resize((200, 100))))) > 20
    assert len(list(folder.glob("features/*/*.zarr"))) == 2
    assert wait_until_gone(mark) == []


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_interrupted_it_leaves_nothing_running(
    number: signal.Signals, example: Path, tmp_path: Path
) -> None:
    folder, mark = tmp_path / "demo", f"interrupted-{number}"
    shutil.copytree(example, folder / "example")
    process = start(folder, mark)
    deadline = time.monotonic() + 120
    while not any("ray::Worker" in line for line in left_over(mark)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert wait_until_gone(mark) == []
