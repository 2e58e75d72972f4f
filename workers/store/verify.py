"""Prove that a store is whole: every chunk is there, decodes, and says what the schema demands."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takestream import schema
from takestream.root import StoreFault, check_version, parse_json
from takestream.schema import Reason
from takestream.storage import S3Options
from takestream.stores import uid_of
from workers.store.errors import StoreError, StoreMismatch, StoreNotFound
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
        take_name: Of its take, where it says.
        damaged: Keys of objects that `set_aside` deletes, so that `extract` makes them again.
        lost: By stream, how many clips are in units that have to be extracted again.
        empty: Whether nothing was written to it yet, not one chunk of features.
    """

    uri: str
    take_uid: str
    status: str
    clips: int
    streams: tuple[str, ...]
    valid: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    take_name: str = ""
    damaged: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    empty: bool = False

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
    report.take_name = str(store.attributes.get("take", {}).get("take_name") or "")
    report.status, report.clips, report.streams = store.status, store.clips, store.streams
    report.empty = store.status != schema.COMPLETE and not any(
        key.startswith(f"{schema.FEATURES}/c/") for key in keys
    )
    if store.status != schema.COMPLETE:
        report.faults.append(f"status is {store.status}; `takestream extract` resumes")
    report.faults += _name_faults(store)
    report.faults += _metadata_faults(store, objects)
    if clip_faults := list(_clip_faults(store, keys)):
        report.faults += clip_faults
        # Which of them is wrong cannot be told: all are made again from the take's own length.
        coordinates = {f"{name}/c/0" for name in store.array_names if _is_per_clip(name)}
        report.damaged += sorted(coordinates & keys)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = list(pool.map(lambda name: _check_stream(store, name, keys), store.streams))
    for name, checked in zip(store.streams, found, strict=True):
        report.valid[name] = checked.valid
        report.faults += checked.faults
        report.damaged += sorted(checked.damaged & keys)
        if checked.lost:
            report.lost[name] = checked.lost
    return report


def set_aside(report: VerifyReport, s3: S3Options | None = None) -> bool:
    """Delete what `verify` found damaged, so that `extract` does those units again.

    The store is marked partial first, so that no reader takes it for whole meanwhile. A store whose
    root is damaged is deleted: nothing says any more what its chunks are.

    Returns:
        Whether there is something for `extract` to do.

    Raises:
        StorageError: The storage fails.
        StoreMismatch: A newer takestream wrote the store.
    """
    if report.ok:
        return False
    objects = Objects(report.uri, s3)
    try:
        store = TakeStore.open(report.uri, s3, writable=True)
    except StoreNotFound:
        return True
    except StoreError:
        _refuse_newer(objects)
        keys = objects.listing()
        # Chunks before the root, as without a root they would be taken for those of a new store.
        for some in ({key for key in keys if "/c/" in key}, keys - {ROOT}, {ROOT}):
            objects.delete_many(sorted(some))
        return True
    store.mark_partial()
    objects.delete_many(report.damaged)
    return True


def _refuse_newer(objects: Objects) -> None:
    """Raise StoreMismatch where the root says that a newer takestream wrote it."""
    try:
        version = parse_json(objects.get(ROOT) or b"{}")["attributes"]["schema_version"]
        check_version(version, objects.uri, writing=True)
    except StoreFault as error:
        if "Update takestream" in str(error):
            raise StoreMismatch(str(error)) from error
    except (ValueError, TypeError, KeyError):
        pass


def _is_per_clip(name: str) -> bool:
    return schema.SPECS[name].dims == (schema.CLIP,)


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
        if not _is_per_clip(name):
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
        provenance = store.attributes.get("provenance")
        cut = isinstance(provenance, dict) and bool(provenance.get("task_span"))
        yield from _grid_faults(start, stop, begin, grid, cut=cut)


def _grid_faults(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    begin: NDArray[np.float64],
    grid: dict[str, Any],
    *,
    cut: bool,
) -> Iterator[str]:
    """Where the clips are not those of a grid; `cut`: those of the task's span alone are there."""
    window, stride = int(grid["window"]), int(grid["stride"])
    first = int(start[0]) if cut and (len(start) == 1 or start[0] % stride == 0) else 0
    regular = first + np.arange(len(start)) * stride
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


@dataclass
class _Checked:
    """What was found of one stream; `lost` in clips, `damaged` as keys."""

    valid: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)


def _check_stream(store: TakeStore, stream: str, keys: set[str]) -> _Checked:
    """How many clips of a stream are valid, and what is wrong with its chunks."""
    index, found = store.streams.index(stream), _Checked()
    lost: list[str] = []
    faults = found.faults
    for start in range(0, store.clips, store.unit_clips):
        rows = slice(start, min(start + store.unit_clips, store.clips))
        wanted = store.chunk_keys(stream, start)
        missing = [key for key in wanted if key not in keys]
        lost += missing
        read: dict[str, NDArray[Any]] = {}
        before = len(faults)
        for name in (*schema.PER_STREAM_ARRAYS, schema.FEATURES):
            if any(key.startswith(name + "/") for key in missing):
                continue
            try:
                read[name] = _read(store, name, (rows, index))
            except _DamagedError:
                for key, words in _damaged(store, name, rows, index):
                    found.damaged.add(key)
                    faults.append(f"{key} is damaged: {words} ({stream})")
        valid = read.get(schema.VALID)
        if valid is not None:
            found.valid += int(valid.sum())
            where = f"{stream}, clips {rows.start} to {rows.stop - 1}"
            if contradictions := list(_value_faults(valid, read)):
                faults += [f"{where}: {fault}" for fault in contradictions]
                found.damaged |= set(wanted)
        if missing or len(faults) > before:
            found.lost += rows.stop - rows.start
    faults += [f"{key} is missing ({stream})" for key in lost[:_NAMED]]
    if len(lost) > _NAMED:
        faults.append(f"{len(lost) - _NAMED} more chunks of {stream} are missing")
    return found


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


def _damaged(store: TakeStore, name: str, rows: slice, index: int) -> Iterator[tuple[str, str]]:
    """The damaged chunks among those of one unit, by reading each alone: key, what is wrong."""
    step = store.chunk_clips if name == schema.FEATURES else store.unit_clips
    tail = "/0" if name == schema.FEATURES else ""
    for start in range(rows.start, rows.stop, step):
        try:
            _read(store, name, (slice(start, min(start + step, rows.stop)), index))
        except _DamagedError as error:
            yield f"{name}/c/{start // step}/{index}{tail}", str(error)


def _read(store: TakeStore, name: str, selection: Any) -> NDArray[Any]:
    try:
        return np.asarray(store.array(name)[selection])
    except UNDECODABLE as error:
        raise _DamagedError(str(error) or type(error).__name__) from error
