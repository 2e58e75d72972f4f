"""The service against what its answers cost by themselves: one take of six cameras, ten seconds.

A real `takestream serve` over the embedded S3 server, asked over loopback by one client.

    python -m tests.benchmarks.service [--asked 300] [--more 3000]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import s3fs
import torch
from torch import Tensor

from configs.load import load_job
from models.encoder import load_encoder
from models.preprocess import frame_to_tensor, resize_and_crop
from service.demo.s3server import ObjectStore
from service.jobs.choose import choose_takes
from takestream.storage import join
from tests.benchmarks.measure import in_threads, make_take, show, timed
from tests.support.serving import Serving, service
from workers.clock.grid import make_grid
from workers.clock.probe import probe_take
from workers.dataset.base import source_of
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.media.decode import decode, rgb
from workers.media.source import Source
from workers.run.recipe import Recipe, make_recipe

STREAMS, START, END = 6, 12, 22
NPZ = "application/x-npz"
ARROW = "application/vnd.apache.arrow.stream"
NDJSON = "application/x-ndjson"


def main() -> None:
    """Print every figure beside its goal."""
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--asked", type=int, default=300, help="times for a median")
    asked.add_argument("--more", type=int, default=3000, help="answers that memory is seen after")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ObjectStore(Path(temporary) / "s3") as server:
        folder = Path(temporary) / "dataset"
        videos = {path.stem: path for path in make_take(folder, STREAMS)}
        os.environ.update(server.environment(os.environ))
        dataset = join(server.make_bucket("bench"), "dataset")
        output = join(server.make_bucket("bench"), "features")
        s3fs.S3FileSystem(**server.storage_options()).put(
            f"{folder}/", f"{dataset}/", recursive=True
        )
        recipe = make_recipe(load_job(None, {"dataset": dataset, "output": output}))
        ((take, _),) = choose_takes(recipe.job)
        before = alone(recipe, take, videos)
        arguments = ("--dataset", dataset, "--output", output)
        with service(Path(temporary) / "log", dict(os.environ), *arguments) as serving:
            figures(serving, before, lambda: alone(recipe, take, videos)[0], options)


def figures(
    serving: Serving,
    before: tuple[float, int],
    again: Callable[[], float],
    options: argparse.Namespace,
) -> None:
    """Ask for an uncached window, then for the same again and again."""
    seconds, touched = before
    with httpx.Client(base_url=serving.url, timeout=300) as client:

        def ask(kind: str, **more: float) -> httpx.Response:
            query = {"start": START, "end": END, **more}
            answer = client.get("/v1/takes/bench/features", params=query, headers={"Accept": kind})
            assert answer.status_code == 200, answer.text
            return answer

        read = _metric(client, "takestream_source_bytes_total")
        whole = timed(lambda: ask(NPZ))
        read = _metric(client, "takestream_source_bytes_total") - read
        first, streamed = _first_feature(client)
        seconds = (seconds + again()) / 2
        show("bytes on demand ÷ bytes of the GOPs touched and the index", read / touched, "≤ 1.25")
        show(
            "first feature, uncached 10 s × 6 ÷ its bytes + decode + encode",
            first / seconds,
            "≤ 1.25",
        )
        show("the whole streamed answer ÷ the same", streamed / seconds, "")
        show("the whole answer of a take never seen ÷ the same", whole / seconds, "")
        for kind in (NPZ, ARROW, "application/json"):
            times = [timed(lambda k=kind: ask(k)) * 1000 for _ in range(options.asked)]  # type: ignore[misc]
            show(f"cached 10 s × 6 streams as {kind}, p50, ms", statistics.median(times), "≤ 25")
        resident = {title: _resident(serving, title) for title in ("Api", "Engine")}
        for _ in range(options.more):
            ask(NPZ)
        for title, size in resident.items():
            grown = _resident(serving, title) / size
            words = f"memory of the {title.lower()} after {options.more:,} more answers ÷ before"
            show(words, grown, "1.0")


def _first_feature(client: httpx.Client) -> tuple[float, float]:
    """Seconds to the first feature line and to the last, of a window of another grid."""
    query: Mapping[str, Any] = {"start": START, "end": END, "fps": 29.5}
    url, began, first = "/v1/takes/bench/features", time.perf_counter(), 0.0
    with client.stream("GET", url, params=query, headers={"Accept": NDJSON}, timeout=300) as answer:
        for line in answer.iter_lines():
            if not first and '"features":[' in line:
                first = time.perf_counter() - began
    return first, time.perf_counter() - began


def alone(recipe: Recipe, take: Take, videos: Mapping[str, Path]) -> tuple[float, int]:
    """Seconds for a window's bytes, its decoding and its encoding, one after the other, each with
    all cores; and the bytes of the groups of pictures it touches with the files' indexes."""
    counters = Counters()
    probe, indexes = probe_take(take, recipe.dataset, counters)
    grid = make_grid(probe.frames, probe.rate, recipe.target.grid)
    clips = np.flatnonzero((grid.end_time() > START) & (grid.start_time() < END))
    ours = recipe.target.encoder
    seen = grid.source[grid.sampled(ours.frames, ours.sampling)[clips]]
    first, last = int(grid.start[clips[0]]), int(grid.stop[clips[-1]])
    wanted = frozenset(seen.ravel().tolist())
    spec = recipe.target.encoder.preprocess
    assert spec is not None
    touched, reads = 0, []
    for stream in take.streams:
        index = indexes[stream.key].index
        packets = slice(*index.packets(first, last))
        start = int(index.position[packets][0])
        stop = int((index.position + index.size)[packets].max())
        touched += int(index.size[packets].sum()) + _index_bytes(videos[stream.cam_id])
        assert stream.uri is not None
        reads.append((source_of(recipe.dataset, stream), start, stop))
    fetching = timed(lambda: in_threads([lambda r=r: r[0].read(*r[1:]) for r in reads]))  # type: ignore[misc]

    def decoded(name: str, source: Source) -> None:
        def convert(number: int, frame: Any) -> Tensor:
            return resize_and_crop(frame_to_tensor(rgb(frame)), spec)

        for _ in decode(source, indexes[name].index, first, last, wanted.__contains__, convert):
            pass

    work = [lambda s=s: decoded(s.key, source_of(recipe.dataset, s)) for s in take.streams]
    decoding = timed(lambda: in_threads(work)) - fetching
    encoder = load_encoder(recipe.target.encoder, torch.device("cpu"))
    frames = 1 if ours.shares_frames else ours.frames
    shape = (64 // frames, frames, *spec.size, 3)
    batch = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    encoder.encode(batch)
    encoding = timed(lambda: [encoder.encode(batch) for _ in range(8)]) / 8 / len(batch)
    encoded = len(wanted) if ours.shares_frames else len(clips)
    return fetching + decoding + encoding * encoded * len(take.streams), touched


def _index_bytes(video: Path) -> int:
    """The size of the file's boxes but the media."""
    size = 0
    with video.open("rb") as file:
        while header := file.read(8):
            length, kind = int.from_bytes(header[:4], "big"), header[4:]
            size += 0 if kind == b"mdat" else length
            file.seek(length - 8, os.SEEK_CUR)
    return size


def _metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " "))


def _resident(serving: Serving, title: str) -> int:
    (pid,) = serving.pids(f"ray::ServeReplica:takestream:{title}")
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


if __name__ == "__main__":
    main()
