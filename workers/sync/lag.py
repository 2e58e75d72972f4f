"""By how much later one recording lets one hear what another does, window by window.

Compared is by the generalised cross-correlation with phase transform (Knapp and Carter 1976,
IEEE Trans. ASSP 24, 320-327): only phases count, so that level, microphone and room colour matter
little.

A lag is clear when no other answer comes near it: neither another lag nor another moment. What
repeats itself (a metronome, hum, a loop) and what is alike without being the same (two tunes of
one beat) give as high a peak for windows of different moments, and so are never clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from workers.sync.windows import Window

Floats = NDArray[np.floating]
Spectrum = NDArray[np.complexfloating]

# Samples per second at which sound is compared, and the Hz that count: below is hum and wind.
RATE = 8000
BAND = (120.0, 3600.0)
# Quieter than this (94 dB below full scale) a track is silent.
SILENCE = 2e-5
# A second peak further away than this, in seconds, is another answer.
SOUND_WIDTH = 0.003
# Half-whitened sound has broad peaks.
BROAD_WIDTH = 0.1
# Of independent noises the highest peak is about 5 times as high as the usual value.
SOUND_STRENGTH = 8.0
# How near another answer may come, by the best one's height.
RIVAL = 0.7
BROAD_RIVAL = 0.85
# Other moments that a window is compared with.
ELSEWHERE = 4


@dataclass(frozen=True)
class Lag:
    """What one window of two recordings says.

    Attributes:
        moment: seconds on the take's clock.
        seconds: by how much later the second recording shows what the first shows.
        strength: of the peak, in units of the correlation's usual value.
        rival: the next best answer's height by the best one's.
        heard: whether there is a peak that chance does not make.
        clear: whether there is just one answer, too.
    """

    moment: float
    seconds: float
    strength: float
    rival: float
    heard: bool
    clear: bool


class Sounds:
    """One recording's windows and what is around them, ready to be compared.

    Args:
        windows: the windows.
        around: for each, float [n] at `RATE`, `window.span` of the recording.
    """

    def __init__(self, windows: Sequence[Window], around: Sequence[Floats]) -> None:
        self.windows = windows
        longest = max(len(part) for part in around)
        inner = [_inner(window, part) for window, part in zip(windows, around, strict=True)]
        self.size = fft.next_fast_len(longest + max(map(len, inner)), real=True)
        self.lags = [len(part) - len(own) + 1 for part, own in zip(around, inner, strict=True)]
        self.audible = [bool(_loudness(own) >= SILENCE) for own in inner]
        self.inner: list[Spectrum] = [fft.rfft(own, self.size) for own in inner]
        self.around: list[Spectrum] = [fft.rfft(part, self.size) for part in around]
        frequency = np.arange(self.size // 2 + 1) * RATE / self.size
        self.band = (frequency >= BAND[0]) & (frequency <= BAND[1])


def sound_lags(first: Sounds, second: Sounds) -> list[Lag | None]:
    """The lag of `second` to `first`, window by window; None where one of them is silent."""
    return [_sound_lag(first, second, number) for number in range(len(first.windows))]


def _sound_lag(first: Sounds, second: Sounds, number: int) -> Lag | None:
    if not (first.audible[number] and second.audible[number]):
        return None
    window = first.windows[number]
    height, broad = _heights(first, second, number, number)
    usual = float(np.median(height)) / 0.6745
    at = int(height.argmax())
    if usual <= 0 or not 0 < at < len(height) - 1:
        return None
    top = float(height[at])
    strength = top / usual
    rival = beside(height, at, SOUND_WIDTH * RATE) / top
    heard = strength >= SOUND_STRENGTH
    clear = heard and rival < RIVAL
    if clear:
        near = broad[max(0, at - 8) : at + 9].max()
        clear = bool(beside(broad, at, BROAD_WIDTH * RATE) < BROAD_RIVAL * near)
    if clear:
        elsewhere = _elsewhere(first, second, number, at / RATE - window.before)
        rival = max(rival, elsewhere / strength)
        clear = rival < RIVAL
    shift = vertex(*height[at - 1 : at + 2].tolist())
    seconds = (at + shift) / RATE - window.before
    return Lag(window.middle, seconds, strength, rival, heard, clear)


def _elsewhere(first: Sounds, second: Sounds, number: int, lag: float) -> float:
    """The strength of the best answer at other moments; the same moment does not count."""
    window, others = first.windows[number], len(first.windows)
    step = max(1, others // (ELSEWHERE + 1))
    best = 0.0
    for other in [(number + step * k) % others for k in range(1, ELSEWHERE + 1)]:
        if other == number or not second.audible[other]:
            continue
        height, _ = _heights(first, second, number, other)
        usual = float(np.median(height)) / 0.6745
        low = second.windows[other].span[0]
        same = round((window.start + lag - low) * RATE)
        top = beside(height, same, SOUND_WIDTH * RATE)
        best = max(best, top / usual if usual > 0 else 0.0)
    return best


def _heights(first: Sounds, second: Sounds, number: int, other: int) -> tuple[Floats, Floats]:
    """The correlation by lag, whitened and half-whitened; float [lags] each."""
    cross = second.around[other] * np.conj(first.inner[number])
    weight = np.abs(cross)
    # What is weaker by far than the rest is what a codec or a filter left: its phase says nothing.
    inside = second.band & (weight > 1e-6 * weight[second.band].max(initial=0))
    divisor = np.where(inside, weight, 1.0)
    white = np.where(inside, cross / divisor, 0)
    half = np.where(inside, cross / np.sqrt(divisor), 0)
    count = second.lags[other]
    # A microphone may be wired the other way round, so that the peak is negative.
    found = np.abs(fft.irfft(np.stack([white, half]), first.size)[:, :count])
    return found[0], found[1]


def _inner(window: Window, part: Floats) -> Floats:
    first = round(window.before * RATE)
    return part[first : first + round(window.length * RATE)]


def beside(height: Floats, at: int, width: float) -> float:
    """The highest value further than `width` from `at`."""
    low, high = max(0, at - int(max(1, width))), max(0, at + int(max(1, width)) + 1)
    return float(max(height[:low].max(initial=0), height[high:].max(initial=0)))


def vertex(left: float, middle: float, right: float) -> float:
    """Where a parabola through three values has its top, from the middle one."""
    curve = left - 2 * middle + right
    return 0.0 if curve >= 0 else float(np.clip(0.5 * (left - right) / curve, -0.5, 0.5))


def _loudness(sound: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0
