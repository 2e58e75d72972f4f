"""An encoder that tells which frames a clip shows: their numbers, and their pictures made small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from configs.preprocess import PreprocessSpec
from configs.schema import EncoderSpec, GridSpec
from models.preprocess import frame_to_tensor, resize_and_crop, stacked
from service.demo.footage import read_frame_number

SIZE = (160, 120)
WINDOW = 8
CELLS = (12, 16)
PREPROCESS = PreprocessSpec(resize=(SIZE[1], SIZE[0]))
SPEC = EncoderSpec(
    name="cells", family="efficientnet_lite", weights="none", sha256="0" * 64, frames=WINDOW,
    dim=WINDOW * (1 + CELLS[0] * CELLS[1]), preprocess=PREPROCESS,
)  # fmt: skip
GRID = GridSpec(window=WINDOW, stride=WINDOW)
Picture = NDArray[np.uint8]
Vectors = NDArray[np.float32]


class CellEncoder:
    """Of each frame the number that it carries (-1 for none), then the brightness of its cells."""

    spec = SPEC

    def encode(self, clips: Sequence[torch.Tensor]) -> torch.Tensor:
        """Clips uint8 [B, T, 3, H, W] as float32 [B, T * (1 + cells)], numbers first."""
        frames = stacked(clips).flatten(0, 1)
        numbers = [_number(f.permute(1, 2, 0).contiguous().numpy()) for f in frames]
        grey = frames.float().mean(1, keepdim=True) - 128
        cells = torch.nn.functional.adaptive_avg_pool2d(grey, CELLS).flatten(1)
        of_clips = torch.tensor(numbers, dtype=torch.float32).view(len(clips), -1)
        return torch.cat([of_clips, cells.reshape(len(clips), -1)], dim=1)


def seen(pictures: Sequence[Picture]) -> Vectors:
    """What the encoder makes of each picture alone; float32 [pictures, 1 + cells]."""
    found = np.zeros((len(pictures), 1 + CELLS[0] * CELLS[1]), dtype=np.float32)
    for number, picture in enumerate(pictures):
        ready = resize_and_crop(frame_to_tensor(picture), PREPROCESS)
        found[number] = CellEncoder().encode(ready[None])[0].numpy()
    return found


def clip_of(frames: Vectors, start: int) -> Vectors | None:
    """What the encoder makes of a clip of these frames; None where there are not so many."""
    clip = frames[start : start + WINDOW]
    return np.concatenate([clip[:, 0], clip[:, 1:].ravel()]) if len(clip) == WINDOW else None


def cosine(one: Vectors, other: Vectors) -> float:
    """The cosine of two vectors; 1 for two that are nothing."""
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norm if norm else float(not one.any() and not other.any())


def _number(picture: Picture) -> int:
    number = read_frame_number(picture)
    return -1 if number is None else number
