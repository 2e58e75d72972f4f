"""Requests for features, and plans: which clips, what stores have of them, what is missing."""

import fnmatch
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.faults import did_you_mean
from service.errors import Unknown
from service.features.block import Array, Block, Clips
from service.features.cache import OpenStore
from service.features.catalogue import Variant
from service.features.encoding import TakeFeatures
from takestream.errors import ErrorKind, TakestreamError
from takestream.licence import ATTRIBUTE as LICENCE
from takestream.sync import TakeSync
from workers.dataset.selection import LEFT_OUT
from workers.dataset.take import Take

# Attributes of a store that an answer carries.
CARRIED = ("take", "grid", "encoder", "provenance", "problems")


@dataclass(frozen=True)
class FeatureRequest:
    """A request for features of one take, with its names resolved.

    Attributes:
        take: The take.
        variant: The encoder_id.
        streams: Keys of the take's streams.
        start: Seconds on the take's clock, None for the take's beginning.
        end: Seconds on the take's clock, None for the take's end.
    """

    take: Take
    variant: Variant
    streams: tuple[str, ...]
    start: float | None = None
    end: float | None = None


# Which of some clips are needed: bool [n].
Wanted = Callable[[Clips], Array]


class CannotCompute(TakestreamError):
    """Something is missing that this service or this caller cannot have computed."""

    kind = ErrorKind.NOT_FOUND


class TooManyClips(TakestreamError):
    """More clips, counted per stream, than one answer may have."""

    kind = ErrorKind.TOO_LARGE


class BeyondTake(TakestreamError):
    """A time at which a take has ended."""

    kind = ErrorKind.INVALID


@dataclass(frozen=True)
class FeaturePlan:
    """The clips of an answer, what is known of them, and what has to be computed.

    Attributes:
        request: What was asked for.
        store: The store that was read.
        clips: The clips [n].
        block: What is known of them, [n, S].
        wanted: bool [n], which of the clips are needed.
        windows: What has to be computed: (streams, first clip, clip after the last).
        cached: Clips × streams that were known before any was computed.
    """

    request: FeatureRequest
    store: OpenStore
    clips: Clips
    block: Block
    wanted: Array
    windows: tuple[tuple[tuple[str, ...], int, int], ...]
    cached: int = 0

    @property
    def missing(self) -> int:
        """Clips × streams that have to be computed."""
        return sum((stop - first) * len(streams) for streams, first, stop in self.windows)

    @property
    def attributes(self) -> dict[str, Any]:
        """The store's attributes, the licence of its videos too.

        Provenance, problems and `sync` are those of these streams alone.
        """
        found = {name: self.store.attributes.get(name, {}) for name in CARRIED}
        streams = self.request.streams
        provenance = dict(found["provenance"])
        provenance["streams"] = _only(provenance.get("streams", {}), streams)
        answer = {**found, "provenance": provenance, "problems": _only(found["problems"], streams)}
        if (licence := self.store.attributes.get(LICENCE)) is not None:
            answer[LICENCE] = licence
        if (sync := TakeSync.of(self.store.attributes)) is not None:
            facts = sync.facts()
            answer["sync"] = {**facts, "streams": _only(facts["streams"], streams)}
        return answer

    def features(self) -> TakeFeatures:
        """The features, as far as they are known."""
        return TakeFeatures(self.attributes, self.request.streams, self.clips, self.block)

    def etag(self, kind: str) -> str | None:
        """A weak entity tag of these features as media type `kind`.

        It is made of the provenance: the same provenance gives the same features.

        Returns:
            The tag; None while a clip is not known.
        """
        if not self.block.have[self.wanted].all():
            return None
        provenance = self.attributes["provenance"]
        facts = [
            self.request.variant.encoder_id,
            self.request.take.uid,
            provenance["streams"],
            provenance.get("versions"),
            str(self.block.features.dtype),
            self.clips.clip[self.wanted].tolist(),
            self.block.reason[self.wanted].tolist(),
            self.request.streams,
            kind,
        ]
        if (sync := TakeSync.of(self.store.attributes)) is not None and sync.applied:
            facts.append({name: one.shift_frames for name, one in sync.streams.items()})
        text = json.dumps(facts, sort_keys=True, default=str)
        return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def chosen_streams(take: Take, names: Sequence[str]) -> tuple[str, ...]:
    """The streams of a take that names or patterns match, in the take's order.

    Without any, those that a job takes too: all but eye cameras, or these where it has no others.

    Raises:
        Unknown: A name or pattern matches none.
    """
    keys = [stream.key for stream in take.streams]
    if not keys:
        raise Unknown(f"take {take.name} has no camera stream in takes.json")
    for word in names:
        if not fnmatch.filter(keys, word) and word not in keys:
            hint = did_you_mean(word[:200], keys)
            raise Unknown(f"take {take.name} has no stream '{word[:200]}'{hint}")
    if not names:
        usual = tuple(s.key for s in take.streams if s.camera_kind not in LEFT_OUT)
        return usual or tuple(keys)
    return tuple(k for k in keys if k in names or any(fnmatch.fnmatchcase(k, w) for w in names))


