"""Stored clips pooled over annotated segments, for all takes: into one Zarr store, or `.npy` files.

Nothing is computed that is there already, so a run that was interrupted goes on.
"""

import csv
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from configs.load import SettingsError
from service.transfer.exports import licences_in
from service.transfer.official import npy_bytes
from service.transfer.pooling import Pooling, pooled
from service.transfer.stored import Chosen, StoredFeatures, blocks
from takestream.root import parse_json
from takestream.storage import S3Options
from takestream.stores import StoredTake
from workers.dataset.segments import Segments
from workers.dataset.take import DatasetError, Segment
from workers.store.objects import Objects
from workers.store.zarr_adapter import ObjectsStore

Format = Literal["zarr", "npy"]
# Segments of one chunk of the store.
BLOCK = 256
ROOT, SIDECAR, TABLE = "zarr.json", "segments.json", "segments.csv"
MAKING, PARTIAL, DONE = "making", "partial", "complete"


@dataclass(frozen=True)
class PoolingJob:
    """What is pooled, and how.

    Attributes:
        stores: from which.
        segments: over which.
        how: see `pooling.pooled`.
        count: for `nearest`.
        s3: how to reach the stores.
    """

    stores: Chosen
    segments: Segments
    how: Pooling
    count: int
    s3: S3Options

    def rows(self) -> list[tuple[StoredTake, int, Segment]]:
        """Every segment with its take and its number there, in order.

        Raises:
            DatasetError: no store is of a take with segments.
        """
        found = [
            (take, number, segment)
            for take in self.stores.takes
            for number, segment in enumerate(
                self.segments.by_take.get(take.uid) or self.segments.by_take.get(take.name) or ()
            )
        ]
        if not found:
            raise DatasetError(
                f"{self.segments.uri}: none of its {len(self.segments.by_take)} takes has a"
                f" complete store among {len(self.stores.takes)}"
            )
        return found

    def without_store(self) -> int:
        """How many annotated takes have no complete store."""
        there = {name for take in self.stores.takes for name in (take.uid, take.name)}
        return len(self.segments.by_take.keys() - there)

    def facts(self) -> dict[str, Any]:
        """What the result depends on, JSON-able."""
        stores = [[take.uid, take.digest, list(take.streams)] for take in self.stores.takes]
        return {
            "encoder_id": self.stores.encoder_id,
            "pooling": self.how if self.how != "nearest" else f"nearest {self.count}",
            "annotations": self.segments.uri,
            "segments_sha256": self.segments.digest,
            "stores_sha256": hashlib.sha256(json.dumps(stores).encode()).hexdigest(),
            "streams": list(self.stores.streams),
        }

    def vectors(
        self, rows: Sequence[tuple[StoredTake, int, Segment]]
    ) -> Iterator[tuple[int, str, NDArray[np.float32]]]:
        """By number of the row and stream, what it is pooled to; a stream of a take at a time."""
        by_take: dict[str, list[int]] = {}
        for number, (take, _, _) in enumerate(rows):
            by_take.setdefault(take.uri, []).append(number)
        for uri, numbers in by_take.items():
            store = StoredFeatures(uri, self.s3)
            for stream in self.stores.streams:
                if stream not in store.streams:
                    continue
                features, valid = store.features(stream), store.valid(stream)
                for number in numbers:
                    segment = rows[number][2]
                    span = segment.start, segment.end
                    times = store.start_time, store.end_time
                    yield number, stream, pooled(
                        features, valid, *times, span, self.how, self.count
                    )  # fmt: skip


@dataclass
class Pooled:
    """What came of it.

    Attributes:
        segments: how many there are.
        done: of them, pooled in this run.
        empty: vectors of this run for which there was no valid clip.
    """

    segments: int
    done: int = 0
    empty: int = 0


Progress = Callable[[Pooled], None]


def pool_to(
    job: PoolingJob, output: str, form: Format, s3: S3Options, tell: Progress = lambda _: None
) -> Pooled:
    """Pool all segments into `output`.

    Args:
        job: what to pool.
        output: URI of a Zarr store, or of a folder of `.npy` files.
        form: which of the two.
        s3: how to reach the output.
        tell: called after every block of segments.

    Raises:
        DatasetError: no store is of a take with segments.
        SettingsError: the output holds something else, or the form cannot hold this pooling.
        StorageError: stores or output cannot be read or written.
    """
    rows = job.rows()
    target = Objects(output, s3)
    if form == "zarr":
        if job.how == "all":
            raise SettingsError("--pool all gives segments of different lengths: add --format npy")
        return _to_zarr(job, rows, target, tell)
    return _to_npy(job, rows, target, tell)


def _to_zarr(
    job: PoolingJob,
    rows: Sequence[tuple[StoredTake, int, Segment]],
    target: Objects,
    tell: Progress,
) -> Pooled:
    attributes = {"takestream": "segments", **job.facts()}
    found = _found(target, ROOT, attributes, "attributes")
    streams, dim = job.stores.streams, job.stores.takes[0].dim
    samples = (job.count,) if job.how == "nearest" else ()
    store = ObjectsStore(target, read_only=False)
    if found is None or found.get("status") == MAKING:
        _create(store, job, rows, samples, attributes)
    group = zarr.open_group(store, mode="r+", zarr_format=3)
    features, valid = _writable(group, "features"), _writable(group, "valid")
    there = target.listing()
    result = Pooled(len(rows))
    for block in blocks(len(rows), BLOCK):
        number = block.start // BLOCK
        tail = "/0" * (len(samples) + 1)
        keys = [f"features/c/{number}/{s}{tail}" for s in range(len(streams))]
        # Written last, so that it says that the block is whole.
        if f"valid/c/{number}/0" in there and there.issuperset(keys):
            continue
        values = np.full((len(block), len(streams), *samples, dim), np.nan, dtype=np.float32)
        for row, stream, vector in job.vectors(rows[block.start : block.stop]):
            values[row, streams.index(stream)] = vector
        usable = np.isfinite(values).all(axis=-1)
        features[block.start : block.stop] = values
        valid[block.start : block.stop] = usable.any(axis=-1) if samples else usable
        result.done += len(block)
        result.empty += int((~usable).sum())
        tell(result)
    group.attrs["status"] = DONE
    with warnings.catch_warnings():
        # Other readers pass over what format 3 does not have yet.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(store, zarr_format=3)
    return result


