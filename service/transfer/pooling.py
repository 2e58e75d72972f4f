"""Which clips a segment is made of, and one vector or some for it."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pooling = Literal["mean", "max", "nearest", "all"]


def members(
    start_time: NDArray[np.float64], end_time: NDArray[np.float64], start: float, end: float
) -> NDArray[np.bool_]:
    """The clips whose middle is in `[start, end)`; bool [clips].

    A segment too short to hold any takes the clip nearest to its own middle, if it lies within the
    take at all.
    """
    middle = (start_time + end_time) / 2
    inside = (middle >= start) & (middle < end)
    begun, over = start_time[:1].min(initial=np.inf), end_time.max(initial=-np.inf)
    if not inside.any() and start < over and end > begun:
        inside[int(np.abs(middle - (start + end) / 2).argmin())] = True
    return np.asarray(inside)


def nearest(
    start_time: NDArray[np.float64],
    end_time: NDArray[np.float64],
    usable: NDArray[np.bool_],
    moment: float,
    count: int,
) -> NDArray[np.int64]:
    """Numbers of the `count` usable clips whose middles are nearest to a moment, in time order."""
    numbers = np.flatnonzero(usable)
    distance = np.abs((start_time + end_time)[numbers] / 2 - moment)
    return np.sort(numbers[np.argsort(distance, kind="stable")[:count]])


def pooled(
    features: Floats,
    valid: NDArray[np.bool_],
    start_time: NDArray[np.float64],
    end_time: NDArray[np.float64],
    segment: tuple[float, float],
    how: Pooling,
    count: int = 1,
) -> Floats:
    """A segment of one stream.

    Args:
        features: float32 [clips, D].
        valid: bool [clips].
        start_time: float64 [clips] seconds on the take's clock.
        end_time: float64 [clips] seconds on the take's clock.
        segment: its start and end, in the same seconds.
        how: `mean` and `max` over its valid clips give [D]; `nearest` gives the `count` valid clips
            nearest to its middle, [count, D]; `all` gives its clips as they are, [clips of it, D].
        count: for `nearest`.

    Returns:
        float32; NaN where there is no valid clip.
    """
    dim = features.shape[1]
    inside = members(start_time, end_time, *segment)
    if how == "all":
        found = features[inside].copy()
        found[~valid[inside]] = np.nan
        return found
    if how == "nearest":
        rows = np.full((count, dim), np.nan, dtype=np.float32)
        if inside.any():
            middle = (segment[0] + segment[1]) / 2
            near = nearest(start_time, end_time, valid, middle, count)
            rows[: len(near)] = features[near]
        return rows
    some = features[inside & valid]
    if not len(some):
        return np.full(dim, np.nan, dtype=np.float32)
    return np.asarray(some.mean(axis=0) if how == "mean" else some.max(axis=0), dtype=np.float32)
