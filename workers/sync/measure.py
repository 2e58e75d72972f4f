"""The synchronisation of one take, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from takestream.schema import Reason
from takestream.sync import SIGHT, SOUND, TakeSync
from workers.clock.probe import TakeProbe, probe_take
from workers.dataset.base import Dataset
from workers.dataset.take import Take
from workers.media.container import UnreadableVideo
from workers.media.counters import Counters
from workers.media.sound import Samples, Sound, find_sound
from workers.media.source import Source
from workers.media.video import Video
from workers.sync import sight, sound
from workers.sync.verdict import Facts, Witness, judge
from workers.sync.windows import Spans

# Which witnesses each word asks; that of the clocks costs nothing and is always asked.
METHODS: Mapping[str, tuple[str, ...]] = {
    "clock": (),
    "sound": (SOUND,),
    "sight": (SIGHT,),
    "all": (SOUND, SIGHT),
}
TOO_SHORT = "too short"


def measure_take(
    take: Take,
    dataset: Dataset,
    method: str,
    counters: Counters,
    probed: tuple[TakeProbe, Mapping[str, Video]] | None = None,
) -> TakeSync:
    """How the streams of a take stand beside each other.

    Args:
        take: with all its streams.
        dataset: where its objects are.
        method: one of `METHODS`.
        counters: of what is read and decoded.
        probed: what probing the take found, where it was probed already.

    Raises:
        StorageError: the storage fails, or an object is not the one that was probed.
    """
    probe, videos = probed or probe_take(take, dataset, counters)
    begins = {name: probe.streams[name].start_offset or 0.0 for name in videos}

    def source(name: str) -> Source:
        return probe.streams[name].source(counters)

    rate = float(probe.rate)
    duration = probe.frames / rate
    found = {}
    if SOUND in METHODS[method]:
        found[SOUND] = _by_sound(videos, begins, source, duration)
    if SIGHT in METHODS[method]:
        found[SIGHT] = _by_sight(videos, begins, source, duration, rate)
    facts = Facts(
        streams=[stream.key for stream in take.streams],
        ego=frozenset(stream.key for stream in take.streams if stream.is_ego),
        readable=frozenset(videos),
        fps=rate,
        duration=duration,
        clock=by_clock(probe, videos),
    )
    return judge(facts, method, found)


def by_clock(probe: TakeProbe, videos: Mapping[str, Video]) -> dict[str, dict[str, Any]]:
    """By stream, what PTS and counts say of it."""
    return {
        name: {
            "frames": one.frames,
            "take_frames": probe.frames,
            "rate": one.rate,
            "late_ms": round(videos[name].index.late * 1e3, 1),
            "pts_frames": round(one.drift, 3),
        }
        for name, one in probe.streams.items()
        if one.reason is Reason.VALID and name in videos
    }


def _by_sound(
    videos: Mapping[str, Video],
    begins: Mapping[str, float],
    source: Callable[[str], Source],
    duration: float,
) -> Witness:
    listens: dict[str, sound.Listen] = {}
    lacking: dict[str, str] = {}
    for name, video in videos.items():
        try:
            track = find_sound(video.index, video.origin - begins[name])
        except UnreadableVideo:
            track = None
        if track is None:
            lacking[name] = "no sound track"
        else:
            listens[name] = _listen(track, source(name))
    if not sound.windows(duration):
        lacking = dict.fromkeys(videos, TOO_SHORT)
    return Witness(sound.compare_sounds(listens, duration), sound.RULES, lacking)


def _listen(track: Sound, source: Source) -> sound.Listen:
    def listen(spans: Spans, rate: int) -> list[Samples]:
        try:
            return track.read(source, spans, rate)
        except UnreadableVideo:
            return [np.zeros(round((b - a) * rate), dtype=np.float32) for a, b in spans]

    return listen


def _by_sight(
    videos: Mapping[str, Video],
    begins: Mapping[str, float],
    source: Callable[[str], Source],
    duration: float,
    rate: float,
) -> Witness:
    def look(name: str) -> sight.Look:
        def changes(spans: Spans) -> list[sight.Series]:
            return sight.changes(videos[name].reader(source(name)), spans, rate, begins[name])

        return changes

    looks = {name: look(name) for name in videos}
    lacking = {} if sight.windows(duration) else dict.fromkeys(videos, TOO_SHORT)
    links = sight.compare_sights(looks, duration, rate)
    return Witness(links, sight.rules(rate), lacking)
