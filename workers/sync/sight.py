"""The witness of sight: what cameras of a take saw change.

Weaker than sound: two cameras see the same movement from two sides, and much that moves repeats
itself. Compared is how much the picture changes from frame to frame, and how its brightness does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from workers.media.reader import Reader
from workers.sync.agreement import Link, Pair, Rules
from workers.sync.lag import beside, vertex
from workers.sync.line import Line, fit_line
from workers.sync.windows import Spans, Window, cut, joined, plan_windows

Series = NDArray[np.floating]

# Windows of a take, seconds of each, and the lags that are looked for.
COUNT, LENGTH, REACH = 8, (1 / 7, 1.5, 6.0), (0.8, 2.0)
# Seconds between two stretches that are decoded rather than jumped over.
SLACK = 1.0
# The picture that is looked at, in pixels.
WIDTH, HEIGHT = 64, 36
# Its pixels that change most, which are looked at.
MOVING = WIDTH * HEIGHT // 20
# Seconds over which slow changes are taken out.
SLOW = 2.0
# Standard deviations from which on a change counts no more: a flash is one moment of many.
MOST = 4.0
# Grey levels of 255 by which noise and coding alone change what moves most, and the brightness.
STILL = (0.3, 0.02)

# Reads stretches of a stream, as `changes` does.
Look = Callable[[Spans], list[Series]]


def windows(duration: float) -> tuple[Window, ...]:
    """The windows of a take of so many seconds; none of one that is too short."""
    found = plan_windows(duration, COUNT, LENGTH, REACH, alike=True)
    return found if len(found) >= LEAST_WINDOWS else ()


# Fewer windows tell nothing.
LEAST_WINDOWS = 4
# A second answer further away than this, in seconds, is another one.
APART = 0.2
# A correlation of changes below this says nothing; how near another answer may come, by the best
# one's height, and how near where the result is sure.
LEAST, RIVAL, SURE_RIVAL = 0.3, 0.75, 0.6


def rules(rate: float) -> Rules:
    """When lags are believed, for cameras of `rate` frames per second."""
    return Rules(
        tolerance=1.0 / rate,
        error=0.1 / rate,
        least=LEAST_WINDOWS,
        share=0.5,
        sure_least=5,
        sure_share=0.75,
    )


def compare_sights(streams: Mapping[str, Look], duration: float, rate: float) -> dict[Pair, Link]:
    """What every two streams say together.

    Args:
        streams: by name.
        duration: of the take, in seconds.
        rate: frames per second of the take.

    Returns:
        By pair; empty when the take is too short.
    """
    compared = windows(duration)
    if not compared or len(streams) < 2:
        return {}
    spans = joined(compared, SLACK, rate)

    def read(look: Look) -> list[Series]:
        series = look(spans)
        return [cut(series, spans, rate, *one.span) for one in compared]

    with ThreadPoolExecutor(len(streams), thread_name_prefix="look") as pool:
        found = dict(zip(streams, pool.map(read, streams.values()), strict=True))
    return {
        (first, second): compare_motion(compared, found[first], found[second], rate)
        for first, second in combinations(streams, 2)
    }


def compare_motion(
    windows: Sequence[Window], first: Sequence[Series], second: Sequence[Series], rate: float
) -> Link:
    """What two streams say together.

    Movements are few and alike, so one window tells little: the answer is what all windows
    together say, if no other lag and no other moment says it nearly as loud.

    Args:
        windows: the windows.
        first: for each, float32 [k, n]: k measures of change by frame, of `window.span`.
        second: likewise.
        rate: frames per second.
    """
    rule, count = rules(rate), len(windows)
    before = round(max(window.before for window in windows) * rate)
    inner = [
        part[:, round(window.before * rate) :][:, : round(window.length * rate)]
        for window, part in zip(windows, first, strict=True)
    ]
    table = [[_likeness(own, other) for other in second] for own in inner]
    told = [number for number in range(count) if table[number][number] is not None]
    if len(told) < rule.least:
        return Link(None, 0, 0, 0, len(told), False)
    together = _mean([table[number][number] for number in told])
    at = int(together.argmax())
    top = float(together[at])
    rival = beside(together, at, APART * rate)
    for apart in range(1, count):
        others = [table[number][(number + apart) % count] for number in told]
        # The same moment, where another window's surroundings show it too, does not count.
        for row, number in enumerate(told):
            shift = windows[(number + apart) % count].start - windows[number].start
            others[row] = _without(others[row], at - round(shift * rate), APART * rate)
        rival = max(rival, float(_mean(others).max(initial=0)))
    width = round(rule.tolerance * rate)
    lags = [_near(table[number][number], at, width) for number in told]
    seconds = [(lag - before) / rate for lag in lags if lag is not None]
    moments = [
        windows[number].middle for number, lag in zip(told, lags, strict=True) if lag is not None
    ]
    agree = len(seconds)
    believed = 0 < at < len(together) - 1 and top >= LEAST and rival < RIVAL * top
    if not believed or agree < max(rule.least, rule.share * len(told)):
        return Link(None, agree, len(told), len(told), len(told), False)
    middle = (at + _top(together, at) - before) / rate
    line = fit_line(moments, seconds, rule.tolerance, rule.error)
    if line is None or not line.slope:
        distance = np.abs(np.array(seconds) - middle)
        drift = None if line is None else line.drift
        line = Line(middle, 0.0, drift, float(np.median(distance)), distance <= rule.tolerance)
    sure = agree >= max(rule.sure_least, rule.sure_share * len(told)) and rival < SURE_RIVAL * top
    return Link(line, agree, len(told), len(told), len(told), sure)


def _near(curve: Series | None, at: int, width: int) -> float | None:
    """Where a window's own curve is highest about `at`; None where it speaks against it."""
    if curve is None:
        return None
    low = max(0, at - width)
    best = low + int(curve[low : at + width + 1].argmax())
    if curve[best] < max(LEAST, RIVAL * float(curve.max())):
        return None
    return best + _top(curve, best)


