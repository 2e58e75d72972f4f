"""What an answer will hold: its clips, what stores have of them, and what is still to compute."""

import fnmatch
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.load import did_you_mean
from service.errors import Unknown
from service.features.cache import Array, Block, Clips, OpenStore
from service.features.catalogue import Variant
from service.features.encoding import Answer
from workers.dataset.take import Take

KEPT = ("take", "grid", "encoder", "provenance", "problems")


@dataclass(frozen=True)
class Asked:
    """Features that somebody asks for; start and end in seconds on the take's clock."""

    take: Take
    variant: Variant
    streams: tuple[str, ...]
    start: float | None = None
    end: float | None = None


class CannotCompute(LookupError):
    """Something is missing that this service cannot compute, or this asker may not have."""


class TooMuch(Exception):
    """More clips, counted per stream, than one answer may have."""

    def __init__(self, clips: int, limit: int) -> None:
        super().__init__(
            f"{clips} clips × streams in one answer, {limit} are allowed: ask for a shorter time "
            "or fewer streams"
        )


@dataclass(frozen=True)
class Plan:
    """What an answer will hold: the clips, what is known of them, and what is still to compute.

    wanted: bool [n], which clips of the range matter. windows: (streams, first, stop) in clips.
    cached: clips, times streams, that were known before any was computed.
    """

    asked: Asked
    store: OpenStore
    clips: Clips
    block: Block
    wanted: Array
    windows: tuple[tuple[tuple[str, ...], int, int], ...]
    cached: int = 0

    @property
    def missing(self) -> int:
        """Clips, times streams, that have to be computed."""
        return sum((stop - first) * len(streams) for streams, first, stop in self.windows)

    @property
    def attributes(self) -> dict[str, Any]:
        """Take, grid, encoder, and of provenance and problems what is about these streams."""
        found = {name: self.store.attributes.get(name, {}) for name in KEPT}
        streams = self.asked.streams
        provenance = dict(found["provenance"])
        provenance["streams"] = _only(provenance.get("streams", {}), streams)
        return {**found, "provenance": provenance, "problems": _only(found["problems"], streams)}

    def answer(self) -> Answer:
        """The answer as far as it is known."""
        return Answer(self.attributes, self.asked.streams, self.clips, self.block)

    def etag(self, kind: str) -> str | None:
        """Weak: the same provenance gives the same features, to the last bit or so.

        None as long as a clip is not known, or was left out and may come yet.
        """
        if not self.block.have[self.wanted].all():
            return None
        provenance = self.attributes["provenance"]
        facts = [
            self.asked.variant.encoder_id,
            self.asked.take.uid,
            provenance["streams"],
            provenance.get("versions"),
            str(self.block.features.dtype),
            self.clips.clip[self.wanted].tolist(),
            self.block.reason[self.wanted].tolist(),
            self.asked.streams,
            kind,
        ]
        text = json.dumps(facts, sort_keys=True, default=str)
        return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def chosen_streams(take: Take, asked: Sequence[str]) -> tuple[str, ...]:
    """The streams of a take that names or patterns ask for, in its order; all without any.

    Raises Unknown.
    """
    keys = [stream.key for stream in take.streams]
    if not keys:
        raise Unknown(f"take {take.name} has no camera stream in takes.json")
    for word in asked:
        if not fnmatch.filter(keys, word) and word not in keys:
            hint = did_you_mean(word[:200], keys)
            raise Unknown(f"take {take.name} has no stream '{word[:200]}'{hint}")
    if not asked:
        return tuple(keys)
    return tuple(k for k in keys if k in asked or any(fnmatch.fnmatchcase(k, w) for w in asked))


def read_plan(asked: Asked, store: OpenStore, wanted: Any, limit: int) -> Plan | None:
    clips = store.clips.within(asked.start, asked.end)
    matters = np.ones(len(clips.clip), dtype=bool) if wanted is None else wanted(clips)
    rows = np.flatnonzero(matters)
    if len(rows):  # nothing before the first and after the last that matters
        keep = slice(int(rows[0]), int(rows[-1]) + 1)
        clips = clips.chosen(keep)
        matters = matters[keep]
    n = len(clips.clip)
    if n * len(asked.streams) > limit:
        raise TooMuch(n * len(asked.streams), limit)
    first = int(clips.clip[0]) if n else 0
    block = store.read(asked.streams, first, first + n)
    if block is None:
        return None
    windows = _windows(asked.streams, first, block, matters)
    return Plan(asked, store, clips, block, matters, windows, int(block.have[matters].sum()))


def _windows(
    streams: tuple[str, ...], first: int, block: Block, matters: Array
) -> tuple[tuple[tuple[str, ...], int, int], ...]:
    """Runs of missing clips; streams that lack the same run are computed together."""
    runs: dict[tuple[int, int], list[str]] = {}
    for at, name in enumerate(streams):
        lacking = np.concatenate([[0], (~block.have[:, at] & matters).astype(np.int8), [0]])
        edges = np.flatnonzero(np.diff(lacking))
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            runs.setdefault((first + begin, first + end), []).append(name)
    return tuple((tuple(names), a, b) for (a, b), names in sorted(runs.items()))


def _only(facts: Any, streams: Sequence[str]) -> dict[str, Any]:
    return {name: facts[name] for name in streams if name in facts}
