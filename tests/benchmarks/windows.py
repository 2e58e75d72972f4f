"""Training reads: random windows out of a store against `torch.load` of official-style files."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import takestream
from takestream.storage import S3Options
from takestream.training import sections
from workers.store.layout import StoreLayout, unit_clips
from workers.store.takestore import TakeStore

CLIPS, STREAMS, DIM, LENGTH = 2250, 7, 1024, 16  # a take of 20 minutes, a clip every 16 frames


def make_take(folder: Path) -> tuple[str, list[Path]]:
    """One take as a store (float16) and as one float32 `.pt` per stream, as the data set has it."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((CLIPS, STREAMS, DIM)).astype(np.float32)
    start = np.arange(CLIPS) * 16
    names = tuple(f"cam{number:02d}_0" for number in range(STREAMS))
    unit = unit_clips(4096, 16)
    attributes = {"take": {"take_uid": "bench", "take_name": "bench"}}
    times = start / 30, start / 30 + 32 / 30
    layout = StoreLayout(names, DIM, "float16", unit, start, start + 32, *times, attributes)
    store = TakeStore.create(f"{folder}/features/bench-0123456789/bench.zarr", layout)
    files = []
    for column, name in enumerate(names):
        for first in range(0, CLIPS, unit):
            rows = values[first : first + unit, column]
            good = np.ones(len(rows), bool)
            store.write(
                name,
                first,
                features=rows,
                valid=good,
                frame_time=start[first : first + unit] / 30,
                reason=np.zeros(len(rows), np.uint8),
            )
        files.append(folder / f"bench_{name}.pt")
        torch.save(torch.from_numpy(values[:, column].copy()), files[-1])
    store.finish()
    return f"{folder}/features", files


def slices(files: list[Path], mmap: bool) -> Iterator[torch.Tensor]:
    """Random windows, each by loading its streams and cutting: float32 [length, streams, D]."""
    rng = random.Random(0)
    while True:
        at = rng.randrange(CLIPS - LENGTH)
        loaded = [torch.load(file, weights_only=True, mmap=mmap) for file in files]
        yield torch.stack([values[at : at + LENGTH] for values in loaded], dim=1)


def kept(files: list[Path]) -> Iterator[torch.Tensor]:
    """As many random windows as the take has, of all its files loaded once and kept."""
    rng = random.Random(0)
    while True:
        loaded = [torch.load(file, weights_only=True) for file in files]
        for _ in range(CLIPS // LENGTH + 1):
            at = rng.randrange(CLIPS - LENGTH)
            yield torch.stack([values[at : at + LENGTH] for values in loaded], dim=1)


def epochs(output: str) -> Iterator[torch.Tensor]:
    """Random windows of the data set for training, epoch after epoch."""
    windows = takestream.Windows(output, length=LENGTH)
    for epoch in range(1_000_000):
        windows.set_epoch(epoch)
        for sample in windows:
            yield sample["features"]


def single(output: str) -> Iterator[torch.Tensor]:
    """Random windows, each read from the store by itself, nothing kept."""
    windows = takestream.Windows(output, length=LENGTH)
    (take,), rng = windows.takes, random.Random(0)
    while True:
        at = rng.randrange(CLIPS - LENGTH)
        found = sections.read(take, at, at + LENGTH, windows.streams, S3Options())
        yield torch.from_numpy(found.features).float()


def per_window(reads: Callable[[], Iterator[torch.Tensor]], count: int) -> float:
    """Seconds that one of `count` windows takes, the start included."""
    began = time.perf_counter()
    for window in islice(reads(), count):
        assert window.shape == (LENGTH, STREAMS, DIM)
    return (time.perf_counter() - began) / count


def main(show: Callable[[str, float, str], None]) -> None:
    """Print the ratios by `show(what, ratio, goal)`. One process, files in the page cache."""
    with tempfile.TemporaryDirectory() as temporary:
        output, files = make_take(Path(temporary))
        kinds: dict[str, tuple[Callable[[], Iterator[torch.Tensor]], int]] = {
            "pt": (lambda: slices(files, mmap=False), 20),
            "mapped": (lambda: slices(files, mmap=True), 20),
            "kept": (lambda: kept(files), 10 * (CLIPS // LENGTH + 1)),
            "epochs": (lambda: epochs(output), 10 * (CLIPS // LENGTH + 1)),
            "single": (lambda: single(output), 40),
        }
        rounds: dict[str, list[float]] = {name: [] for name in kinds}
        per_window(*kinds["pt"]), per_window(*kinds["epochs"])  # warm the file cache
        for _ in range(3):
            for name, (reads, count) in kinds.items():
                rounds[name].append(per_window(reads, count))
        cost = {name: float(np.median(times)) for name, times in rounds.items()}
        print(", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in cost.items()))
        show("a training window, .pt ÷ store (whole epochs)", cost["pt"] / cost["epochs"], "≥ 5")
        show(
            "the same, all .pt of the take kept in memory ÷ store",
            cost["kept"] / cost["epochs"],
            "",
        )
        show("the same, the store read anew for each window", cost["pt"] / cost["single"], "")
        show("the same, .pt mapped into memory ÷ store", cost["mapped"] / cost["epochs"], "")


if __name__ == "__main__":
    main(lambda what, ratio, goal: print(f"{what:<78} {ratio:7.3f}   goal {goal}", flush=True))
