"""Which sample of a stream shows a moment of the take."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from configs.timing import TimelineSpec
from workers.clock.grid import Frames, Grid
from workers.media.reader import Reader

NONE = -1


class Timeline(Protocol):
    """Ties the samples of one stream to the take's clock."""

    def samples(self, grid: Grid) -> Frames:
        """The stream's sample that shows each grid frame; int64 like `grid.source`, -1 for none."""
        ...


class FrameTimeline:
    """Frame *i* of the stream is frame *i* of the take, as frame-aligned videos promise.

    Args:
        count: samples of the stream.
        shift: the take's frame that the stream's first sample shows.
    """

    def __init__(self, count: int, shift: int = 0) -> None:
        self._count, self._shift = count, shift

    def samples(self, grid: Grid) -> Frames:
        """As `Timeline.samples` says."""
        samples = grid.source - self._shift
        return np.where((samples >= 0) & (samples < self._count), samples, NONE)


class PtsTimeline:
    """The sample whose presentation time is nearest to the grid frame's time.

    Args:
        times: float64 [samples] seconds from the stream's first sample, NaN for a missing one.
        tolerance: largest distance in seconds that still counts.
        offset: seconds on the take's clock of the first sample.
    """

    def __init__(self, times: NDArray[np.float64], tolerance: float, offset: float = 0.0) -> None:
        # Damaged indexes list times that do not ascend, and a missing sample has none (NaN).
        order = np.argsort(times, kind="stable")
        self._order = order[np.isfinite(times[order])]
        self._times, self._tolerance = times[self._order] + offset, tolerance

    def samples(self, grid: Grid) -> Frames:
        """As `Timeline.samples` says; of two samples equally near, the earlier."""
        moments = np.arange(len(grid.source)) / float(grid.fps)
        if not len(self._times):
            return np.full(len(moments), NONE, dtype=np.int64)
        after = np.searchsorted(self._times, moments).clip(1, max(1, len(self._times) - 1))
        before = after - 1
        after = np.minimum(after, len(self._times) - 1)
        nearer = self._times[after] - moments < moments - self._times[before]
        nearest = np.where(nearer, after, before)
        # Times are multiples of a time base: a distance equal to the tolerance must not be chance.
        near = np.abs(self._times[nearest] - moments) <= self._tolerance + 1e-9
        return np.where(near, self._order[nearest], NONE)


def make_timeline(
    spec: TimelineSpec, reader: Reader, rate: float, offset: float = 0.0, later: int = 0
) -> Timeline:
    """The timeline of one stream, as the setting says.

    Args:
        spec: the setting.
        reader: the stream.
        rate: frames per second of the take, in which the tolerance is counted.
        offset: seconds on the take's clock of the stream's first sample; with `frames` it counts
            to the nearest frame.
        later: by how many of the take's frames the stream shows a moment later than that says, as
            measured; taken out.
    """
    if spec.kind == "pts":
        return PtsTimeline(reader.times(), spec.tolerance / rate, offset - later / rate)
    return FrameTimeline(reader.samples, round(offset * rate) - later)
