"""The layout of a store, and the objects that an empty store of it is made of, bytes by key."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.storage import MemoryStore, StorePath

from takestream import schema
from takestream.root import parse_json, size_fault
from takestream.schema import ArraySpec, Sizes

ROOT = "zarr.json"
_MIN_CHUNK_BYTES = 500_000
_MAX_CHUNK_BYTES = 4_000_000


@dataclass(frozen=True)
class StoreLayout:
    """All that the creation of a store needs.

    Attributes:
        streams: Names `<cam_id>_<stream>`, unique, in the order of the store's stream dimension.
        dim: Length of a feature vector.
        dtype: `float16` or `float32`.
        unit_clips: Clips of a unit (U).
        start_frame: int64 [clips], the first frame of each clip on the grid.
        stop_frame: int64 [clips], the frame after its last one.
        start_time: float64 [clips], seconds on the take's clock.
        end_time: float64 [clips], seconds on the take's clock, exclusive.
        attributes: JSON-able; by convention `take`, `grid`, `encoder`, `provenance` (what belongs
            to one stream under `provenance["streams"][name]`) and `problems`
            (`{name: [sentence, …]}`).
        extra: Optional coordinates of the clips, [clips] each, by the name of their array
            (`takestream.schema.OPTIONAL_COORDINATES`).

    Raises:
        ValueError: These do not fit together.
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
    extra: Mapping[str, ArrayLike] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.streams or len(set(self.streams)) != len(self.streams):
            raise ValueError(f"a store needs unique stream names, got {self.streams!r}")
        if unknown := set(self.extra) - set(schema.OPTIONAL_COORDINATES):
            raise ValueError(f"no optional coordinates of clips: {', '.join(sorted(unknown))}")
        lengths = {len(values) for values in self.coordinates.values()}
        if len(lengths) != 1:
            raise ValueError(f"clip coordinates of different lengths: {sorted(lengths)}")
        if fault := size_fault(self.sizes(1)):
            raise ValueError(fault)
        json.dumps(self.attributes, allow_nan=False)

    @property
    def clips(self) -> int:
        """How many clips the take has."""
        return len(self.start_frame)

    @property
    def coordinates(self) -> dict[str, NDArray[Any]]:
        """The coordinates of the clips by the name of their array, in the order of the table."""
        found = {name: getattr(self, name) for name in schema.CLIP_COORDINATES}
        found |= {n: self.extra[n] for n in schema.OPTIONAL_COORDINATES if n in self.extra}
        return {name: _typed(schema.SPECS[name], values) for name, values in found.items()}

    @property
    def clips_digest(self) -> str:
        """sha256 of what the clips are: two layouts with the same clips have the same digest."""
        frames = np.stack([self.start_frame, self.stop_frame]).astype("<i8")
        digest = hashlib.sha256(frames.tobytes())
        for name in schema.OPTIONAL_COORDINATES:
            if name in self.extra:
                digest.update(json.dumps([name, self.coordinates[name].tolist()]).encode())
        return digest.hexdigest()

    def sizes(self, chunk: int) -> Sizes:
        """The sizes of its arrays with `chunk` clips in a features chunk."""
        return Sizes(self.clips, len(self.streams), self.dim, self.unit_clips, chunk, self.dtype)


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


def empty_objects(layout: StoreLayout, chunk: int) -> dict[str, bytes]:
    """Every object of an empty store but the root: all arrays' metadata, the coordinates' chunks.

    Args:
        layout: Of the store.
        chunk: C, the clips of a features chunk.
    """
    sizes, coordinates = layout.sizes(chunk), layout.coordinates
    objects: dict[str, bytes] = {}
    for name in schema.ARRAYS:
        if name == schema.STREAM:
            objects |= stream_objects(layout.streams)
        elif name not in coordinates:
            objects |= _objects(schema.SPECS[name], sizes)
    for name, values in coordinates.items():
        objects |= _objects(schema.SPECS[name], sizes, values)
    return objects


def stream_objects(names: Sequence[str]) -> dict[str, bytes]:
    """The objects of the array `stream` holding `names`."""
    spec, sizes = schema.SPECS[schema.STREAM], Sizes(0, len(names), 1, 1, 1, "float32")
    return _objects(spec, sizes, _typed(spec, names))


def _objects(spec: ArraySpec, sizes: Sizes, values: NDArray[Any] | None = None) -> dict[str, bytes]:
    """The objects of one array, by key; without values its metadata alone."""
    metadata = spec.metadata(sizes)
    written: dict[str, Any] = {}
    if values is not None:
        place = StorePath(MemoryStore(written), spec.name)
        # zarr drops chunks of fill values by default, and a dropped chunk is a missing one.
        zarr.Array.from_dict(place, metadata).with_config({"write_empty_chunks": True})[:] = values
    objects = {key: value.to_bytes() for key, value in written.items()}
    return {f"{spec.name}/{ROOT}": json.dumps(metadata, indent=2).encode(), **objects}


def _typed(spec: ArraySpec, values: ArrayLike) -> NDArray[Any]:
    # numpy's own text has one length for all, Zarr's has not.
    return np.asarray(values, dtype=object if spec.dtypes == (schema.TEXT,) else spec.dtypes[0])


def root_json(attributes: Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes:
    """The root `zarr.json`: attributes and consolidated metadata together, in one object.

    Args:
        attributes: Of the store, JSON-able.
        metadata: The arrays' own metadata (parsed `zarr.json`), by array name.
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

    Raises:
        ValueError: An object is no JSON; the message names it.
    """
    suffix, parsed = "/" + ROOT, {}
    for key, data in objects.items():
        if key.endswith(suffix):
            try:
                parsed[key.removesuffix(suffix)] = parse_json(data)
            except ValueError as error:
                raise ValueError(f"{key} is damaged: {error}") from error
    return parsed


def first_attributes(layout: StoreLayout) -> dict[str, Any]:
    """The attributes of a store just made."""
    return {
        "problems": {},
        **layout.attributes,
        "schema_version": schema.version_with(layout.coordinates),
        "status": schema.PARTIAL,
        "streams": list(layout.streams),
        "clips_sha256": layout.clips_digest,
        "coordinates": " ".join(layout.coordinates),
    }


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over`, which win; mappings are merged level by level."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
