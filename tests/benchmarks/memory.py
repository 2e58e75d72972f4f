"""Peak memory of a process that extracts a take, against the take's length.

    python -m tests.benchmarks.memory [--minutes 1 5 20] [--streams 6] [--data FOLDER]

Each length in a process of its own, with the default encoder; six streams of real footage at
448 px, ten seconds of it many times in a row.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import torch

from configs.load import load_job
from models.encoder import load_encoder
from service.demo.footage import encode_video
from tests.benchmarks.footage import describe, pictures
from tests.benchmarks.gpu_material import repeat
from tests.benchmarks.stages import extract
from workers.run.recipe import make_recipe


def child(dataset: str, output: str) -> None:
    """Extract, and print the process's peak memory in MiB before and after."""
    recipe = make_recipe(load_job(None, {"dataset": dataset, "output": output}))
    encoder = load_encoder(recipe.target.encoder, torch.device("cpu"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    extract(recipe, encoder)
    print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
        return
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 20])
    asked.add_argument("--streams", type=int, default=6)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        once = Path(scratch) / "once.mp4"
        frames = islice(pictures(0, 300, (448, 796)), 300)
        encode_video(once, frames, audio=False, bframes=0, crf=26, threads=2)
        for minutes in options.minutes:
            folder = Path(scratch) / f"{minutes:g}"
            videos = describe(folder, options.streams)
            repeat(once, videos[0], round(minutes * 6))
            for video in videos[1:]:
                shutil.copyfile(videos[0], video)
            command = [sys.executable, "-m", "tests.benchmarks.memory", "child"]
            done = subprocess.run(
                [*command, str(folder), str(folder / "out")],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            before, after = map(float, done.stdout.split())
            title = f"{options.streams} streams, {minutes:g} min"
            print(f"{title}: {after / 1024:.2f} GiB, {before / 1024:.2f} before", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
