"""The witness of sound: cameras of a take heard the same room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

from workers.media.sound import Samples
from workers.sync.agreement import Link, Pair, Rules, link
from workers.sync.lag import RATE, Sounds, sound_lags
from workers.sync.windows import Spans, Window, cut, joined, plan_windows

# Sound takes 3 ms for a metre, so windows with other sources of sound differ by some.
RULES = Rules(tolerance=0.010, error=0.0002)
# Windows of a take, seconds of each, and the lags that are looked for.
COUNT, LENGTH, REACH = 12, (1 / 8, 1.0, 4.0), (0.8, 3.0)
# Seconds between two stretches that are read rather than jumped over.
SLACK = 1.0

# Reads stretches of a recording at a rate, as `workers.media.sound.Sound.read` does.
Listen = Callable[[Spans, int], list[Samples]]


def windows(duration: float) -> tuple[Window, ...]:
    """The windows of a take of so many seconds; none of one that is too short."""
    return plan_windows(duration, COUNT, LENGTH, REACH)


def compare_sounds(recordings: Mapping[str, Listen], duration: float) -> dict[Pair, Link]:
    """What every two recordings say together.

    Args:
        recordings: by camera.
        duration: of the take, in seconds.

    Returns:
        By pair; empty when the take is too short.
    """
    compared = windows(duration)
    if not compared or len(recordings) < 2:
        return {}
    spans = joined(compared, SLACK, RATE)

    def read(listen: Listen) -> Sounds:
        series = listen(spans, RATE)
        return Sounds(compared, [cut(series, spans, RATE, *one.span) for one in compared])

    with ThreadPoolExecutor(len(recordings), thread_name_prefix="listen") as pool:
        sounds = dict(zip(recordings, pool.map(read, recordings.values()), strict=True))
    return {
        (first, second): link(sound_lags(sounds[first], sounds[second]), RULES)
        for first, second in combinations(recordings, 2)
    }
