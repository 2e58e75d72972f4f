"""Vectors of single frames into those of the clips that share them."""

import numpy as np
from numpy.typing import NDArray

from workers.clock.clips import SharedFrames

Vectors = NDArray[np.float32]


class FramePool:
    """The vectors of one stream's frames, kept as long as a coming clip needs them."""

    def __init__(self) -> None:
        self._kept: dict[int, Vectors] = {}

    def clips(self, frames: SharedFrames, vectors: Vectors | None) -> Vectors:
        """The clips of a batch; batches come in the stream's order.

        Args:
            frames: what the clips are made of.
            vectors: float32 [new frames, D]; None where no frame is new.

        Returns:
            float32 [clips, D], the mean over each clip's frames.
        """
        if vectors is not None:
            self._kept.update(zip(frames.numbers, vectors, strict=True))
        # In float64, so that the sum does not depend on how many clips are added up together.
        clips = np.stack([
            np.mean([self._kept[number] for number in row], axis=0, dtype=np.float64)
            for row in frames.seen.tolist()
        ])  # fmt: skip
        self._kept = {n: vector for n, vector in self._kept.items() if n >= frames.lowest}
        return clips.astype(np.float32)
