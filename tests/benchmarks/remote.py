"""What S3 costs: bytes, requests, latency, and how soon the first clip is there.

    python -m tests.benchmarks.remote [--frames 900] [--rounds 3] [--json FILE] [--data FOLDER]

The take of `stages` behind the embedded S3 server, reached through a proxy that waits 30 ms before
each answer, or not at all: the proxy itself costs time, so both lines pay for it.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import s3fs
import torch

from configs.load import load_job
from models.encoder import Encoder, load_encoder
from service.demo.s3server import ObjectStore
from service.jobs.choose import choose_takes
from takestream.storage import join
from tests.benchmarks.footage import real_take
from tests.benchmarks.measure import show
from tests.benchmarks.stages import FreeEncoder, extract, interleaved
from tests.support.fault_proxy import fault_proxy, slow
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe, make_recipe
from workers.run.tasks import ClipPart, ClipRange

LATENCY = 0.03
# With fewer frames there is no clip 20 to ask for.
LEAST = 400


def first_clip(recipe: Recipe, encoder: Encoder) -> tuple[float, float]:
    """Seconds until one clip of all streams is there: nothing known yet, and the next one."""
    began = time.perf_counter()
    extractor = UnitExtractor(recipe, [encoder], torch.device("cpu"))
    ((take, streams),) = choose_takes(recipe.job)
    extractor.prepare(take, streams)
    seconds = []
    for clip in (0, 20):
        wanted = ClipRange(0, clip, clip + 1, tuple(streams))
        parts = [p for p in extractor.window(take, wanted) if isinstance(p, ClipPart)]
        assert len(parts) == len(streams)
        assert all(part.reason[0] == 0 for part in parts)
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    return seconds[0], seconds[1]


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--frames", type=int, default=900)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--data", type=Path)
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()
    if options.frames < LEAST:
        asked.error(f"--frames: at least {LEAST}, so that there is another clip, 20 on")
    with tempfile.TemporaryDirectory() as scratch, ObjectStore(Path(scratch) / "s3") as server:
        folder = options.data or Path(scratch) / "footage"
        videos = real_take(folder, 4, options.frames)
        size = sum(video.stat().st_size for video in videos)
        os.environ.update(server.environment(os.environ))
        dataset = join(server.make_bucket("bench"), "dataset")
        s3fs.S3FileSystem(**server.storage_options()).put(
            f"{folder}/", f"{dataset}/", recursive=True
        )
        made = 0

        def recipe(endpoint: str | None) -> Recipe:
            nonlocal made
            made += 1
            where = str(folder) if endpoint is None else dataset
            s3 = {} if endpoint is None else {"s3": {"endpoint_url": endpoint}}
            job = {"dataset": where, "output": str(Path(scratch) / str(made)), **s3}
            return make_recipe(load_job(None, job))

        encoder = load_encoder(recipe(None).target.encoder, torch.device("cpu"))
        free = FreeEncoder(encoder.spec)
        with fault_proxy(server.endpoint_url) as near, fault_proxy(server.endpoint_url) as far:
            far.fault(slow(LATENCY), method="GET")
            far.fault(slow(LATENCY), method="HEAD")
            work = {
                "local files": lambda: extract(recipe(None), encoder),
                "S3": lambda: extract(recipe(server.endpoint_url), encoder),
                "proxy": lambda: extract(recipe(near.endpoint_url), encoder),
                "proxy, 30 ms": lambda: extract(recipe(far.endpoint_url), encoder),
            }
            lines = interleaved(work, options.rounds)
            cold, warm = first_clip(recipe(far.endpoint_url), encoder)
        counts = extract(recipe(server.endpoint_url), free)
    frames = 4 * options.frames
    for name, line in lines.items():
        print(f"{name:<20} {line.wall:6.2f} s {frames / line.wall:7.0f} frames/s")
    found = {
        "bytes fetched ÷ object size": (counts["bytes_read"] / size, "≤ 1.02"),
        "S3 on loopback ÷ local files": (lines["S3"].wall / lines["local files"].wall, "≤ 1.10"),
        "30 ms a request ÷ none": (lines["proxy, 30 ms"].wall / lines["proxy"].wall, "≤ 1.10"),
        "first clip of all streams, 30 ms a request, nothing known, s": (cold, ""),
        "the next one, 20 clips on, s": (warm, ""),
    }
    for what, (value, goal) in found.items():
        show(what, value, goal)
    print(f"{counts['requests']:.0f} requests, {counts['bytes_read'] / 1e6:.1f} MB")
    if options.json:
        options.json.write_text(json.dumps({what: value for what, (value, _) in found.items()}))


if __name__ == "__main__":
    main()
