"""Which number a frame has: where its PTS puts it, as far as PTS can be believed.

Frame-aligned streams are steady, so a frame's number is the count of steps from the first frame,
and what no frame fills is missing. A stream of uneven steps has no such places: there a frame's
number is its rank.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]

# A step is the usual one when it differs by less than this part of it, or by a tick.
TOLERANCE = 0.1
# Of so many steps being the usual one, a stream is called steady.
STEADY = 0.8
# Of so many frames, a few may have wrong times; of more, times and frames are mismatched.
FEW = 0.1
# No decoder holds more pictures back.
REORDER = 16
# A gap longer than this and than the stream itself is a wrong time, not missing frames.
LONGEST_GAP = 900


@dataclass(frozen=True)
class Rhythm:
    """The step from one frame to the next.

    Attributes:
        step: ticks from frame to frame, by the steps that are about the median.
        steady: whether nearly all steps are that one or a multiple.
        exact: whether the median step is exactly the step.
    """

    step: float
    steady: bool
    exact: bool

    def rate(self, time_base: Fraction, said: Fraction | None) -> Fraction:
        """Frames per second: by the step, or what the container says where that fits it.

        Args:
            time_base: seconds per tick.
            said: the container's own average, which one odd duration can move.
        """
        by_step = 1 / (Fraction(self.step) * time_base)
        if self.exact or not said:
            return by_step.limit_denominator(1001) if not self.exact else by_step
        near = abs(said / by_step - 1) < (0.002 if self.steady else 0.05)
        return said if near else by_step.limit_denominator(1001)


def rhythm(pts: Ticks) -> Rhythm | None:
    """The rhythm of a stream by the PTS of its frames, in any order; None for fewer than two."""
    steps: NDArray[np.float64] = np.diff(np.unique(pts)).astype(np.float64)
    if not len(steps):
        return None
    median = float(np.sort(steps)[len(steps) // 2])
    wide = min(0.45 * median, max(TOLERANCE * median, 1.01))
    usual = steps[np.abs(steps - median) <= wide]
    steady = len(usual) >= STEADY * len(steps)
    if not steady:
        usual = steps[steps <= 4 * median]
    exact = steady and float((usual == median).mean()) > 0.9
    return Rhythm(median if exact else float(usual.mean()), steady, exact)


def by_time(pts: Ticks, step: float) -> Ticks:
    """The places of frames whose PTS rise: rank, and the whole steps that gaps are long."""
    gaps = np.maximum(np.rint(np.diff(pts) / step), 1).astype(np.int64)
    gaps[gaps > max(LONGEST_GAP, len(pts))] = 1
    return np.concatenate([np.zeros(min(1, len(pts)), dtype=np.int64), np.cumsum(gaps)])


def believable(pts: Ticks, dts: Ticks, step: float) -> NDArray[np.bool_]:
    """Which frames' PTS lie as far from their DTS as those of the other frames do."""
    ahead = np.sort(pts - dts)
    few = max(1, len(ahead) // 50) if len(ahead) > 2 else 0
    low, high = ahead[few], ahead[len(ahead) - 1 - few]
    high = min(high, low + REORDER * step)
    away = pts - dts
    return np.asarray((away >= low - 2.5 * step) & (away <= high + 2.5 * step))


@dataclass(frozen=True, eq=False)
class Arranged:
    """Where frames stand.

    Attributes:
        place: int64 [frames]; -1 for a frame whose place is not known.
        ticks: float64 [frames], its time from place 0 on, by its PTS where that is believed.
    """

    place: Ticks
    ticks: NDArray[np.float64]


def by_decoder(pts: Ticks, believed: NDArray[np.bool_], step: float) -> Arranged:
    """The places of frames in the order in which a decoder gave them out.

    The largest set of frames whose times agree with that order keeps to its times. A frame between
    two of them has the place that is left for it if there is just one; it has none where it may
    belong at one of several.

    Args:
        pts: of each frame, in the decoder's order.
        believed: whose PTS count.
        step: ticks from frame to frame.

    Returns:
        Their places.
    """
    order = np.arange(len(pts))
    times, anchors = pts, _anchors(_slack(pts, step), believed)
    # Where a container gives frames the times at which they are decoded, the times are right and
    # only belong to frames near by: then they fit in order. A few wrong times are just wrong.
    moved = np.abs(np.argsort(pts, kind="stable") - order)
    if len(anchors) < (1 - FEW) * len(pts) and believed.all() and (moved <= REORDER).all():
        in_order = _anchors(_slack(np.sort(pts), step), believed)
        if len(in_order) > len(anchors):
            times, anchors = np.sort(pts), in_order
    if not len(anchors):
        return Arranged(order, np.asarray(order * step, dtype=np.float64))
    jumps = np.diff(_slack(times, step)[anchors])
    jumps[jumps > max(LONGEST_GAP, len(pts))] = 0
    slack = np.concatenate([[0], np.cumsum(jumps)])
    left = np.searchsorted(anchors, order, side="right") - 1
    right = np.searchsorted(anchors, order, side="left")
    before = slack[np.clip(left, 0, None)]
    after = slack[np.clip(right, None, len(anchors) - 1)]
    place = np.where(before == after, order + before, -1)
    place[_contradicted(place, _slack(times, step), anchors, believed)] = -1
    ticks = np.asarray(place * step, dtype=np.float64)
    origin = times[anchors[0]] - place[anchors[0]] * step
    ticks[anchors] = times[anchors] - origin
    return Arranged(place, ticks)


def _contradicted(
    place: Ticks, slack: Ticks, anchors: Ticks, believed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which frames' times name another place than the order does, one that no other frame has.

    Either may be the false one then.
    """
    order = np.arange(len(place))
    named = order + slack - slack[anchors[0]] + place[anchors[0]] - anchors[0]
    taken = np.isin(named, place[anchors])
    near = (named >= place[anchors[0]]) & (named <= place[anchors[-1]])
    # Equal or late times do not contradict the order; times in another order do.
    left, right = np.maximum.accumulate(named), np.minimum.accumulate(named[::-1])[::-1]
    near &= (left > named) | (right < named)
    other = np.ones(len(place), dtype=bool)
    other[anchors] = False
    return np.asarray(other & believed & (place >= 0) & (named != place) & near & ~taken)


def _anchors(slack: Ticks, believed: NDArray[np.bool_]) -> Ticks:
    """The largest set of frames whose times agree with their order."""
    values, counts = np.unique(slack[believed], return_counts=True)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    most = values[counts.argmax()]
    where = np.flatnonzero(believed & (slack == most))
    order = np.arange(len(slack))
    fits = (slack == most) | (
        np.where(order < where[0], slack < most, slack > most)
        & ((order < where[0]) | (order > where[-1]))
    )
    return rising(slack, believed & fits)


def _slack(times: Ticks, step: float) -> Ticks:
    """How many places further on than its rank a frame's time puts it."""
    order = np.arange(len(times))
    # Counted from the middle one, because the first frame's time may be the false one.
    ahead = np.sort(times - order * step)
    base = ahead[len(ahead) // 2]
    return np.asarray(np.rint((times - base) / step).astype(np.int64) - order)


def rising(slack: Ticks, among: NDArray[np.bool_]) -> Ticks:
    """The longest rising (not falling) part of `slack`, as positions; the earliest of equals."""
    tails: list[int] = []
    ends: list[int] = []
    previous = np.full(len(slack), -1, dtype=np.int64)
    for at in np.flatnonzero(among).tolist():
        value = int(slack[at])
        where = bisect_right(tails, value)
        if where == len(tails):
            tails.append(value)
            ends.append(at)
        else:
            tails[where], ends[where] = value, at
        previous[at] = ends[where - 1] if where else -1
    chain = []
    at = ends[-1] if ends else -1
    while at >= 0:
        chain.append(at)
        at = int(previous[at])
    return np.array(chain[::-1], dtype=np.int64)
