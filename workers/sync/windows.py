"""Which moments of a take are compared, and what has to be read for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Seconds `[start, stop)` of stretches, ascending, apart.
Spans = Sequence[tuple[float, float]]

# Golden section: no two windows begin alike in what is read around them, whatever the period of
# what is heard, so that what only comes of where the reading begins differs between windows.
SECTION = 0.618034


@dataclass(frozen=True)
class Window:
    """A stretch of the take's clock, in seconds, and how much around it is looked at.

    Attributes:
        start, length: of the window.
        before, after: seconds around it: the lags that can be found.
    """

    start: float
    length: float
    before: float
    after: float

    @property
    def span(self) -> tuple[float, float]:
        """All of it, with what is around."""
        return self.start - self.before, self.start + self.length + self.after

    @property
    def middle(self) -> float:
        """The moment that it speaks for."""
        return self.start + self.length / 2


def plan_windows(
    duration: float,
    count: int,
    length: tuple[float, float, float],
    reach: tuple[float, float],
    *,
    alike: bool = False,
) -> tuple[Window, ...]:
    """Windows spread over a take, fewer or shorter ones over a short take.

    Args:
        duration: of the take, in seconds.
        count: how many at most.
        length: of a window: the part of the take, and the least and the most seconds.
        reach: the least and the most lag that is looked for, in seconds.
        alike: whether as much is read before and after each window.

    Returns:
        The windows; empty when the take is too short for two.
    """
    part, short, long = length
    seconds = float(np.clip(duration * part, short, long))
    least, most = reach
    around = float(np.clip(duration / 6, least, most))
    # Most of the time both recordings have to be there.
    room = duration - 2 * min(around, duration / 8)
    fit = min(count, int(room / seconds))
    if fit < 2:
        return ()
    starts = np.linspace((duration - room) / 2, (duration + room) / 2 - seconds, fit)
    return tuple(
        Window(float(start), seconds, *_around(around, 0 if alike else number))
        for number, start in enumerate(starts)
    )


def _around(reach: float, number: int) -> tuple[float, float]:
    part = (number * SECTION) % 1.0
    return reach * (1 + 0.2 * part), reach * (1.2 - 0.2 * part)


def joined(windows: Sequence[Window], slack: float, rate: float) -> list[tuple[float, float]]:
    """The stretches that have to be read for some windows: ascending, apart.

    Args:
        windows: in order.
        slack: two stretches that are no further apart, in seconds, are one.
        rate: of the samples; stretches begin and end at whole ones, so that windows can be cut out.
    """
    spans: list[tuple[float, float]] = []
    for window in windows:
        low = math.floor(window.span[0] * rate) / rate
        high = math.ceil(window.span[1] * rate) / rate
        if spans and low <= spans[-1][1] + slack:
            spans[-1] = (spans[-1][0], max(spans[-1][1], high))
        else:
            spans.append((low, high))
    return spans


def cut(
    series: Sequence[NDArray[np.floating]],
    spans: Spans,
    rate: float,
    low: float,
    high: float,
) -> NDArray[np.floating]:
    """`[low, high)` seconds out of the stretches `spans` that were read; float32 [..., n].

    What lies in none of them is 0.
    """
    count = round((high - low) * rate)
    for (start, stop), part in zip(spans, series, strict=True):
        if start - 1e-9 <= low and high <= stop + 1e-9:
            first = round((low - start) * rate)
            piece = part[..., first : first + count]
            missing = count - piece.shape[-1]
            return np.pad(piece, [(0, 0)] * (piece.ndim - 1) + [(0, missing)]) if missing else piece
    return np.zeros((*series[0].shape[:-1], count), dtype=np.float32)
