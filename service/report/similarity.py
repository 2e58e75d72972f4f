"""What a picture of a store shows, as numbers: invalid clips, and how alike cameras see it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.report.inspect import clip_reasons
from takestream import schema
from takestream.drawing import limits as tenths
from takestream.drawing import spans
from takestream.schema import Reason
from workers.store.errors import StoreError
from workers.store.metadata import UNDECODABLE, read_whole
from workers.store.takestore import TakeStore

# With more clips than this a line is a smear: mean and range per few pixels are drawn instead.
MOST_POINTS, BINS = 700, 240

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Clips:
    """All that is drawn of a store's clips, in the order of time.

    middle, left, right: seconds [clip], the point and the span on the time axis of each clip.
    reasons: uint8 [clip, stream]. similarity: float32 [clip, stream, stream].
    """

    streams: tuple[str, ...]
    middle: Floats
    left: Floats
    right: Floats
    reasons: NDArray[np.uint8]
    similarity: Floats


def read_clips(store: TakeStore) -> Clips:
    begin = read_whole(store.array(schema.START_TIME), store.uri)
    end = read_whole(store.array(schema.END_TIME), store.uri)
    reasons = clip_reasons(store)
    alike = similarity(store, reasons)
    order, left, middle, right = spans(begin, end)
    return Clips(store.streams, middle, left, right, reasons[order], alike[order])


def similarity(store: TakeStore, reasons: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Cosine similarity of streams to each other, clip by clip: float32 [clip, stream, stream].

    reasons: uint8 [clip, stream]. NaN where one of the two is invalid. Raises StorageError.
    """
    count = len(store.streams)
    result = np.full((store.clips, count, count), np.nan, dtype=np.float32)
    features = store.array(schema.FEATURES)
    # A unit at a time: a long take's features are gigabytes.
    for start in range(0, store.clips, store.unit_clips):
        rows = slice(start, min(start + store.unit_clips, store.clips))
        try:
            vectors = np.asarray(features[rows]).astype(np.float32)
        except UNDECODABLE as error:
            raise StoreError(
                f"{store.uri}: features of clips {rows.start} to {rows.stop - 1} are damaged"
                f" ({error}); `takestream verify` names the chunk"
            ) from error
        vectors[reasons[rows] != Reason.VALID] = np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
            result[rows] = vectors @ vectors.transpose(0, 2, 1)
    return result


def curves(clips: Clips, index: int, reference: int) -> tuple[Floats, Floats]:
    """A stream's similarity [clip] to the reference, and its mean to all others; NaN if none.

    With one other stream the two are the same, and only the reference has the second.
    """
    others = [other for other in range(len(clips.streams)) if other != index]
    to_reference = clips.similarity[:, index, reference]
    to_others = mean_of(clips.similarity[:, index, others], axis=1)
    nothing = np.full(len(clips.middle), np.nan)
    if index == reference:
        return nothing, to_others
    return to_reference, to_others if len(others) > 1 else nothing


def limits(clips: Clips, reference: int) -> tuple[float, float]:
    """The shared range of the lanes' vertical axes, on tenths."""
    drawn = np.concatenate(
        [np.concatenate(curves(clips, i, reference)) for i in range(len(clips.streams))]
    )
    return tenths(drawn)


def runs(clips: Clips, mask: NDArray[np.bool_], least: float) -> list[tuple[float, float]]:
    """(left, width) in seconds of the runs in `mask`, none narrower than `least`, none touching."""
    steps = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    merged: list[list[float]] = []
    for first, after in zip(np.flatnonzero(steps > 0), np.flatnonzero(steps < 0), strict=True):
        left, right = float(clips.left[first]), float(clips.right[after - 1])
        wider = max(0.0, least - (right - left)) / 2
        left, right = left - wider, right + wider
        if merged and left <= merged[-1][1]:
            merged[-1][1] = max(right, merged[-1][1])
        else:
            merged.append([left, right])
    return [(left, right - left) for left, right in merged]


def binned(times: Floats, values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Time, mean, least and most of the values in `BINS` equal spans of time; NaN where none."""
    edges = np.linspace(times[0], times[-1], BINS + 1)
    bins = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, BINS - 1)
    finite = np.isfinite(values)
    count = np.bincount(bins[finite], minlength=BINS)
    total = np.bincount(bins[finite], weights=values[finite], minlength=BINS)
    least, most = np.full(BINS, np.nan), np.full(BINS, np.nan)
    np.fmin.at(least, bins, values)
    np.fmax.at(most, bins, values)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return (edges[:-1] + edges[1:]) / 2, mean, least, most


def mean_of(values: Floats, axis: int) -> Floats:
    """Mean of the finite values along an axis; NaN where there are none."""
    count = np.isfinite(values).sum(axis=axis)
    total = np.nansum(values, axis=axis, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
