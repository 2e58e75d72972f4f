"""Where the time of a job goes: each stage alone, a careful script, and takestream, interleaved.

    python -m tests.benchmarks.stages [--frames 1800] [--rounds 5] [--json FILE] [--chart FILE]
    python -m tests.benchmarks.stages --size 3840x2160 --streams 2 --frames 120 --rounds 3

Four streams of real footage as local files. Every line is measured once in each round, all in this
process; what is printed are medians of wall and CPU time, so that a busy machine slows all lines
alike.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import torch
from torch import Tensor

from configs.load import load_job
from configs.schema import EncoderSpec
from models.encoder import Encoder, load_encoder
from models.preprocess import frame_to_tensor, resize_and_crop
from service.jobs.choose import choose_takes
from tests.benchmarks.careful import careful, careful_network
from tests.benchmarks.footage import real_take
from tests.benchmarks.measure import in_threads, show
from workers.clock.grid import make_grid
from workers.media.counters import Counters
from workers.media.decode import rgb
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe, make_recipe


class FreeEncoder:
    """Costs nothing, so that everything else shows."""

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec

    def encode(self, clips: Tensor | Sequence[Tensor]) -> Tensor:
        """Zeros, float32 [B, D]."""
        return torch.zeros(len(clips), self.spec.dim or 1)


@dataclass(frozen=True)
class Line:
    """One thing measured: medians over the rounds.

    Attributes:
        wall: seconds.
        cpu: seconds of this process's CPU time.
    """

    wall: float
    cpu: float


def interleaved(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Line]:
    """Every piece of work once in each round, in turn; medians."""
    walls: dict[str, list[float]] = {name: [] for name in work}
    cpus: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, one in work.items():
            began, busy = time.perf_counter(), time.process_time()
            one()
            walls[name].append(time.perf_counter() - began)
            cpus[name].append(time.process_time() - busy)
    return {name: Line(median(walls[name]), median(cpus[name])) for name in work}


def decode_alone(videos: Sequence[Path], convert: Callable[[int, av.VideoFrame], object]) -> None:
    """Bare PyAV, a thread for each video."""

    def one(path: Path) -> None:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            for number, frame in enumerate(container.decode(video=0)):
                convert(number, frame)

    in_threads([lambda path=path: one(path) for path in videos])  # type: ignore[misc]


def extract(recipe: Recipe, encoder: Encoder) -> dict[str, float]:
    """The counts of a whole job in this process: probe, decode, encode and write."""
    extractor = UnitExtractor(recipe, [encoder], torch.device("cpu"))
    counters = Counters()
    for take, streams in choose_takes(recipe.job):
        for unit in extractor.prepare(take, streams, counters).units:
            extractor.extract(unit, counters=counters)
        extractor.finish(take)
    return counters.snapshot()


class Stages:
    """The work of the lines, over one data set.

    Args:
        dataset: folder of the take.
        videos: its files.
        frames: of each.
        scratch: where stores are written.
    """

    def __init__(self, dataset: Path, videos: Sequence[Path], frames: int, scratch: Path) -> None:
        self._dataset, self._videos, self._scratch = dataset, videos, scratch
        self._made = 0
        spec = self._recipe().target.encoder
        self.encoder = load_encoder(spec, torch.device("cpu"))
        self.spec = self.encoder.spec
        assert self.spec.preprocess is not None
        self._picture = self.spec.preprocess
        grid = make_grid(frames, Fraction(30), self._recipe().target.grid)
        seen = grid.sampled(self.spec.frames, self.spec.sampling)
        self._wanted = frozenset(seen.flatten().tolist())
        self._encoded = len(self._wanted) if self.spec.shares_frames else seen.size
        self._ready = self._pictures(64)
        self._network = careful_network()

    def work(self) -> dict[str, Callable[[], object]]:
        """By line, what is measured."""
        return {
            "decode alone": lambda: decode_alone(self._videos, lambda number, frame: None),
            "decode + convert": lambda: decode_alone(self._videos, self._convert),
            "encoder alone": self._encode,
            "careful script": lambda: careful(self._videos, self._network),
            "takestream, free encoder": lambda: self._job(FreeEncoder(self.spec)),
            "takestream": lambda: self._job(self.encoder),
        }

    def _recipe(self) -> Recipe:
        self._made += 1
        output = self._scratch / str(self._made)
        return make_recipe(load_job(None, {"dataset": str(self._dataset), "output": str(output)}))

    def _job(self, encoder: Encoder) -> None:
        counts = extract(self._recipe(), encoder)
        assert counts["clips"]

    def _convert(self, number: int, frame: av.VideoFrame) -> None:
        if number in self._wanted:
            resize_and_crop(frame_to_tensor(rgb(frame)), self._picture)

    def _pictures(self, count: int) -> Tensor:
        """Sampled pictures of the first video, [count, 3, H, W] as they come out of the reader."""
        found = []
        with av.open(str(self._videos[0])) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in self._wanted:
                    found.append(resize_and_crop(frame_to_tensor(rgb(frame)), self._picture)[0])
                if len(found) == count:
                    break
        return torch.stack([one.movedim(0, -1) for one in found]).movedim(-1, 1)

    def _encode(self) -> None:
        """As many pictures as the job encodes, that are there already."""
        frames = 1 if self.spec.shares_frames else self.spec.frames
        clips = self._ready.view(-1, frames, *self._ready.shape[1:])
        left = self._encoded * len(self._videos)
        while left > 0:
            self.encoder.encode(clips[: max(1, left // frames)])
            left -= len(self._ready)


def pixels(words: str) -> tuple[int, int]:
    """Height and width of `796x448`."""
    width, height = map(int, words.split("x"))
    return height, width


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--frames", type=int, default=1800, help="of each stream")
    asked.add_argument("--streams", type=int, default=4)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--size", type=pixels, default=(448, 796), help="of a picture, 796x448")
    asked.add_argument("--data", type=Path, help="folder to keep the footage in")
    asked.add_argument("--json", type=Path, help="file for the numbers")
    asked.add_argument("--chart", type=Path, help="file for a picture of the numbers")
    asked.add_argument("--only", nargs="+", help="these lines")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or Path(scratch) / "footage"
        videos = real_take(folder, options.streams, options.frames, options.size)
        stages = Stages(folder, videos, options.frames, Path(scratch))
        work = stages.work()
        if options.only:
            work = {name: one for name, one in work.items() if name in options.only}
        for one in work.values():
            one()  # what is loaded, compiled or cached once
        lines = interleaved(work, options.rounds)
    frames = options.streams * options.frames
    height, width = options.size
    print(f"{options.streams} streams x {options.frames} frames of {width}x{height}, ", end="")
    print(f"{os.cpu_count()} cores, encoder {stages.spec.name} ", end="")
    print(f"by {getattr(stages.encoder, 'runtime', '?')}\n")
    for name, line in lines.items():
        print(
            f"{name:<28} {frames / line.wall:8.0f} frames/s  {line.cpu / frames * 1e3:6.2f} ms CPU"
        )
    print()
    if not options.only:
        for what, value, busy, goal in ratios(lines):
            show(f"{what} (by CPU time {busy:.2f})", value, goal)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of this process {peak:.2f} GiB, where it made its footage that included")
    if options.chart:
        draw(lines, frames, options.chart)
    if options.json:
        found = {name: asdict(line) for name, line in lines.items()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"frames": frames, "lines": found}, indent=1))


def draw(lines: Mapping[str, Line], frames: int, path: Path) -> None:
    """A bar for each line: frames per second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.5 * len(lines) + 1), layout="constrained")
    axes = figure.subplots()
    rates = [frames / line.wall for line in lines.values()]
    axes.bar_label(axes.barh(list(lines), rates), fmt="%.0f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(f"frames per second, {os.cpu_count()} cores")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def ratios(lines: Mapping[str, Line]) -> list[tuple[str, float, float, str]]:
    """What is compared: words, ratio of wall times, ratio of CPU times, goal."""
    wall = _compared({name: line.wall for name, line in lines.items()})
    cpu = _compared({name: line.cpu for name, line in lines.items()})
    goals = {
        "takestream ÷ the careful script": "≥ 4",
        "takestream ÷ the sum of its parts": "≥ 0.95",
        "free encoder ÷ decode + convert": "≥ 0.97",
        "free encoder ÷ decode alone": "≥ 0.70",
    }
    return [
        (what, *both, goal)
        for (what, goal), both in zip(goals.items(), zip(wall, cpu, strict=True), strict=True)
    ]


def _compared(seconds: Mapping[str, float]) -> list[float]:
    # Decoding takes all cores, and so does encoding: done after each other, they take the sum.
    parts = seconds["decode + convert"] + seconds["encoder alone"]
    free, real = seconds["takestream, free encoder"], seconds["takestream"]
    return [
        seconds["careful script"] / real,
        parts / real,
        seconds["decode + convert"] / free,
        seconds["decode alone"] / free,
    ]


if __name__ == "__main__":
    main()
