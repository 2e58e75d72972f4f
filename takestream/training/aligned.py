"""The features of several encoders beside each other, clip by clip. Without torch."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takestream.access import asked
from takestream.facts import in_span
from takestream.storage import S3Options
from takestream.stores import StoredTake
from takestream.takes import find_takes
from takestream.training.sections import Section, read
from takestream.training.selection import clip_times

# Seconds; times of frames are fractions that are rounded.
_AS_NEAR = 1e-6


def find(
    output: str,
    encoders: Sequence[str | None],
    takes: Sequence[str] | None,
    partial: bool,
    s3: S3Options,
) -> tuple[list[StoredTake], dict[str, tuple[StoredTake, ...]]]:
    """The takes that all encoders have stores of.

    Args:
        output: As for `find_takes`, likewise the others.
        encoders: Of each an encoder_id or a preset.

    Returns:
        The stores of the first encoder, sorted by the uid of their take, and by uid those of the
        others, in their order.

    Raises:
        FileNotFoundError: As `find_takes`.
        ValueError: As `find_takes`; or an encoder is named twice, or none is, or they have no take
            in common.
    """
    if not encoders:
        raise ValueError("encoder=[] chooses none; leave it out where one wrote there")
    if len(set(encoders)) < len(encoders):
        raise ValueError(f"encoder names one twice: {', '.join(map(str, encoders))}")
    first, *others = [find_takes(output, one, takes, partial, s3) for one in encoders]
    by_uid = [{take.uid: take for take in found} for found in others]
    common = [take for take in first if all(take.uid in one for one in by_uid)]
    every = {take.uid: take for found in (first, *others) for take in found}
    if not common:
        raise ValueError(f"{output}: {', '.join(map(str, encoders))} have no take in common")
    if missing := [take for uid, take in every.items() if uid not in {one.uid for one in common}]:
        warnings.warn(
            f"{output}: {len(missing)} of {len(every)} takes have no features by one of"
            f" {', '.join(map(str, encoders))} and are left out (first: {missing[0].name})",
            stacklevel=5,
        )
    return common, {take.uid: tuple(one[take.uid] for one in by_uid) for take in common}


def beside(section: Section, take: StoredTake, streams: Sequence[str], s3: S3Options) -> Section:
    """What another encoder has for the clips of a section, row by row.

    Args:
        section: Of the first encoder.
        take: The store of the same take by the other one.
        streams: As for `read`.
        s3: How to reach S3.

    Returns:
        The other's features: for each clip those of the clip whose middle is nearest to its middle;
        masked out where that lies outside of it.

    Raises:
        ValueError: As `read`.
    """
    count = len(section.start_time)
    if set(streams).isdisjoint(take.streams):
        nothing = np.zeros((count, 0, take.dim), dtype=take.dtype)
        return Section(
            take, section.first, nothing, np.zeros((count, 0), dtype=bool),
            section.start_time, section.end_time, (),
        )  # fmt: skip
    rows, inside = np.arange(section.first, section.first + count), np.ones(count, dtype=bool)
    if take.digest is None or take.digest != section.take.digest:
        times = asked(take.uri, s3, lambda: clip_times(take, s3))
        rows, inside = nearest((section.start_time, section.end_time), times)
    if (span := section.take.span) is not None:
        inside = inside & in_span(section.start_time, section.end_time, span)
    first = int(rows.min())
    found = read(take, first, int(rows.max()) + 1, streams, s3)
    features, mask = found.features[rows - first], found.mask[rows - first] & inside[:, None]
    features[~mask] = 0
    return replace(
        found, first=section.first, features=features, mask=mask,
        start_time=section.start_time, end_time=section.end_time,
    )  # fmt: skip


def nearest(
    clips: tuple[NDArray[Any], NDArray[Any]], others: tuple[NDArray[Any], NDArray[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each clip the other whose middle is nearest, and whether that middle lies in the clip.

    Args:
        clips: Start and end of each, seconds; float64 [n].
        others: Likewise; float64 [m]. Of two that are as near the earlier is taken.

    Returns:
        int64 [n] and bool [n].
    """
    start, end = clips
    middle, there = (start + end) / 2, (others[0] + others[1]) / 2
    order = np.argsort(there, kind="stable")
    ordered = there[order]
    after = np.searchsorted(ordered, middle).clip(0, len(ordered) - 1)
    before = (after - 1).clip(0)
    closer = np.abs(middle - ordered[before]) <= np.abs(ordered[after] - middle) + _AS_NEAR
    rows = order[np.where(closer, before, after)]
    return rows, (there[rows] >= start) & (there[rows] < end)
