"""Prove that a store is whole: every chunk is there, decodes, and says what the schema demands."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takestream import schema
from takestream.root import parse_json
from takestream.schema import Reason
from takestream.storage import S3Options
from takestream.stores import uid_of
from workers.store.errors import StoreError, StoreNotFound
from workers.store.layout import ROOT
from workers.store.metadata import UNDECODABLE, own_metadata
from workers.store.objects import Objects
from workers.store.takestore import TakeStore

_NAMED = 10
_PARALLEL = 4


class _DamagedError(Exception):
    """A chunk does not decode."""


@dataclass
class VerifyReport:
    """What `verify` found.

    Attributes:
        uri: Of the store.
        take_uid: Of its take.
        status: `partial`, `complete`, or `unknown` where it cannot be read.
        clips: Clips of the take.
        streams: Names along the stream dimension.
        valid: Valid clips of each stream.
        faults: One sentence each, damaged objects by their key; empty when the store is whole.
    """

    uri: str
    take_uid: str
    status: str
    clips: int
    streams: tuple[str, ...]
    valid: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the store is complete and whole."""
        return not self.faults


def verify(uri: str, s3: S3Options | None = None) -> VerifyReport:
    """Read all of the store at `uri`, a unit of a few streams at a time, and say what is wrong.

    Raises StoreNotFound when nothing is there, StorageError when it cannot be reached. Damage is
    reported, not raised.
    """
    objects = Objects(uri, s3)
    uid = uid_of(objects.uri)
    report = VerifyReport(objects.uri, uid, status="unknown", clips=0, streams=())
    keys = objects.listing()
    if not keys:
        raise StoreNotFound(f"no store at {objects.uri}")
    try:
        store = TakeStore.open(uri, s3)
    except StoreNotFound as error:
        made = "half-made, without zarr.json; `takestream extract` makes it whole"
        report.faults.append(str(error) if ROOT in keys else made)
        return report
    except StoreError as error:
        report.faults.append(str(error))
        return report
    report.take_uid = _take_uid(store) or uid
    report.status, report.clips, report.streams = store.status, store.clips, store.streams
    if store.status != schema.COMPLETE:
        report.faults.append(f"status is {store.status}; `takestream extract` resumes")
    report.faults += _name_faults(store)
    report.faults += _metadata_faults(store, objects)
    report.faults += _clip_faults(store, keys)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = list(pool.map(lambda name: _check_stream(store, name, keys), store.streams))
    for name, (valid, faults) in zip(store.streams, found, strict=True):
        report.valid[name] = valid
        report.faults += faults
    return report


def _take_uid(store: TakeStore) -> str | None:
    take = store.attributes.get("take")
    if not isinstance(take, dict):
        return None
    return next((str(take[key]) for key in ("uid", "take_uid") if take.get(key)), None)


def _metadata_faults(store: TakeStore, objects: Objects) -> Iterator[str]:
    named = set(str(store.attributes.get("coordinates", "")).split())
    if absent := set(schema.CLIP_COORDINATES) - named:
        yield f"the attribute coordinates does not name {', '.join(sorted(absent))}"
    try:
        own = own_metadata(objects, store.array_names)
        root = parse_json(objects.get(ROOT) or b"{}")
    except (StoreError, ValueError) as error:
        yield str(error)
        return
    consolidated = (root.get("consolidated_metadata") or {}).get("metadata", {})
    if not consolidated:
        yield "zarr.json has no consolidated metadata"
    else:
        for name in store.array_names:
            if consolidated.get(name) != own[name]:
                yield f"{name}/zarr.json differs from the consolidated metadata in zarr.json"


def _name_faults(store: TakeStore) -> Iterator[str]:
    key = f"{schema.STREAM}/c/0"
    try:
        names = tuple(_read(store, schema.STREAM, slice(None)).tolist())
    except _DamagedError as error:
        yield f"{key} is damaged: {error}"
        return
    if names != store.streams:
        yield f"{key} is missing or names other streams than zarr.json: {', '.join(names)}"


def _clip_faults(store: TakeStore, keys: set[str]) -> Iterator[str]:
    columns: dict[str, NDArray[Any]] = {}
    for name in store.array_names:
        if schema.SPECS[name].dims != (schema.CLIP,):
            continue
        key = f"{name}/c/0"
        if store.clips and key not in keys:
            yield f"{key} is missing"
            continue
        try:
            columns[name] = _read(store, name, slice(None))
        except _DamagedError as error:
            yield f"{key} is damaged: {error}"
    if not set(schema.CLIP_COORDINATES) <= set(columns) or not store.clips:
        return
    start, stop = columns[schema.START_FRAME], columns[schema.STOP_FRAME]
    begin, end = columns[schema.START_TIME], columns[schema.END_TIME]
    if start.min() < 0 or (stop <= start).any():
        yield "start_frame and stop_frame are not frames [start, stop)"
    if not (np.isfinite(begin).all() and np.isfinite(end).all()) or (end <= begin).any():
        yield "start_time and end_time are not finite spans"
    elif (np.sign(np.diff(start)) * np.sign(np.diff(begin)) < 0).any():
        yield "start_time does not run like start_frame"
    grid = store.attributes.get("grid")
    if isinstance(grid, dict) and {"window", "stride"} <= set(grid) and "segments" not in grid:
        yield from _grid_faults(start, stop, begin, grid)


