"""Offset and drift that most windows agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# No camera's clock gains or loses more.
MOST_DRIFT = 300e-6
# With fewer windows, or less time between the first and the last, drift is not told from chance.
DRIFT_WINDOWS, DRIFT_SECONDS = 4, 20.0
# Standard errors from which on a drift is taken for one, and the largest error worth a number.
DRIFT_CERTAIN = 4.0
DRIFT_DOUBT = 10e-6


@dataclass(frozen=True)
class Line:
    """Lag along the take: `offset + drift * moment`.

    Attributes:
        offset: seconds at the take's beginning.
        slope: seconds per second that count; 0 where drift cannot be told from none.
        drift: seconds per second as measured; None where the windows cannot tell.
        spread: median distance of the agreeing lags from the line, in seconds.
        agree: bool [windows], which lags are within the tolerance.
    """

    offset: float
    slope: float
    drift: float | None
    spread: float
    agree: NDArray[np.bool_]

    def at(self, moment: float) -> float:
        """The lag at a moment, in seconds."""
        return self.offset + self.slope * moment


def fit_line(
    moments: Sequence[float], lags: Sequence[float], tolerance: float, error: float
) -> Line | None:
    """The line that most lags are near to.

    Args:
        moments: float [n] seconds on the take's clock.
        lags: float [n] seconds.
        tolerance: largest distance of a lag that agrees, in seconds.
        error: of a single lag, at least, in seconds.

    Returns:
        The line; None without lags.
    """
    time, lag = np.array(moments, dtype=np.float64), np.array(lags, dtype=np.float64)
    if not len(time):
        return None
    agree, _ = max(
        (_agreeing(time, lag, offset, drift, tolerance) for offset, drift in _guesses(time, lag)),
        key=lambda found: (int(found[0].sum()), -found[1]),
    )
    offset, slope, drift = float(np.median(lag[agree])), 0.0, None
    if agree.sum() >= DRIFT_WINDOWS and np.ptp(time[agree]) >= DRIFT_SECONDS:
        level, steep, doubt = _least_squares(time[agree], lag[agree], error)
        if abs(steep) > DRIFT_CERTAIN * doubt:
            offset, slope, drift = level, steep, steep
        elif doubt <= DRIFT_DOUBT:
            drift = steep
    distance = np.abs(lag - offset - slope * time)
    agree = distance <= tolerance
    spread = float(np.median(distance[agree])) if agree.any() else tolerance
    return Line(offset, slope, drift, spread, agree)


def _guesses(time: NDArray[np.float64], lag: NDArray[np.float64]) -> list[tuple[float, float]]:
    guesses = [(float(one), 0.0) for one in lag]
    for first in range(len(time)):
        for second in range(first + 1, len(time)):
            step = time[second] - time[first]
            drift = (lag[second] - lag[first]) / step if step > 0 else np.inf
            if abs(drift) <= MOST_DRIFT:
                guesses.append((float(lag[first] - drift * time[first]), float(drift)))
    return guesses


def _agreeing(
    time: NDArray[np.float64],
    lag: NDArray[np.float64],
    offset: float,
    drift: float,
    tolerance: float,
) -> tuple[NDArray[np.bool_], float]:
    distance = np.abs(lag - offset - drift * time)
    near = distance <= tolerance
    return near, float(distance[near].sum())


def _least_squares(
    time: NDArray[np.float64], lag: NDArray[np.float64], error: float
) -> tuple[float, float, float]:
    """Offset, drift and the drift's standard error, outlying lags weighed down."""
    weight = np.ones(len(time))
    level = slope = 0.0
    scale = error
    for _ in range(8):
        total = weight.sum()
        middle, mean = (weight * time).sum() / total, (weight * lag).sum() / total
        spread = (weight * (time - middle) ** 2).sum()
        slope = float((weight * (time - middle) * (lag - mean)).sum() / spread)
        level = float(mean - slope * middle)
        distance = np.abs(lag - level - slope * time)
        scale = max(error, 1.4826 * float(np.median(distance)))
        # Tukey's biweight.
        weight = np.square(np.clip(1 - np.square(distance / (4.685 * scale)), 1e-6, 1))
    return level, slope, float(scale / np.sqrt(spread))
