"""Windows of several processes: process groups, accelerate, and machines without shared memory."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import takestream
from tests.takestream.training.test_windows import TAKES, all_windows, write

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("features"))
    for uid in TAKES:
        write(root, uid)
    return root


def run_ranks(script: Path | str, *arguments: str) -> str:
    """What two processes of a group printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout if done.returncode == 0 else done.stderr


def test_several_ranks_have_as_many_windows_each(output: str) -> None:
    def sizes(**given: bool) -> list[int]:
        return [
            len(list(takestream.Windows(output, length=8, rank=rank, world_size=4, **given)))
            for rank in range(4)
        ]

    assert sizes() == [3, 3, 3, 3]
    assert sum(sizes(even=False)) == 14
    assert len(takestream.Windows(output, length=8)) == 14


SEEN = """
import sys
import takestream
from accelerate import Accelerator
from torch.utils.data import DataLoader
accelerator = Accelerator(cpu=True)
windows = takestream.Windows(sys.argv[1], length=8, even=False)
loader = DataLoader(windows, batch_size=2, num_workers=int(sys.argv[3]))
if sys.argv[2] != "plain":
    loader = accelerator.prepare(loader)
for batch in loader:
    for take, clip in zip(batch["take"], batch["clip"][:, 0].tolist(), strict=True):
        sys.stdout.write(f"seen {take} {clip}\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
def test_under_accelerate_all_windows_are_seen_or_none(
    output: str, tmp_path: Path, workers: str
) -> None:
    script = tmp_path / "seen.py"
    script.write_text(SEEN)
    said = run_ranks(script, output, "plain", workers)
    seen = [line.split() for line in said.splitlines() if line.startswith("seen")]
    assert Counter((take, int(clip)) for _, take, clip in seen) == all_windows(8, 8)
    assert "leave the loader out of accelerator.prepare" in run_ranks(
        script, output, "prepared", workers
    )


@pytest.mark.slow
def test_the_example_trains_with_accelerate(output: str) -> None:
    example = ROOT / "examples" / "train_accelerate.py"
    said = run_ranks(example, output, "--cpu", "--epochs", "2")
    assert "epoch 1: loss" in said
    assert said.count("over 14 windows") == 2


def test_without_shared_memory_this_process_reads_all_the_same(output: str) -> None:
    code = """
import resource, signal, sys
import takestream
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nothing can be put into /dev/shm
windows = takestream.Windows(sys.argv[1], length=8)
windows.set_epoch(1)
shared = windows._epoch.is_shared()
sys.stdout.write(f"{len(list(windows))} {shared}")
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, output], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stdout == "14 False", done.stderr


def test_windows_say_what_they_are(output: str) -> None:
    said = repr(takestream.Windows(output, length=8, step=4, rank=1, world_size=2))
    assert said == (
        "<takestream Windows: 12 windows of 8 clips, one every 4 for rank 1 of 2, of 3 takes;"
        " 3 streams (aria01_rgb, cam01_0, cam02_0), numbers a clip: 16 by encoder-0123456789>"
    )
    assert "3 whole takes, of 3 takes" in repr(takestream.Windows(output, whole_takes=True))
