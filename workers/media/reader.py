"""The seam between media and clips: whatever the kind of a stream, samples by their number."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from workers.media.decode import Decoded, decode, open_cpu_decoder
from workers.media.index import Index
from workers.media.source import Source

P = TypeVar("P")


class Reader(Protocol):
    """Samples of one stream, numbered from 0 in the order in which a player shows them."""

    @property
    def samples(self) -> int:
        """How many samples a player would show."""
        ...

    def times(self) -> NDArray[np.float64]:
        """Each sample's presentation time; float64 [samples] seconds from the first sample."""
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


@dataclass(frozen=True)
class VideoReader:
    """A video stream, read by its index: only the packets that the samples need are fetched.

    Attributes:
        source: where the bytes are.
        index: the packets and frames of the stream.
        open_decoder: makes a decoder of the stream; on the CPU by default.
    """

    source: Source
    index: Index
    open_decoder: Callable[[Index], tuple[Any, VideoCodecContext]] = open_cpu_decoder

    @property
    def samples(self) -> int:
        """How many frames a player would show."""
        return self.index.frames

    def times(self) -> NDArray[np.float64]:
        """Each frame's PTS; float64 [samples] seconds from the first shown frame."""
        return self.index.times()

    def read(
        self,
        first: int,
        last: int,
        wanted: Callable[[int], bool],
        convert: Callable[[int, VideoFrame], P],
    ) -> Iterator[Decoded[P]]:
        """As `Reader.read` says."""
        return decode(
            self.source, self.index, first, last, wanted, convert, open_decoder=self.open_decoder
        )
