"""Segments of takes (keysteps, for one) and one vector for each: the mean over its clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.answers import Answer, dumped
from service.stored import Array, Clips


@dataclass(frozen=True)
class Segment:
    """`[start, end)` seconds of a take; step_id as the annotation has it."""

    take: str
    start: float
    end: float
    step_id: int | str | None = None


def seen(clips: Clips, segments: Sequence[Segment]) -> Array:
    """bool [n]: the clips that any of the segments is made of."""
    wanted = np.zeros(len(clips.clip), dtype=bool)
    for segment in segments:
        wanted |= _members(clips, segment)
    return wanted


def pooled(answer: Answer, segments: Sequence[Segment]) -> tuple[Array, Array]:
    """float32 [n, S, D], the mean over a segment's valid clips, and bool [n, S], if there is one.

    NaN where there is none.
    """
    block = answer.block
    count, dim = len(answer.streams), block.features.shape[2]
    vectors = np.full((len(segments), count, dim), np.nan, dtype=np.float32)
    for number, segment in enumerate(segments):
        rows = _members(answer.clips, segment)
        features, valid = block.features[rows], block.valid[rows]
        for stream in range(count):
            if valid[:, stream].any():
                some = features[valid[:, stream], stream].astype(np.float32)
                vectors[number, stream] = some.mean(axis=0)
    return vectors, ~np.isnan(vectors[:, :, 0])


def assembled(
    segments: Sequence[Segment],
    results: Sequence[tuple[Sequence[int], Answer, tuple[Array, Array]]],
) -> dict[str, Array]:
    """The arrays of all takes together: streams are the union, in the order they come up."""
    names = list(dict.fromkeys(name for _, answer, _ in results for name in answer.streams))
    dim = results[0][2][0].shape[2] if results else 0
    features = np.full((len(segments), len(names), dim), np.nan, dtype=np.float32)
    valid = np.zeros((len(segments), len(names)), dtype=bool)
    takes: dict[str, Any] = {}
    for numbers, answer, (vectors, ok) in results:
        columns = [names.index(name) for name in answer.streams]
        features[np.ix_(numbers, columns)] = vectors
        valid[np.ix_(numbers, columns)] = ok
        attributes = answer.attributes
        takes[attributes["take"]["take_uid"]] = {
            name: attributes[name] for name in ("take", "provenance", "problems")
        }
    encoder = {"encoder": results[0][1].attributes["encoder"]} if results else {}
    arrays = {
        "features": features,
        "valid": valid,
        "take": np.array([s.take for s in segments], dtype=np.str_),
        "start_time": np.array([s.start for s in segments]),
        "end_time": np.array([s.end for s in segments]),
        "stream": np.array(names, dtype=np.str_),
        "attributes": np.array(dumped({**encoder, "takes": takes, "pooling": "mean"})),
    }
    if any(s.step_id is not None for s in segments):
        # Ids are numbers in the data set; as text they survive whatever they are.
        ids = ["" if s.step_id is None else str(s.step_id) for s in segments]
        arrays["step_id"] = np.array(ids, dtype=np.str_)
    return arrays


def _members(clips: Clips, segment: Segment) -> Array:
    middle = (clips.start_time + clips.end_time) / 2
    inside = (middle >= segment.start) & (middle < segment.end)
    if not inside.any() and len(middle):
        distance = np.abs(middle - (segment.start + segment.end) / 2)
        inside[int(distance.argmin())] = True
    return np.asarray(inside)