def _writable(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array whose chunks are written even where they hold nothing: they say what is done."""
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array.with_config({"write_empty_chunks": True})


def _create(
    store: ObjectsStore,
    job: PoolingJob,
    rows: Sequence[tuple[StoredTake, int, Segment]],
    samples: tuple[int, ...],
    attributes: Mapping[str, Any],
) -> None:
    streams, dim = job.stores.streams, job.stores.takes[0].dim
    group = zarr.create_group(
        store,
        zarr_format=3,
        overwrite=True,
        attributes={
            **attributes,
            "licences": licences_in(take for take, _, _ in rows),
            "status": MAKING,
        },
    )
    dims = ("segment", "stream", *(("sample",) if samples else ()), "feature")
    group.create_array(
        "features", shape=(len(rows), len(streams), *samples, dim),
        chunks=(BLOCK, 1, *samples, dim), dtype="float32", fill_value=np.nan, dimension_names=dims,
    )  # fmt: skip
    group.create_array(
        "valid", shape=(len(rows), len(streams)), chunks=(BLOCK, len(streams)), dtype="bool",
        fill_value=False, dimension_names=("segment", "stream"),
    )  # fmt: skip
    columns: dict[str, tuple[str, NDArray[Any]]] = {
        "take": ("segment", _text(take.uid for take, _, _ in rows)),
        "take_name": ("segment", _text(take.name for take, _, _ in rows)),
        "segment_name": ("segment", _text(segment.name for _, _, segment in rows)),
        "segment_label": ("segment", _text(segment.label for _, _, segment in rows)),
        "start_time": ("segment", np.array([segment.start for _, _, segment in rows])),
        "end_time": ("segment", np.array([segment.end for _, _, segment in rows])),
        "stream": ("stream", _text(streams)),
    }
    for name, (dim_name, values) in columns.items():
        group.create_array(name, data=values, dimension_names=(dim_name,))
    coordinates = " ".join(name for name in columns if name != "stream")
    group.attrs.update({"status": PARTIAL, "coordinates": coordinates})


def _text(words: Any) -> NDArray[Any]:
    return np.array(list(words), dtype=np.dtypes.StringDType())


def _to_npy(
    job: PoolingJob,
    rows: Sequence[tuple[StoredTake, int, Segment]],
    target: Objects,
    tell: Progress,
) -> Pooled:
    facts = job.facts()
    if _found(target, SIDECAR, facts) is None:
        said = {**facts, "licences": licences_in(take for take, _, _ in rows)}
        target.put(SIDECAR, json.dumps(said, indent=1).encode())
    there = target.listing()
    result = Pooled(len(rows))
    by_take: dict[str, list[int]] = {}
    for number, (take, _, _) in enumerate(rows):
        by_take.setdefault(take.uid, []).append(number)
    for numbers in by_take.values():
        mine = [rows[number] for number in numbers]
        streams = [s for s in job.stores.streams if s in mine[0][0].streams]
        if there.issuperset(npy_name(take.uid, s, n) for take, n, _ in mine for s in streams):
            continue
        for row, stream, vector in job.vectors(mine):
            take, number, segment = mine[row]
            if job.how == "all":
                labels = np.array([segment.label] * len(vector), dtype=np.str_)
                target.put(npy_name(take.uid, stream, number, "_labels"), npy_bytes(labels))
            target.put(npy_name(take.uid, stream, number), npy_bytes(vector))
            result.empty += int(not np.isfinite(vector).any())
        result.done += len(mine)
        tell(result)
    target.put(TABLE, _table(rows, job.stores.streams))
    return result


def npy_name(uid: str, stream: str, number: int, more: str = "") -> str:
    """The file of a segment's features."""
    return f"{uid}_{stream}/{number:04}{more}.npy"


def _table(rows: Sequence[tuple[StoredTake, int, Segment]], streams: Sequence[str]) -> bytes:
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("take_uid", "take_name", "stream", "file", "start", "end", "name", "label"))
    for take, number, segment in rows:
        for stream in streams:
            if stream in take.streams:
                file = npy_name(take.uid, stream, number)
                out.writerow((
                    take.uid, take.name, stream, file, segment.start, segment.end, segment.name,
                    segment.label,
                ))  # fmt: skip
    return text.getvalue().encode()


def _found(
    target: Objects, key: str, facts: Mapping[str, Any], below: str | None = None
) -> Mapping[str, Any] | None:
    """What an output says of itself; None where there is nothing yet.

    Raises SettingsError when it is of something else.
    """
    data = target.get(key)
    if data is None:
        return None
    try:
        parsed = parse_json(data)
        said: Any = parsed.get(below, {}) if below else parsed
        differ = [name for name, value in facts.items() if said.get(name) != value]
    except (ValueError, AttributeError):
        differ, said = ["everything"], {}
    if differ:
        raise SettingsError(
            f"{target.uri} holds something else (other {', '.join(differ)}): remove it, or choose"
            " another --output"
        )
    return said if isinstance(said, Mapping) else None
