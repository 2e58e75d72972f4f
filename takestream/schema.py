"""The store as data: its arrays, attributes, reasons and version. Light enough for any reader.

A store is a Zarr v3 group `<output>/<encoder_id>/<take_uid>.zarr` of one take and one encoder.
Layout, verification, readers, answers and the documentation derive from the tables below; what the
versions mean stands in `docs/store.md`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

# The major version of new stores. Stores of major 1, whose features have no CRC-32C, are read and
# extended as they are.
SCHEMA_VERSION: Final = 2
OLDEST_VERSION: Final = 1
# The newest minor version that this code knows; each array says since which it exists.
SCHEMA_MINOR: Final = 1

CLIP: Final = "clip"
STREAM: Final = "stream"
FEATURE: Final = "feature"

FEATURES: Final = "features"
VALID: Final = "valid"
FRAME_TIME: Final = "frame_time"
REASON: Final = "reason"
START_FRAME: Final = "start_frame"
STOP_FRAME: Final = "stop_frame"
START_TIME: Final = "start_time"
END_TIME: Final = "end_time"
SEGMENT_NAME: Final = "segment_name"
SEGMENT_LABEL: Final = "segment_label"
# Of opened datasets, not of stores: whether each stream is of a worn camera.
IS_EGO: Final = "is_ego"
EGO_FLAG: Final = {"long_name": "whether the camera is worn"}
# Of opened datasets too, where the data set says when the task is done.
IN_TASK: Final = "in_task"
TASK_FLAG: Final = {"long_name": "whether the middle of the clip lies in the task's span"}

PARTIAL: Final = "partial"
COMPLETE: Final = "complete"

# In the provenance: streams of the take whose objects could not be read when the store was made.
UNREAD: Final = "unread"
# In the provenance of a stream, where there are mirrors: every place that its object was read from.
READ_FROM: Final = "read_from"
# In the provenance: seconds that clips were cut to; null for the whole take.
TASK_SPAN: Final = "task_span_sec"


# How the coordinate `clip` of datasets is described; a store has none.
CLIP_NUMBER: Final = {"long_name": "number of the clip in the take"}


class Reason(IntEnum):
    """Why a clip of a stream is invalid; the values of the array `reason` (uint8)."""

    VALID = 0
    NOT_EXTRACTED = 1
    STREAM_ABSENT = 2
    STREAM_UNREADABLE = 3
    PAST_END = 4
    MISSING_FRAME = 5
    DAMAGED_FRAME = 6

    @property
    def words(self) -> str:
        """The reason for a person, to follow a count of clips."""
        return _WORDS[self]


_WORDS = {
    Reason.VALID: "valid",
    Reason.NOT_EXTRACTED: "not extracted",
    Reason.STREAM_ABSENT: "of an absent stream",
    Reason.STREAM_UNREADABLE: "of an unreadable stream",
    Reason.PAST_END: "past the end of the stream",
    Reason.MISSING_FRAME: "with a missing frame",
    Reason.DAMAGED_FRAME: "with a damaged frame",
}


_COUNTED = re.compile(r"(\d+) of \d+ clips are invalid: .*")


def invalid_line(counts: Mapping[Reason, int], clips: int) -> str:
    """The sentence in `problems` that counts the invalid clips of a stream.

    Args:
        counts: By reason; none is VALID.
        clips: Of the take.
    """
    parts = ", ".join(f"{counts[reason]} {reason.words}" for reason in sorted(counts))
    return f"{sum(counts.values())} of {clips} clips are invalid: {parts}"


def is_invalid_line(line: str) -> bool:
    """Whether `invalid_line` made it."""
    return _COUNTED.fullmatch(line) is not None


def invalid_of(problems: Iterable[str]) -> int:
    """How many clips of a stream of a complete store are invalid, by its `problems`."""
    return sum(int(found[1]) for found in map(_COUNTED.fullmatch, problems) if found)


@dataclass(frozen=True)
class Sizes:
    """How large the arrays of one store are.

    Attributes:
        clips: Clips of the take.
        streams: Streams in the store.
        dim: Length of a feature vector (D).
        unit_clips: Clips of a unit (U), so of the chunks of the arrays per clip and stream.
        chunk_clips: Clips of a chunk of `features` (C).
        dtype: Of `features`, as numpy names it.
        checksum: Whether a chunk of `features` ends with its CRC-32C: from version 2 on.
    """

    clips: int
    streams: int
    dim: int
    unit_clips: int
    chunk_clips: int
    dtype: str
    checksum: bool = True


# How many entries of a dimension one chunk has: a number, or one of these.
UNIT: Final = "U"
CHUNK: Final = "C"
WHOLE: Final = "whole"
# Stream names, with room for more: adding streams then rewrites one object.
NAMES: Final = 64

TEXT: Final = "string"
_WITHOUT_BYTE_ORDER = ("bool", "uint8")


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store.

    Attributes:
        name: Its name in the group.
        dims: The names of its dimensions.
        dtypes: What its type may be, as numpy (and Zarr) name it; TEXT for text.
        fill: What a missing chunk reads as, as in JSON.
        chunks: How many entries one chunk has along each dimension.
        long_name: What it holds, in words.
        units: Of its values; None where they have none.
        flags: Whether its values are those of `Reason`.
        optional: Whether a store may be without it.
        since: The minor version of the schema that brought it.
    """

    name: str
    dims: tuple[str, ...]
    dtypes: tuple[str, ...]
    fill: Any
    chunks: tuple[int | str, ...]
    long_name: str
    units: str | None = None
    flags: bool = False
    optional: bool = False
    since: int = 0

    @property
    def coordinate(self) -> bool:
        """Whether xarray shows it as a coordinate."""
        return len(self.dims) == 1

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes, as xarray shows them."""
        found: dict[str, Any] = {"long_name": self.long_name}
        if self.units is not None:
            found["units"] = self.units
        if self.flags:
            found["flag_values"] = [int(reason) for reason in Reason]
            found["flag_meanings"] = " ".join(reason.name.lower() for reason in Reason)
        return found

    def dtype(self, sizes: Sizes) -> str:
        """Its type in a store of these sizes."""
        return sizes.dtype if self.name == FEATURES else self.dtypes[0]

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Its shape in a store of these sizes."""
        lengths = {CLIP: sizes.clips, STREAM: sizes.streams, FEATURE: sizes.dim}
        return tuple(lengths[dim] for dim in self.dims)

    def chunk_shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape of its chunks in a store of these sizes."""
        rules = {UNIT: sizes.unit_clips, CHUNK: sizes.chunk_clips}
        return tuple(
            max(1, length) if rule == WHOLE else rules[rule] if isinstance(rule, str) else rule
            for rule, length in zip(self.chunks, self.shape(sizes), strict=True)
        )

    def metadata(self, sizes: Sizes) -> dict[str, Any]:
        """Its `zarr.json` in a store of these sizes, by the specification of Zarr v3."""
        dtype = self.dtype(sizes)
        if dtype == TEXT:
            stored: dict[str, Any] = {"name": "vlen-utf8", "configuration": {}}
        elif dtype in _WITHOUT_BYTE_ORDER:
            stored = {"name": "bytes"}
        else:
            stored = {"name": "bytes", "configuration": {"endian": "little"}}
        # The checksum makes flipped bytes an error on reading; without it many would decode.
        packed = {"name": "zstd", "configuration": {"level": 3, "checksum": True}}
        codecs = [stored, packed]
        if self.name == FEATURES and sizes.checksum:
            # Over the bytes as they are stored: whoever copies a chunk can prove it undecoded.
            codecs.append({"name": "crc32c"})
        chunk_shape = {"chunk_shape": list(self.chunk_shape(sizes))}
        return {
            "shape": list(self.shape(sizes)),
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": chunk_shape},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": self.fill,
            "codecs": codecs,
            "attributes": self.attributes,
            "dimension_names": list(self.dims),
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }


_PER_CLIP: Final = (CLIP,)
_PER_STREAM: Final = (CLIP, STREAM)

# The arrays per clip and stream are written for each unit in this order; the features come last.
TABLE: Final = (
    ArraySpec(
        FEATURES,
        (CLIP, STREAM, FEATURE),
        ("float16", "float32"),
        "NaN",
        (CHUNK, 1, WHOLE),
        "feature vector, NaN where the clip is invalid",
    ),
    ArraySpec(VALID, _PER_STREAM, ("bool",), False, (UNIT, 1), "whether the stream has this clip"),
    ArraySpec(
        FRAME_TIME,
        _PER_STREAM,
        ("float64",),
        "NaN",
        (UNIT, 1),
        "presentation time of the clip's first frame, from the stream's start",
        "s",
    ),
    ArraySpec(
        REASON,
        _PER_STREAM,
        ("uint8",),
        int(Reason.NOT_EXTRACTED),
        (UNIT, 1),
        "why the clip is invalid",
        flags=True,
    ),
    ArraySpec(
        START_FRAME,
        _PER_CLIP,
        ("int64",),
        -1,
        (WHOLE,),
        "first frame of the clip on the take's grid",
        "1",
    ),
    ArraySpec(
        STOP_FRAME, _PER_CLIP, ("int64",), -1, (WHOLE,), "frame after the clip's last one", "1"
    ),
    ArraySpec(
        START_TIME,
        _PER_CLIP,
        ("float64",),
        "NaN",
        (WHOLE,),
        "start of the clip on the take's clock",
        "s",
    ),
    ArraySpec(
        END_TIME,
        _PER_CLIP,
        ("float64",),
        "NaN",
        (WHOLE,),
        "end of the clip on the take's clock",
        "s",
    ),
    ArraySpec(
        SEGMENT_NAME,
        _PER_CLIP,
        (TEXT,),
        "",
        (WHOLE,),
        "name of the segment that the clip shows, where the grid is made of segments",
        optional=True,
        since=1,
    ),
    ArraySpec(
        SEGMENT_LABEL,
        _PER_CLIP,
        (TEXT,),
        "",
        (WHOLE,),
        "label of the segment that the clip shows, where the grid is made of segments",
        optional=True,
        since=1,
    ),
    ArraySpec(STREAM, (STREAM,), (TEXT,), "", (NAMES,), "camera stream, <cam_id>_<stream>"),
)

SPECS: Final[Mapping[str, ArraySpec]] = {spec.name: spec for spec in TABLE}
# The arrays that every store has.
ARRAYS: Final = tuple(spec.name for spec in TABLE if not spec.optional)
# Written per unit and stream, in this order; features come after all of them.
PER_STREAM_ARRAYS: Final = tuple(spec.name for spec in TABLE if spec.dims == _PER_STREAM)
# What xarray shows as coordinates besides `stream`, which is one by its name.
CLIP_COORDINATES: Final = tuple(n for n in ARRAYS if SPECS[n].dims == _PER_CLIP)
OPTIONAL_COORDINATES: Final = tuple(spec.name for spec in TABLE if spec.optional)


def version_with(names: Iterable[str]) -> int | str:
    """The `schema_version` of a store that has these arrays: the lowest that describes it."""
    minor = max((SPECS[name].since for name in names), default=0)
    return f"{SCHEMA_VERSION}.{minor}" if minor else SCHEMA_VERSION


def markdown_table() -> str:
    """The arrays as a table in Markdown, for README and docs."""
    rows = ["| array | dims | dtype | chunks | meaning |", "| --- | --- | --- | --- | --- |"]
    for spec in TABLE:
        chunks = ", ".join({WHOLE: "all"}.get(str(rule), str(rule)) for rule in spec.chunks)
        words = spec.long_name + (f", in {spec.units}" if spec.units not in (None, "1") else "")
        if spec.flags:
            words += f"; {', '.join(f'{reason.value} {reason.name.lower()}' for reason in Reason)}"
        if spec.optional:
            words += " (optional)"
        cells = (f"`{spec.name}`", ", ".join(spec.dims), " or ".join(spec.dtypes), chunks, words)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