def _likeness(first: Series, second: Series) -> Series | None:
    """Pearson's correlation of `first` [k, n] with each stretch of `second` [k, m].

    Returns:
        Float [m - n + 1], of the k the highest; None where one of them does not change.
    """
    found = []
    for one, other in zip(first, second, strict=True):
        stretches = np.lib.stride_tricks.sliding_window_view(other, len(one))
        centred = stretches - stretches.mean(axis=1, keepdims=True)
        own = one - one.mean()
        norm = np.linalg.norm(centred, axis=1) * np.linalg.norm(own)
        if norm.any():
            found.append(np.divide(centred @ own, norm, out=np.zeros(len(norm)), where=norm > 0))
    return np.max(found, axis=0) if found else None


def _mean(curves: Sequence[Series | None]) -> Series:
    there = [curve for curve in curves if curve is not None]
    shortest = min((len(curve) for curve in there), default=0)
    return np.mean([curve[:shortest] for curve in there], axis=0) if there else np.zeros(1)


def _without(curve: Series | None, at: int, width: float) -> Series | None:
    if curve is None:
        return None
    kept = np.abs(np.arange(len(curve)) - at) > width
    return np.where(kept, curve, 0.0)


def _top(curve: Series, at: int) -> float:
    inside = 0 < at < len(curve) - 1
    return vertex(*curve[at - 1 : at + 2].tolist()) if inside else 0.0


def changes(reader: Reader, spans: Spans, rate: float, begins: float = 0.0) -> list[Series]:
    """How much a stream's pictures change, on an even clock.

    Args:
        reader: the stream.
        spans: seconds `[start, stop)` on the take's clock, ascending, apart.
        rate: values per second of the result.
        begins: seconds on the take's clock of its first frame.

    Returns:
        For each span float32 [2, round((stop - start) * rate)]: how much the picture changes, and
        how its mean brightness does, without what changes slowly; 0 where it shows nothing.

    Raises:
        StorageError: bytes cannot be read.
    """
    times = reader.times() + begins
    return [_changes(reader, times, start, stop, rate) for start, stop in spans]


def _changes(
    reader: Reader, times: NDArray[np.float64], start: float, stop: float, rate: float
) -> Series:
    count = round((stop - start) * rate)
    inside = np.flatnonzero((times > start - 0.1) & (times < stop + 0.1))
    if len(inside) < 3:
        return np.zeros((2, count), dtype=np.float32)
    smaller = VideoReformatter()

    def small(_: int, frame: VideoFrame) -> tuple[bool, NDArray[np.int16]]:
        made = smaller.reformat(
            frame, WIDTH, HEIGHT, "gray", interpolation=Interpolation.AREA, threads=1
        )
        return bool(frame.key_frame), made.to_ndarray().astype(np.int16)

    moments, energy, light = [], [], []
    before: tuple[float, NDArray[np.int16]] | None = None
    for decoded in reader.read(int(inside[0]), int(inside[-1]) + 1, lambda _: True, small):
        if decoded.picture is None or not np.isfinite(times[decoded.frame]):
            before = None
            continue
        fresh, picture = decoded.picture
        now = float(times[decoded.frame]), picture
        # A key frame differs from the frame before by what coding had lost there, and cameras have
        # their key frames at the same numbers, whatever they film.
        if before is not None and not fresh:
            difference = now[1] - before[1]
            moments.append((before[0] + now[0]) / 2)
            # What moves fills a part of the picture, and noise all of it.
            moved = np.partition(np.abs(difference), -MOVING, axis=None)[-MOVING:]
            energy.append(float(moved.mean()))
            light.append(float(difference.mean()))
        before = now
    clock = start + np.arange(count) / rate
    return np.stack(
        [
            _even(moments, values, clock, rate, least)
            for values, least in zip((energy, light), STILL, strict=True)
        ]
    )


def _even(
    moments: Sequence[float],
    values: Sequence[float],
    clock: NDArray[np.float64],
    rate: float,
    least: float,
) -> Series:
    """Values at the moments of an even clock, slow changes taken out, in standard deviations."""
    if len(moments) < 3:
        return np.zeros(len(clock), dtype=np.float32)
    series = np.interp(clock, moments, values)
    width = max(3, round(SLOW * rate)) | 1
    padded = np.pad(series, width // 2, mode="reflect" if len(series) > width // 2 else "edge")
    series = series - np.convolve(padded, np.full(width, 1 / width), "valid")
    series = np.where((clock < moments[0]) | (clock > moments[-1]), 0.0, series)
    # By the usual size, so that one flash does not hide all else.
    usual = 1.4826 * float(np.median(np.abs(series)))
    scale = max(usual, 0.25 * float(series.std()))
    if scale < least:
        return np.zeros(len(clock), dtype=np.float32)
    return np.clip(series / scale, -MOST, MOST).astype(np.float32)
