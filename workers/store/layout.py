"""An empty store: the layout it is made from and the objects it is made of, bytes by key."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from takestream import schema
from takestream.schema import Reason

ROOT = "zarr.json"
_MIN_CHUNK_BYTES = 500_000
_MAX_CHUNK_BYTES = 4_000_000
# One chunk holds every stream name with room to grow, so that adding streams rewrites one object.
_STREAM_CHUNK = 64


@dataclass(frozen=True)
class StoreLayout:
    """All that the creation of a store needs.

    streams: names `<cam_id>_<stream>`, unique, in the order of the store's stream dimension.
    dim: length of a feature vector. dtype: `float16` or `float32`.
    unit_clips: clips of a unit (U).
    start_frame, stop_frame: int64 [clips], the frames `[start, stop)` of each clip on the grid.
    start_time, end_time: float64 [clips], seconds on the take's clock.
    attributes: JSON-able; by convention `take`, `grid`, `encoder`, `provenance` (what belongs to
        one stream under `provenance["streams"][name]`) and `problems` (`{name: [sentence, …]}`).

    Raises ValueError when these do not fit together.
    """

    streams: tuple[str, ...]
    dim: int
    dtype: str
    unit_clips: int
    start_frame: NDArray[np.int64]
    stop_frame: NDArray[np.int64]
    start_time: NDArray[np.float64]
    end_time: NDArray[np.float64]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.streams or len(set(self.streams)) != len(self.streams):
            raise ValueError(f"a store needs unique stream names, got {self.streams!r}")
        if self.dim < 1 or self.unit_clips < 1:
            raise ValueError(f"dim and unit_clips are positive, got {self.dim}, {self.unit_clips}")
        if self.dtype not in ("float16", "float32"):
            raise ValueError(f"dtype is float16 or float32, got {self.dtype!r}")
        lengths = {len(getattr(self, name)) for name in schema.CLIP_COORDINATES}
        if len(lengths) != 1:
            raise ValueError(f"clip coordinates of different lengths: {sorted(lengths)}")
        json.dumps(self.attributes, allow_nan=False)

    @property
    def clips(self) -> int:
        return len(self.start_frame)

    @property
    def clips_digest(self) -> str:
        """sha256 of the clips' frames: two layouts with the same clips have the same digest."""
        frames = np.stack([self.start_frame, self.stop_frame]).astype("<i8")
        return hashlib.sha256(frames.tobytes()).hexdigest()


