"""The seam between media and clips: whatever the kind of a stream, samples by their number."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from workers.media.session import Decoded
from workers.media.source import Source

P = TypeVar("P")


class Reader(Protocol):
    """Samples of one stream, numbered from 0 in the order in which a player shows them."""

    @property
    def source(self) -> Source:
        """Where the bytes are read."""
        ...

    @property
    def samples(self) -> int:
        """How many samples a player would show."""
        ...

    def times(self) -> NDArray[np.float64]:
        """Each sample's presentation time; float64 [samples] seconds, NaN where it is missing."""
        ...

    def read(
        self,
        first: int,
        last: int,
        wanted: Callable[[int], bool],
        convert: Callable[[int, VideoFrame], P],
    ) -> Iterator[Decoded[P]]:
        """Samples `[first, last)` in order, each exactly once.

        Args:
            first: number of the first sample.
            last: number after the last sample.
            wanted: whether the sample of that number is converted.
            convert: called with the number and the frame of each good sample that is wanted.

        Yields:
            One `Decoded` for each number: what `convert` returned, or why there is nothing.

        Raises:
            StorageError: Bytes cannot be read.
        """
        ...
