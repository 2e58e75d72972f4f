"""How long commands take to start: what only looks, what is refused, nothing to do, a small job.

    python -m tests.benchmarks.startup [--rounds 3]

Whole commands, in processes of their own, over a data set on disk and over S3 on loopback;
interleaved, medians. The start-up of a small job is its whole time without the work on its clips.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import s3fs

from service.demo.footage import encode_video
from service.demo.run import in_environment
from service.demo.s3server import ObjectStore
from tests.benchmarks.measure import SIZE
from tests.support.release import full_size
from tests.support.used import used

FRAMES = 64


def make_take(folder: Path) -> None:
    """A data set of one take: one camera, two seconds."""
    video = folder / "takes" / "t" / "cam01.mp4"
    video.parent.mkdir(parents=True)
    pictures = (np.full((*SIZE, 3), 3 * n % 255, dtype=np.uint8) for n in range(FRAMES))
    encode_video(video, pictures, audio=False)
    entry = {
        "take_uid": "t", "take_name": "t", "duration_sec": FRAMES / 30,
        "frame_aligned_videos": {"cam01": {"0": {"relative_path": "cam01.mp4"}}},
    }  # fmt: skip
    (folder / "takes.json").write_text(json.dumps([entry]))


def run(*arguments: str, refused: bool = False) -> tuple[float, str]:
    """Seconds of a command, and its output.

    Args:
        arguments: of takestream.
        refused: whether it is meant to fail.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "takestream", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    took = time.perf_counter() - began
    assert (done.returncode != 0) == refused, f"{arguments}: {done.stdout}{done.stderr}"
    return took, done.stdout


def measure(where: str, dataset: str, output: str, seconds: dict[str, list[float]]) -> None:
    """One round over a data set and an output that are somewhere."""
    places = ("--dataset", dataset, "--output", output)
    took, said = run("extract", *places, "--json")
    facts = json.loads(said)
    work = facts["counts"].get("encode_seconds", 0.0)
    seconds[f"a small job, whole command ({where})"].append(took)
    seconds[f"a small job, without its encoding ({where})"].append(took - work)
    commands: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("nothing to do", ("extract", *places)),
        ("takes", ("takes", dataset)),
        ("plan", ("plan", *places)),
        ("verify", ("verify", output)),
        ("inspect", ("inspect", facts["stores"][0])),
    )
    for name, arguments in commands:
        seconds[f"{name} ({where})"].append(run(*arguments)[0])
    wrong = (
        ("no such take", ("extract", *places, "--take-names", "other")),
        ("no such data set", ("extract", "--dataset", f"{dataset}-not", "--output", output)),
    )
    for name, arguments in wrong:
        seconds[f"{name} ({where})"].append(run(*arguments, refused=True)[0])


def measure_release(root: str, seconds: dict[str, list[float]], memory: dict[str, int]) -> None:
    """One round over a release of full size: 5,035 takes and the sizes of their videos."""
    for name, command in (
        ("takes of the whole release (disk)", ("takes", root)),
        ("plan of the whole release (disk)", ("plan", "--dataset", root, "--output", f"{root}/o")),
    ):
        took = used(*command)
        seconds[name].append(took.wall)
        memory[name] = max(memory.get(name, 0), took.mib)


def main() -> None:
    """Print seconds, medians of some rounds."""
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--rounds", type=int, default=3)
    rounds = asked.parse_args().rounds
    memory: dict[str, int] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_take(folder / "data")
        release = full_size().write(folder / "release")
        with ObjectStore(folder / "s3") as server, in_environment(server):
            dataset = server.make_bucket("bench")
            remote = s3fs.S3FileSystem(**server.storage_options())
            remote.put(f"{folder / 'data'}/", f"{dataset}/data/", recursive=True)
            bucket = server.make_bucket("out")
            for number in range(rounds):
                for name in ("--help", "encoders"):
                    seconds[name].append(run(name)[0])
                measure_release(release, seconds, memory)
                measure("disk", str(folder / "data"), str(folder / f"out{number}"), seconds)
                measure("S3", f"{dataset}/data", f"{bucket}/{number}", seconds)
                data = ("extract", "--dataset", f"{dataset}/data", "--output")
                took, _ = run(*data, "/dev/null/x", refused=True)
                seconds["an output that cannot be made (disk)"].append(took)
                os.environ["AWS_SECRET_ACCESS_KEY"], key = (
                    "wrong",
                    os.environ["AWS_SECRET_ACCESS_KEY"],
                )
                took, _ = run(*data, f"{bucket}/wrong", refused=True)
                seconds["a wrong key (S3)"].append(took)
                os.environ["AWS_SECRET_ACCESS_KEY"] = key
    for name, values in seconds.items():
        most = f", {memory[name]} MiB" if name in memory else ""
        print(f"{name:<50} {statistics.median(values):6.2f} s{most}")


if __name__ == "__main__":
    main()
