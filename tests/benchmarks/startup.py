"""How long commands take to start: what only looks, what is refused, nothing to do, a small job.

Whole commands, in processes of their own, over a data set on disk and over S3 on loopback;
interleaved, medians. The start-up of a small job is its whole time without the work on its clips.
"""

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

ROUNDS, FRAMES = 3, 64


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


def run(*arguments: str) -> tuple[float, str]:
    """Seconds of a command, and its output."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "takestream", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return time.perf_counter() - began, done.stdout


def measure(where: str, dataset: str, output: str, seconds: dict[str, list[float]]) -> None:
    """One round over a data set and an output that are somewhere."""
    places = ("--dataset", dataset, "--output", output)
    took, said = run("extract", *places, "--json")
    facts = json.loads(said)
    work = facts["counts"].get("encode_seconds", 0.0)
    seconds[f"a small job, whole command ({where})"].append(took)
    seconds[f"a small job, without its encoding ({where})"].append(took - work)
    for name, arguments in (
        ("nothing to do", ("extract", *places)),
        ("takes", ("takes", dataset)),
        ("plan", ("plan", *places)),
        ("verify", ("verify", output)),
        ("inspect", ("inspect", facts["stores"][0])),
        ("no such take", ("extract", *places, "--take-names", "other")),
        ("no such data set", ("extract", "--dataset", f"{dataset}-not", "--output", output)),
    ):
        seconds[f"{name} ({where})"].append(run(*arguments)[0])


def main() -> None:
    """Print seconds, medians of some rounds."""
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_take(folder / "data")
        with ObjectStore(folder / "s3") as server, in_environment(server):
            dataset = server.make_bucket("bench")
            remote = s3fs.S3FileSystem(**server.storage_options())
            remote.put(f"{folder / 'data'}/", f"{dataset}/data/", recursive=True)
            bucket = server.make_bucket("out")
            for number in range(ROUNDS):
                for name in ("--help", "encoders"):
                    seconds[name].append(run(name)[0])
                measure("disk", str(folder / "data"), str(folder / f"out{number}"), seconds)
                measure("S3", f"{dataset}/data", f"{bucket}/{number}", seconds)
                wrong = ("--dataset", f"{dataset}/data", "--output", "s3://no-such-bucket/x")
                seconds["no such bucket (S3)"].append(run("extract", *wrong)[0])
                os.environ["AWS_SECRET_ACCESS_KEY"], key = (
                    "wrong",
                    os.environ["AWS_SECRET_ACCESS_KEY"],
                )
                seconds["a wrong key (S3)"].append(run("extract", *wrong)[0])
                os.environ["AWS_SECRET_ACCESS_KEY"] = key
    for name, values in seconds.items():
        print(f"{name:<50} {statistics.median(values):6.2f} s")


if __name__ == "__main__":
    main()
