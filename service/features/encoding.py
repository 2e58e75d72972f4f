"""What features look like on the wire: npz, Arrow, JSON, and lines of JSON."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from service.features.block import Array, Block, Clips
from takestream.protocol import ARROW, NPZ
from takestream.schema import OPTIONAL_COORDINATES

# Rows of a record batch: enough to be quick, small enough to come soon.
ROWS = 2048


@dataclass(frozen=True)
class TakeFeatures:
    """Synchronised features of one take.

    attributes: take, grid, encoder, provenance and problems, as in a store.
    """

    attributes: Mapping[str, Any]
    streams: tuple[str, ...]
    clips: Clips
    block: Block

    def encode(self, kind: str) -> bytes:
        """The whole answer as `kind`, one of the media types above but NDJSON."""
        if kind == NPZ:
            return npz(self._arrays())
        if kind == ARROW:
            return self._arrow()
        return self._json()

    def _arrays(self) -> dict[str, Any]:
        block, clips = self.block, self.clips
        return {
            "features": block.features,
            "valid": block.valid,
            "reason": block.reason,
            "frame_time": block.frame_time,
            **clips.arrays(),
            "stream": np.array(self.streams, dtype=np.str_),
            "attributes": np.array(dumped(self.attributes)),
        }

    def _json(self) -> bytes:
        arrays = self._arrays()
        arrays["features"] = exact(arrays["features"])
        return encoded({**arrays, "attributes": self.attributes})

    def _arrow(self) -> bytes:
        sink = io.BytesIO()
        schema = arrow_schema(self.block.features.shape[2], self.attributes, self.clips)
        with pa.ipc.new_stream(sink, schema) as writer:
            for batch in self._batches(schema):
                writer.write_batch(batch)
        return sink.getvalue()

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        count = len(self.streams)
        step = max(1, ROWS // max(1, count))
        for first in range(0, len(self.clips.clip), step):
            rows = slice(first, first + step)
            n = len(self.clips.clip[rows])
            yield arrow_batch(
                schema,
                self.clips,
                np.repeat(np.arange(first, first + n), count),
                np.tile(np.array(self.streams, dtype=object), n),
                self.block.features[rows].reshape(n * count, -1),
                self.block.reason[rows].ravel(),
                self.block.frame_time[rows].ravel(),
                self.block.valid[rows].ravel(),
            )


def npz(arrays: Mapping[str, Array]) -> bytes:
    """Arrays as an uncompressed npz: features hardly compress, and time is what counts."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def dumped(value: Any) -> str:
    """As `encoded`, for short things."""
    return encoded(value).decode()


def encoded(value: Any) -> bytes:
    """Compact JSON; arrays become nested lists, and what is no number in them null."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, default=_plain, option=options)


def exact(values: Array) -> Array:
    """float16 as float64, so that JSON shows in full what it holds."""
    return np.ascontiguousarray(values, dtype=np.float64) if values.dtype == np.float16 else values


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # what orjson does not take: text, views
        return value.tolist() if value.dtype.kind in "OU" else np.ascontiguousarray(value)
    return str(value)


def arrow_schema(dim: int, attributes: Mapping[str, Any], clips: Clips) -> pa.Schema:
    """A row per (clip, stream); the attributes are in the metadata.

    Args:
        dim: Length of a feature vector.
        attributes: As in a store.
        clips: Whose optional columns are in the rows too, after all others.
    """
    return pa.schema(
        [
            ("clip", pa.int64()),
            ("stream", pa.string()),
            ("start_time", pa.float64()),
            ("end_time", pa.float64()),
            ("frame_time", pa.float64()),
            ("valid", pa.bool_()),
            ("reason", pa.uint8()),
            ("features", pa.list_(pa.float32(), dim)),
            *((name, pa.string()) for name in _optional(clips)),
        ],
        metadata={"takestream": dumped(attributes)},
    )


def _optional(clips: Clips) -> list[str]:
    return [name for name in OPTIONAL_COORDINATES if name in clips.columns]


def arrow_batch(
    schema: pa.Schema,
    clips: Clips,
    rows: Array,
    streams: Array,
    features: Array,
    reason: Array,
    frame_time: Array,
    valid: Array,
) -> pa.RecordBatch:
    """Rows for the clips `clips.clip[rows]`; features [n, D], all others [n]."""
    dim = schema.field("features").type.list_size
    values = pa.array(np.ascontiguousarray(features, dtype=np.float32).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(values, dim, mask=pa.array(~valid))
    columns = [
        pa.array(clips.clip[rows]),
        pa.array(list(streams), pa.string()),
        pa.array(clips.start_time[rows]),
        pa.array(clips.end_time[rows]),
        pa.array(frame_time, mask=np.isnan(frame_time)),
        pa.array(valid),
        pa.array(reason),
        vectors,
        *(pa.array(clips.columns[name][rows].tolist(), pa.string()) for name in _optional(clips)),
    ]
    return pa.record_batch(columns, schema=schema)
