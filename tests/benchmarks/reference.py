"""The method of the official extraction, written plainly, and takestream, on one video.

    python -m tests.benchmarks.reference [--frames 300] [--data FOLDER]

What facebookresearch/Ego4d (`ego4d/features`) does, as far as it decides the time: clips by time,
every 16/30 s, 32/30 s long; of each all 32 frames become RGB float32 at full size, then the short
side is resized to 256 and the centre 224 × 224 cut out; overlaps come from a cache of 16 decoded
frames; two loader processes; then eight frames of each clip go through the same network, in
PyTorch, one clip in a pass. It is a re-implementation: its authors' code was not run.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from configs.load import load_job
from models.encoder import load_encoder
from tests.benchmarks.careful import careful_network
from tests.benchmarks.footage import real_take
from tests.benchmarks.measure import show
from tests.benchmarks.stages import extract
from workers.run.recipe import make_recipe

# Frames of which the second clip is not the last.
LEAST = 80


class TimedClips(Dataset[tuple[int, Tensor]]):
    """Clips of one video by time, float32 [32, 3, 224, 224]; a file handle for each process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._cache: list[tuple[float, Tensor]] = []
        with av.open(str(path)) as container:
            self._seconds = container.streams.video[0].frames / 30
        self._container: av.container.InputContainer | None = None

    def __len__(self) -> int:
        return int((self._seconds - 32 / 30) // (16 / 30)) + 1

    def __getitem__(self, number: int) -> tuple[int, Tensor]:
        first = number * 16 / 30
        last = first + 32 / 30
        kept = [(t, frame) for t, frame in self._cache if first - 1e-3 <= t]
        if self._container is None:
            # A loader process is asked for every second clip, in order.
            self._container = av.open(str(self._path))
            self._frames = self._container.decode(video=0)
        while not kept or kept[-1][0] < last - 1.5 / 30:
            frame = next(self._frames, None)
            if frame is None:
                break
            if frame.time is not None and frame.time >= first - 1e-3:
                rgb = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                kept.append((frame.time, rgb.permute(2, 0, 1).float()))
        self._cache = kept[16:]
        clip = torch.stack([frame for _, frame in kept[:32]]) / 255
        height, width = clip.shape[2:]
        scale = 256 / min(height, width)
        shape = (round(height * scale), round(width * scale))
        resized = F.interpolate(clip, shape, mode="bilinear", antialias=True)
        top, left = (shape[0] - 224) // 2, (shape[1] - 224) // 2
        return number, resized[:, :, top : top + 224, left : left + 224]


def reference(path: Path, network: torch.nn.Module) -> float:
    """Clips per second, from the third on: when both loader processes have started."""
    seen = torch.from_numpy(np.round(np.linspace(0, 31, 8)).astype(int))
    # Started anew: a process that is forked beside OpenMP's threads may hang.
    loader = DataLoader(
        TimedClips(path), batch_size=1, num_workers=2, multiprocessing_context="spawn"
    )
    ends = []
    for _, clips in loader:
        with torch.inference_mode():
            network((clips[:, seen] * 255 - 127) / 128)
        ends.append(time.perf_counter())
    return (len(ends) - 2) / (ends[-1] - ends[1])


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--frames", type=int, default=300)
    asked.add_argument("--data", type=Path)
    options = asked.parse_args()
    if options.frames < LEAST:
        asked.error(f"--frames: at least {LEAST}, as the first two clips are not counted")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or Path(scratch) / "footage"
        videos = real_take(folder, 4, options.frames)
        recipe = make_recipe(
            load_job(None, {"dataset": str(folder), "output": str(Path(scratch) / "out")})
        )
        encoder = load_encoder(recipe.target.encoder, torch.device("cpu"))
        network = careful_network()
        # A clip is 16 new frames; one video after the other, as the method has it.
        theirs = reference(videos[0], network) * 16
        began = time.perf_counter()
        extract(recipe, encoder)
        ours = time.perf_counter() - began
    frames = len(videos) * options.frames
    print(f"the reference's method {theirs:.1f} frames/s, takestream {frames / ours:.0f} frames/s")
    show("takestream ÷ the reference's method", frames / ours / theirs, "≥ 30")


if __name__ == "__main__":
    main()
