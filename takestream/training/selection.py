"""Takes by what the data set says of them: a split, groups, and the span of their task."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from takestream import schema
from takestream.facts import COLUMNS, LIST, in_span, task_span, value_of
from takestream.storage import S3Options
from takestream.stores import StoredTake
from takestream.training.sections import zarr_store

_AT_ONCE = 16
REFRESH = "`takestream facts --refresh` fills in what the data set says"


def of_splits(takes: Sequence[StoredTake], splits: Sequence[str], where: str) -> list[StoredTake]:
    """Those of the takes that belong to one of these splits.

    Raises:
        ValueError: None does; the message says which splits there are.
    """
    there = {take.uid: value_of(take.facts, COLUMNS["split"]) for take in takes}
    named = sorted({split for split in there.values() if split})
    if unknown := [split for split in splits if split not in named]:
        raise ValueError(
            f"{where}: no take is of split {unknown[0]!r};"
            + (f" there is {', '.join(named)}" if named else f" no store names one: {REFRESH}")
        )
    _warn_unknown("split", [take for take in takes if not there[take.uid]], takes, where)
    return [take for take in takes if there[take.uid] in splits]


def by_group(
    takes: Sequence[StoredTake], fact: str, where: str
) -> tuple[list[StoredTake], dict[str, str]]:
    """The takes of which this fact is known, and by uid what it is, as text.

    Raises:
        ValueError: There is no such fact, or no take states it.
    """
    known = {name for name, one in COLUMNS.items() if one.kind != LIST}
    if fact not in known:
        raise ValueError(f"group_by is one of {', '.join(sorted(known))}; not {fact!r}")
    values = {take.uid: value_of(take.facts, COLUMNS[fact]) for take in takes}
    groups = {uid: str(value) for uid, value in values.items() if value is not None}
    if not groups:
        raise ValueError(f"{where}: no store says {fact}: {REFRESH}")
    _warn_unknown(fact, [take for take in takes if take.uid not in groups], takes, where)
    return [take for take in takes if take.uid in groups], groups


def in_task(takes: Sequence[StoredTake], where: str, s3: S3Options) -> list[StoredTake]:
    """The takes cut down to the clips whose middle lies in their task; the others are left out.

    Raises:
        ValueError: No take says when its task is done, or no clip lies in one.
    """
    spans = {take.uid: task_span(take.facts) for take in takes}
    unknown = [take for take in takes if spans[take.uid] is None]
    if len(unknown) == len(takes):
        raise ValueError(f"{where}: no store says when the task is done: {REFRESH}")
    _warn_unknown("task_start_sec and task_end_sec", unknown, takes, where)

    def cut(take: StoredTake) -> StoredTake | None:
        span = spans[take.uid]
        if span is None:
            return None
        inside = np.flatnonzero(in_span(*clip_times(take, s3), span))
        if not len(inside):
            return None
        return replace(take, first=int(inside[0]), stop=int(inside[-1]) + 1, span=span)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = [take for take in pool.map(cut, takes) if take is not None]
    if not found:
        raise ValueError(f"{where}: no clip lies in the task of its take")
    return found


def clip_times(take: StoredTake, s3: S3Options) -> tuple[Any, Any]:
    """Start and end of each clip of a store, seconds; float64 [clips] each.

    Raises:
        ValueError: They are missing.
    """
    import zarr

    group = zarr.open_group(zarr_store(take.uri, s3), mode="r", zarr_format=3)
    arrays: list[Any] = [group[name] for name in (schema.START_TIME, schema.END_TIME)]
    start, end = (np.asarray(array[:]) for array in arrays)
    if not (np.isfinite(start).all() and np.isfinite(end).all()):
        raise ValueError(f"{take.uri}: times of clips are missing; `takestream verify` names them")
    return start, end


def _warn_unknown(
    fact: str, unknown: Sequence[StoredTake], takes: Sequence[StoredTake], where: str
) -> None:
    if unknown:
        warnings.warn(
            f"{where}: {len(unknown)} of {len(takes)} takes do not say their {fact} and are left"
            f" out (first: {unknown[0].name})",
            stacklevel=4,
        )