def check_within(take: Take, clips: Clips, name: str, seconds: float) -> None:
    """Raise BeyondTake for a time after a take's last clip.

    Args:
        take: The take.
        clips: All that it has.
        name: What the request calls the time.
        seconds: On the take's clock.
    """
    last = float(clips.end_time.max(initial=0))
    if seconds >= last > 0:
        raise BeyondTake(
            f"{name}: {seconds:g} s is beyond take {take.name}, whose last clip ends at {last:g} s"
        )


def read_plan(
    request: FeatureRequest, store: OpenStore, wanted: Wanted | None, limit: int
) -> FeaturePlan | None:
    """Read what a store has of a request.

    Args:
        request: What is asked for.
        store: The store of its take and encoder_id.
        wanted: From clips to bool [n], which of them are needed; None for all.
        limit: Clips × streams in one answer.

    Returns:
        The plan; None when the store changed meanwhile.

    Raises:
        BeyondTake: The take has ended before the request's time begins.
        TooManyClips: More than `limit`.
        StorageError: The store cannot be read.
    """
    if request.start is not None:
        check_within(request.take, store.clips, "start", request.start)
    clips = store.clips.within(request.start, request.end)
    needed = np.ones(len(clips.clip), dtype=bool) if wanted is None else wanted(clips)
    rows = np.flatnonzero(needed)
    if len(rows):  # nothing before the first and after the last that is needed
        keep = slice(int(rows[0]), int(rows[-1]) + 1)
        clips = clips.chosen(keep)
        needed = needed[keep]
    n = len(clips.clip)
    if n * len(request.streams) > limit:
        raise TooManyClips(
            f"{n * len(request.streams)} clips × streams in one answer, {limit} are allowed: ask "
            "for a shorter time or fewer streams"
        )
    first = int(clips.clip[0]) if n else 0
    block = store.read(request.streams, first, first + n)
    if block is None:
        return None
    windows = _windows(request.streams, first, block, needed)
    return FeaturePlan(request, store, clips, block, needed, windows, int(block.have[needed].sum()))


def _windows(
    streams: tuple[str, ...], first: int, block: Block, needed: Array
) -> tuple[tuple[tuple[str, ...], int, int], ...]:
    """Runs of missing clips; streams that lack the same run are computed together."""
    runs: dict[tuple[int, int], list[str]] = {}
    for at, name in enumerate(streams):
        lacking = np.concatenate([[0], (~block.have[:, at] & needed).astype(np.int8), [0]])
        edges = np.flatnonzero(np.diff(lacking))
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            runs.setdefault((first + begin, first + end), []).append(name)
    return tuple((tuple(names), a, b) for (a, b), names in sorted(runs.items()))


def _only(facts: Any, streams: Sequence[str]) -> dict[str, Any]:
    return {name: facts[name] for name in streams if name in facts}
