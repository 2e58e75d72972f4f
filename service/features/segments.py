"""Segments of takes (keysteps, for one) and one vector for each: the mean over its clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.features.block import Array, Clips
from service.features.encoding import TakeFeatures, dumped, encoded, npz
from service.transfer.pooling import members
from takestream.licence import ATTRIBUTE as LICENCE
from takestream.protocol import NPZ


@dataclass(frozen=True)
class Segment:
    """An interval of a take.

    Attributes:
        take: The take's uid or name.
        start: Seconds on the take's clock.
        end: Seconds on the take's clock, not included.
        step_id: As the annotation has it.
    """

    take: str
    start: float
    end: float
    step_id: int | str | None = None


def member_clips(clips: Clips, segments: Sequence[Segment]) -> Array:
    """bool [n], the clips that any of the segments is pooled from."""
    wanted = np.zeros(len(clips.clip), dtype=bool)
    for segment in segments:
        wanted |= members(clips.start_time, clips.end_time, segment.start, segment.end)
    return wanted


@dataclass(frozen=True)
class PooledSegments:
    """Vectors of some of a request's segments, all of one take.

    Attributes:
        numbers: Which of the segments [n].
        streams: The streams [S].
        attributes: As in the take's store.
        vectors: float32 [n, S, D], NaN where there is none.
        valid: bool [n, S], where there is one.
    """

    numbers: Sequence[int]
    streams: tuple[str, ...]
    attributes: Mapping[str, Any]
    vectors: Array
    valid: Array


def pool_segments(
    answer: TakeFeatures, numbers: Sequence[int], segments: Sequence[Segment]
) -> PooledSegments:
    """The mean over each segment's valid clips."""
    block = answer.block
    count, dim = len(answer.streams), block.features.shape[2]
    vectors = np.full((len(segments), count, dim), np.nan, dtype=np.float32)
    for number, segment in enumerate(segments):
        clips = answer.clips
        rows = members(clips.start_time, clips.end_time, segment.start, segment.end)
        features, valid = block.features[rows], block.valid[rows]
        for stream in range(count):
            if valid[:, stream].any():
                some = features[valid[:, stream], stream].astype(np.float32)
                vectors[number, stream] = some.mean(axis=0)
    valid = ~np.isnan(vectors[:, :, 0])
    return PooledSegments(numbers, answer.streams, answer.attributes, vectors, valid)


def encode_segments(
    segments: Sequence[Segment], results: Sequence[PooledSegments], kind: str
) -> bytes:
    """The vectors of all segments as one answer.

    Args:
        segments: All segments of the request.
        results: Their vectors, take by take. The answer has the streams of all of them.
        kind: Media type, JSON or npz.
    """
    results = sorted(results, key=lambda result: result.numbers[0])
    names = list(dict.fromkeys(name for result in results for name in result.streams))
    dim = results[0].vectors.shape[2] if results else 0
    features = np.full((len(segments), len(names), dim), np.nan, dtype=np.float32)
    valid = np.zeros((len(segments), len(names)), dtype=bool)
    takes: dict[str, Any] = {}
    for result in results:
        where = np.ix_(result.numbers, [names.index(name) for name in result.streams])
        features[where], valid[where] = result.vectors, result.valid
        takes[result.attributes["take"]["take_uid"]] = {
            name: result.attributes[name]
            for name in ("take", "provenance", "problems", LICENCE)
            if name in result.attributes
        }
    encoder = {"encoder": results[0].attributes["encoder"]} if results else {}
    attributes = {**encoder, "takes": takes, "pooling": "mean"}
    arrays = {
        "features": features,
        "valid": valid,
        "take": np.array([s.take for s in segments], dtype=np.str_),
        "start_time": np.array([s.start for s in segments]),
        "end_time": np.array([s.end for s in segments]),
        "stream": np.array(names, dtype=np.str_),
    }
    if any(s.step_id is not None for s in segments):
        # Ids are numbers in the data set; as text they survive whatever they are.
        ids = ["" if s.step_id is None else str(s.step_id) for s in segments]
        arrays["step_id"] = np.array(ids, dtype=np.str_)
    if kind == NPZ:
        return npz({**arrays, "attributes": np.array(dumped(attributes))})
    return encoded({"attributes": attributes, **arrays})