def unit_clips(unit_frames: int, stride: int) -> int:
    """U: how many clips of this stride a unit of so many frames has, at least one."""
    return max(1, unit_frames // stride)


def chunk_clips(unit_clips: int, dim: int, itemsize: int) -> int:
    """C: the clips of a features chunk; divides `unit_clips`, 0.5 to 4 MB where it can.

    The smallest divisor that reaches 0.5 MB, else the whole unit; never over 4 MB unless a single
    clip is.
    """
    clip_bytes = dim * itemsize
    divisors = [c for c in range(1, unit_clips + 1) if unit_clips % c == 0]
    fitting = [c for c in divisors if c * clip_bytes <= _MAX_CHUNK_BYTES] or [1]
    return next((c for c in fitting if c * clip_bytes >= _MIN_CHUNK_BYTES), fitting[-1])


def arrays(layout: StoreLayout, chunk: int) -> dict[str, bytes]:
    """Every object of an empty store but the root: all arrays' metadata, the coordinates' chunks.

    chunk: C, the clips of a features chunk.
    """
    store: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(store), zarr_format=3)
    clips, streams, unit = layout.clips, len(layout.streams), layout.unit_clips

    def create(
        name: str,
        dims: Sequence[str],
        shape: Sequence[int],
        chunks: Sequence[int],
        dtype: Any,
        fill: Any,
        **attributes: Any,
    ) -> zarr.Array[Any]:
        # The checksum makes flipped bytes an error on reading; without it many would decode.
        return group.create_array(
            name,
            shape=tuple(shape),
            chunks=tuple(chunks),
            dtype=dtype,
            fill_value=fill,
            compressors=[ZstdCodec(level=3, checksum=True)],
            dimension_names=tuple(dims),
            attributes=attributes,
        )

    create(
        schema.FEATURES,
        (schema.CLIP, schema.STREAM, schema.FEATURE),
        (clips, streams, layout.dim),
        (chunk, 1, layout.dim),
        layout.dtype,
        np.nan,
        long_name="feature vector, NaN where the clip is invalid",
    )
    per_stream = ((schema.CLIP, schema.STREAM), (clips, streams), (unit, 1))
    create(schema.VALID, *per_stream, "bool", False, long_name="whether the stream has this clip")
    create(
        schema.FRAME_TIME,
        *per_stream,
        "float64",
        np.nan,
        long_name="presentation time of the clip's first frame, from the stream's start",
        units="s",
    )
    create(
        schema.REASON,
        *per_stream,
        "uint8",
        int(Reason.NOT_EXTRACTED),
        long_name="why the clip is invalid",
        flag_values=[int(reason) for reason in Reason],
        flag_meanings=" ".join(reason.name.lower() for reason in Reason),
    )
    for name, dtype, fill, long_name, units in (
        (schema.START_FRAME, "int64", -1, "first frame of the clip on the take's grid", "1"),
        (schema.STOP_FRAME, "int64", -1, "frame after the clip's last one", "1"),
        (schema.START_TIME, "float64", np.nan, "start of the clip on the take's clock", "s"),
        (schema.END_TIME, "float64", np.nan, "end of the clip on the take's clock", "s"),
    ):
        whole = ((schema.CLIP,), (clips,), (max(1, clips),))
        array = create(name, *whole, dtype, fill, long_name=long_name, units=units)
        array[:] = np.asarray(getattr(layout, name), dtype=dtype)
    names = create(
        schema.STREAM,
        (schema.STREAM,),
        (streams,),
        (_STREAM_CHUNK,),
        str,
        "",
        long_name="camera stream, <cam_id>_<stream>",
    )
    names[:] = np.array(layout.streams, dtype=object)
    return {key: value.to_bytes() for key, value in store.items() if key != ROOT}


def stream_names(names: Sequence[str]) -> dict[str, bytes]:
    """The objects of the array `stream` holding `names`."""
    none = np.zeros(0)
    layout = StoreLayout(tuple(names), 1, "float32", 1, none, none, none, none)  # type: ignore[arg-type]
    objects = arrays(layout, 1)
    return {key: data for key, data in objects.items() if key.startswith(schema.STREAM + "/")}


def root(attributes: Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes:
    """The root `zarr.json`: attributes and consolidated metadata together, in one object.

    metadata: the arrays' own metadata (parsed `zarr.json`), by array name.
    """
    return json.dumps(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": dict(attributes),
            "consolidated_metadata": {
                "kind": "inline",
                "must_understand": False,
                "metadata": {name: metadata[name] for name in sorted(metadata)},
            },
        },
        indent=1,
        allow_nan=False,
    ).encode()


def array_metadata(objects: Mapping[str, bytes]) -> dict[str, Any]:
    """The parsed metadata of each array among `objects`, by array name.

    Raises ValueError naming the object that is no JSON.
    """
    suffix, parsed = "/" + ROOT, {}
    for key, data in objects.items():
        if key.endswith(suffix):
            try:
                parsed[key.removesuffix(suffix)] = json.loads(data)
            except ValueError as error:
                raise ValueError(f"{key} is damaged: {error}") from error
    return parsed


def first_attributes(layout: StoreLayout) -> dict[str, Any]:
    """The attributes of a store just made."""
    return {
        "problems": {},
        **layout.attributes,
        "schema_version": schema.SCHEMA_VERSION,
        "status": schema.PARTIAL,
        "streams": list(layout.streams),
        "clips_sha256": layout.clips_digest,
        "coordinates": " ".join(schema.CLIP_COORDINATES),
    }


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over`, which win; mappings are merged level by level."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
