"""Clip arithmetic: pure functions of frame counts.

The rule is the one of the official Ego-Exo4D features (facebookresearch/Ego4d, `ego4d/features`):
windows of 32 frames every 16, and one more over the last 32 frames when the last full window does
not end at the last frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from configs.schema import GridSpec, Sampling, SegmentGridSpec
from takestream.facts import in_span
from workers.dataset.take import Segment

Frames = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grid:
    """The clips of one take.

    Attributes:
        fps: frames per second of the grid.
        frames: grid frames of the take.
        window: nominal frames of a clip; a take shorter than that has one clip that stops early,
            and its last frame stands in for the rest (`padded`). 0 for a grid from segments.
        source: int64 [frames or more], the take's frame that each grid frame shows.
        start, stop: int64 [clips], each clip's grid frames `[start, stop)`.
        segments: what the clips are, for a grid from segments.
    """

    fps: Fraction
    frames: int
    window: int
    source: Frames
    start: Frames
    stop: Frames
    segments: tuple[Segment, ...] = ()

    @property
    def clips(self) -> int:
        """How many clips the take has."""
        return len(self.start)

    @property
    def padded(self) -> bool:
        """Whether the take is shorter than one window."""
        return self.clips == 1 and int(self.stop[0] - self.start[0]) < self.window

    def start_time(self) -> NDArray[np.float64]:
        """Seconds on the take's clock at which each clip starts; float64 [clips]."""
        if self.segments:
            return np.array([segment.start for segment in self.segments])
        return self.start / float(self.fps)

    def end_time(self) -> NDArray[np.float64]:
        """Seconds on the take's clock at which each clip ends (exclusive); float64 [clips].

        An annotated segment without length ends after its one frame.
        """
        if self.segments:
            least = self.start_time() + 1 / float(self.fps)
            return np.maximum([segment.end for segment in self.segments], least)
        return self.stop / float(self.fps)

    def sampled(self, frames: int, sampling: Sampling = "spread") -> Frames:
        """Grid frames that an encoder of `frames` frames per clip sees; int64 [clips, frames].

        `spread`: `round(linspace(0, length - 1, frames))` from the clip's start, where the length
        is the window, or the segment's own. `lattice`: every `window // frames`-th frame from the
        clip's start; a segment's frames are spread all the same. Frames past the end of a padded
        clip are its last frame.
        """
        if self.segments:
            spread = np.linspace(self.start, self.stop - 1, frames, axis=1)
            return np.asarray(np.round(spread), dtype=np.int64)
        if sampling == "lattice" and frames <= self.window:
            offsets = np.arange(frames, dtype=np.int64) * (self.window // frames)
        else:
            offsets = np.round(np.linspace(0, self.window - 1, frames)).astype(np.int64)
        return np.asarray(np.minimum(self.start[:, None] + offsets, self.stop[:, None] - 1))


def clip_starts(frames: int, spec: GridSpec) -> list[int]:
    """Where the clips of a take of `frames` grid frames start."""
    if frames <= 0:
        return []
    if frames < spec.window:
        return [0] if spec.tail == "backpad" else []
    starts = list(range(0, frames - spec.window + 1, spec.stride))
    if spec.tail == "backpad" and starts[-1] + spec.window != frames:
        starts.append(frames - spec.window)
    return starts


def make_grid(
    frames: int,
    rate: Fraction,
    spec: GridSpec | SegmentGridSpec,
    segments: Sequence[Segment] = (),
    span: tuple[float, float] | None = None,
) -> Grid:
    """The grid over a take of `frames` frame-aligned frames shot at `rate` frames per second.

    With `fps: auto` a grid frame is a take frame. With another rate, grid frame f shows take frame
    `round(f * rate / fps)` in every stream alike, so that streams stay on one clock; halves go up.

    Args:
        frames: frames of the take.
        rate: frames per second of the take.
        spec: how the take is cut.
        segments: in time order, for a `SegmentGridSpec`.
        span: seconds `[start, end)`; only clips whose middle lies in it are kept.

    Raises:
        ValueError: a rate of nearly none.
    """
    if isinstance(spec, SegmentGridSpec):
        return _segment_grid(frames, rate, spec, tuple(segments))
    fps = _fps(rate, spec.fps)
    source = _source(frames, rate / fps)
    starts = np.array(clip_starts(len(source), spec), dtype=np.int64)
    stops = np.minimum(starts + spec.window, len(source))
    if span is not None:
        inside = in_span(starts / float(fps), stops / float(fps), span)
        starts, stops = starts[inside], stops[inside]
    return Grid(fps, len(source), spec.window, source, starts, stops)


def _segment_grid(
    frames: int, rate: Fraction, spec: SegmentGridSpec, segments: tuple[Segment, ...]
) -> Grid:
    """One clip for each segment; annotated ends are rounded, so they may lie behind the take's."""
    fps = _fps(rate, spec.fps)
    there = len(_source(frames, rate / fps))
    starts = np.array([round(s.start * float(fps)) for s in segments], dtype=np.int64)
    stops = np.array([round(s.end * float(fps)) for s in segments], dtype=np.int64)
    stops = np.where(starts < there, np.minimum(stops, there), stops)
    stops = np.maximum(stops, starts + 1)
    source = _source_of(np.arange(max(there, int(stops.max(initial=0)))), rate / fps)
    return Grid(fps, there, 0, source, starts, stops, segments)


def _fps(rate: Fraction, asked: float | str) -> Fraction:
    if asked == "auto":
        return rate
    fps = Fraction(asked).limit_denominator(1001)
    if not fps:
        raise ValueError(f"a grid of {asked} frames per second is too slow: use 0.01 or more")
    return fps


def _source(frames: int, step: Fraction) -> Frames:
    count = frames if step == 1 else int((Fraction(frames) - Fraction(1, 2)) / step) + 1
    source = _source_of(np.arange(count), step)
    return source[source < frames]


def _source_of(grid_frames: NDArray[np.int64], step: Fraction) -> Frames:
    """The take's frame that each grid frame shows; halves go up."""
    doubled = grid_frames * step.numerator * 2 + step.denominator
    return np.asarray(doubled // (2 * step.denominator), dtype=np.int64)


def agreed_frames(counts: Sequence[int], likely: float | None = None) -> int:
    """The frame count that most streams share; 0 without streams.

    Args:
        counts: of the streams.
        likely: what it should be, where that is known: of counts that as many share, one that is
            that, to a hundredth, counts; then the larger one.
    """
    near = {n: likely is not None and abs(n - likely) <= max(1.0, likely / 100) for n in counts}
    return max(set(counts), key=lambda n: (counts.count(n), near[n], n)) if counts else 0


def agreed_rate(rates: Sequence[Fraction], likely: float = 30.0) -> Fraction:
    """The rate that most streams share.

    Args:
        rates: of the streams, frames per second.
        likely: what the rate should be; of rates that as many share, the nearest to it counts.

    Returns:
        The rate; 30 without streams.
    """
    votes = {rate: rates.count(rate) for rate in rates}
    return min(votes, key=lambda r: (-votes[r], abs(r - likely), -r), default=Fraction(30))
