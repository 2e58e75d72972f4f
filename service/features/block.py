"""Features in memory: which clips, and clips × streams of their features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takestream import schema

Array = NDArray[Any]
NOT_EXTRACTED = int(schema.Reason.NOT_EXTRACTED)


@dataclass(frozen=True)
class Clips:
    """Which clips of a take, and what its store says of them.

    Attributes:
        clip: int64 [n], numbers in the take.
        columns: The coordinates that the store has, [n] each, by the name of their array: frames
            and seconds, and text where the clips are annotated segments.
    """

    clip: Array
    columns: Mapping[str, Array]

    @property
    def start_time(self) -> Array:
        """float64 [n], seconds on the take's clock."""
        return self.columns[schema.START_TIME]

    @property
    def end_time(self) -> Array:
        """float64 [n], seconds on the take's clock."""
        return self.columns[schema.END_TIME]

    def chosen(self, rows: slice | Array) -> "Clips":
        """The clips of some rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Clips(self.clip[rows], columns)

    def within(self, start: float | None, end: float | None) -> "Clips":
        """The clips that show any of `[start, end)` seconds."""
        seen = np.ones(len(self.clip), dtype=bool)
        if start is not None:
            seen &= self.end_time > start
        if end is not None:
            seen &= self.start_time < end
        return self.chosen(seen)

    def arrays(self) -> dict[str, Array]:
        """Numbers and columns by the names that answers give them."""
        return {schema.CLIP: self.clip, **self.columns}


@dataclass
class Block:
    """Clips × streams of one take, as far as they are known.

    Attributes:
        features: float16 or float32 [n, S, D], NaN where invalid or unknown.
        reason: uint8 [n, S], a `Reason`.
        frame_time: float64 [n, S], seconds.
        have: bool [n, S], which entries are known.
    """

    features: Array
    reason: Array
    frame_time: Array
    have: Array

    @classmethod
    def unknown(cls, clips: int, streams: int, dim: int, dtype: Any) -> "Block":
        """A block of which no entry is known."""
        return cls(
            features=np.full((clips, streams, dim), np.nan, dtype=dtype),
            reason=np.full((clips, streams), NOT_EXTRACTED, dtype=np.uint8),
            frame_time=np.full((clips, streams), np.nan),
            have=np.zeros((clips, streams), dtype=bool),
        )

    def fill(self, rows: slice, at: int, features: Array, reason: Array, time: Array) -> None:
        """Set the clips `rows` of the stream in column `at`."""
        self.features[rows, at] = features
        self.reason[rows, at] = reason
        self.frame_time[rows, at] = time
        # An object that was deleted by hand reads as fill values.
        lost = np.isnan(features[:, 0]) & (reason == schema.Reason.VALID)
        self.have[rows, at] = ~lost & (reason != NOT_EXTRACTED)

    @property
    def valid(self) -> Array:
        """bool [n, S], the entries that are known and valid."""
        return np.asarray(self.have & (self.reason == schema.Reason.VALID))