def _grid_faults(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    begin: NDArray[np.float64],
    grid: dict[str, Any],
) -> Iterator[str]:
    window, stride = int(grid["window"]), int(grid["stride"])
    regular = np.arange(len(start)) * stride
    # With backpad the last clip covers the last frames, wherever the others end.
    body = slice(None, -1) if grid.get("tail") == "backpad" else slice(None)
    if (start[body] != regular[body]).any() or not 0 <= regular[-1] - start[-1] < stride:
        yield f"start_frame does not follow the grid's stride of {stride}"
    if (np.diff(start) <= 0).any() or (np.diff(stop) <= 0).any():
        yield "start_frame or stop_frame does not grow from clip to clip"
    length = stop - start
    if (length != window).any() and not (len(start) == 1 and length[0] < window):
        yield f"clips do not span the grid's window of {window} frames"
    try:
        fps = float(Fraction(str(grid.get("fps"))))
    except (ValueError, ZeroDivisionError):
        return
    if fps > 0 and not np.allclose(begin, start / fps, rtol=1e-6, atol=1e-6):
        yield f"start_time is not start_frame at {fps:g} frames per second"


def _check_stream(store: TakeStore, stream: str, keys: set[str]) -> tuple[int, list[str]]:
    """How many clips of a stream are valid, and what is wrong with its chunks."""
    index, total = store.streams.index(stream), 0
    lost: list[str] = []
    faults: list[str] = []
    for start in range(0, store.clips, store.unit_clips):
        rows = slice(start, min(start + store.unit_clips, store.clips))
        wanted = store.chunk_keys(stream, start)
        missing = [key for key in wanted if key not in keys]
        lost += missing
        read: dict[str, NDArray[Any]] = {}
        for name in (*schema.PER_STREAM_ARRAYS, schema.FEATURES):
            if any(key.startswith(name + "/") for key in missing):
                continue
            try:
                read[name] = _read(store, name, (rows, index))
            except _DamagedError:
                faults += _damaged(store, name, rows, index)
        valid = read.get(schema.VALID)
        if valid is not None:
            total += int(valid.sum())
            where = f"{stream}, clips {rows.start} to {rows.stop - 1}"
            faults += [f"{where}: {fault}" for fault in _value_faults(valid, read)]
    faults += [f"{key} is missing ({stream})" for key in lost[:_NAMED]]
    if len(lost) > _NAMED:
        faults.append(f"{len(lost) - _NAMED} more chunks of {stream} are missing")
    return total, faults


def _value_faults(valid: NDArray[np.bool_], read: dict[str, NDArray[Any]]) -> Iterator[str]:
    features = read.get(schema.FEATURES)
    if features is not None:
        if n := int((valid & ~np.isfinite(features).all(axis=1)).sum()):
            yield f"{n} valid clips have features that are not finite"
        if n := int((~valid & ~np.isnan(features).all(axis=1)).sum()):
            yield f"{n} invalid clips have features that are not NaN"
    reason = read.get(schema.REASON)
    if reason is not None:
        if n := int(((reason == Reason.VALID) != valid).sum()):
            yield f"{n} clips where reason and valid disagree"
        if unknown := sorted(set(reason.tolist()) - set(Reason)):
            yield f"unknown reasons {unknown}"
    times = read.get(schema.FRAME_TIME)
    if times is not None and (n := int((valid & ~np.isfinite(times)).sum())):
        yield f"{n} valid clips have no frame_time"


def _damaged(store: TakeStore, name: str, rows: slice, index: int) -> Iterator[str]:
    """Name the damaged chunks among those of one unit, by reading each alone."""
    step = store.chunk_clips if name == schema.FEATURES else store.unit_clips
    tail = "/0" if name == schema.FEATURES else ""
    for start in range(rows.start, rows.stop, step):
        try:
            _read(store, name, (slice(start, min(start + step, rows.stop)), index))
        except _DamagedError as error:
            yield f"{name}/c/{start // step}/{index}{tail} is damaged: {error}"


def _read(store: TakeStore, name: str, selection: Any) -> NDArray[Any]:
    try:
        return np.asarray(store.array(name)[selection])
    except UNDECODABLE as error:
        raise _DamagedError(str(error) or type(error).__name__) from error
