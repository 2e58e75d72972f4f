"""The root of a store, its `zarr.json`: parsed, and checked against the tables of the schema.

Whoever opens a store checks its metadata here first, before memory is taken for any array: the
numbers in it come from a file that may be damaged, or of somebody else.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from takestream import schema
from takestream.errors import ErrorKind, StorageError
from takestream.schema import ArraySpec, Sizes

# No store of ours comes near: 38 hours with a clip for each of 30 frames per second.
MAX_CLIPS = 2**22
MAX_DIM = 2**20
# Clips × streams.
MAX_ENTRIES = 2**26
MAX_CHUNK_BYTES = 2**26
MAX_DEPTH = 32

# Marks a root in memory to which the reader added the metadata of its arrays, which it lacked.
GATHERED = b'"kind": "gathered"'

_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")
_NUMBER = (int, float)
# What attributes are, where a store has them; `*` stands for any name.
_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("status", (str,)),
    ("streams", (list,)),
    ("streams.*", (str,)),
    ("clips_sha256", (str,)),
    ("coordinates", (str,)),
    ("take", (dict,)),
    ("take.take_uid", (str,)),
    ("take.take_name", (str,)),
    ("grid", (dict,)),
    ("grid.frames", (int,)),
    ("grid.clips", (int,)),
    ("grid.window", (int,)),
    ("grid.stride", (int,)),
    ("grid.fps", (*_NUMBER, str)),
    ("encoder", (dict,)),
    ("encoder.encoder_id", (str,)),
    ("provenance", (dict,)),
    ("provenance.versions", (dict,)),
    ("provenance.rotate", (dict,)),
    ("provenance.streams", (dict,)),
    ("provenance.streams.*", (dict,)),
    ("provenance.streams.*.size", (int, type(None))),
    ("provenance.streams.*.etag", (str, type(None))),
    ("problems", (dict,)),
    ("problems.*", (list,)),
    ("problems.*.*", (str,)),
)
_NAMES = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}


class StoreFault(StorageError, ValueError):
    """What is at a URI is no store that this takestream can read; the message says why."""

    kind = ErrorKind.STORE


@dataclass(frozen=True)
class Root:
    """What the root of a store says, checked.

    Attributes:
        attributes: The store's attributes.
        arrays: The metadata of its arrays as in the file, by name; those that the schema does not
            know too.
        streams: The names along the stream dimension.
        sizes: The sizes of its arrays.
        consolidated: Whether the store's own root holds the metadata of its arrays.
    """

    attributes: dict[str, Any]
    arrays: dict[str, Any]
    streams: tuple[str, ...]
    sizes: Sizes
    consolidated: bool = True


def read_root(data: bytes, uri: str) -> Root:
    """The checked root of the store at `uri`.

    Args:
        data: The bytes of its `zarr.json`.
        uri: For the messages.

    Raises:
        StoreFault: It is no store, of another major version, or damaged.
    """
    attributes, arrays = parse_root(data, uri)
    if not arrays:
        raise _fault(uri, "it has no consolidated metadata")
    sizes = check_arrays(attributes, arrays, uri)
    return Root(attributes, arrays, tuple(attributes["streams"]), sizes, GATHERED not in data)


def parse_root(data: bytes, uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes, and the consolidated metadata of the arrays, which may be empty.

    The attributes are checked; the arrays are not yet, see `check_arrays`.

    Raises:
        StoreFault: It is no store, of another major version, or its attributes are damaged.
    """
    try:
        root = parse_json(data)
        attributes = root["attributes"]
        arrays = (root.get("consolidated_metadata") or {}).get("metadata") or {}
        version = attributes["schema_version"]
        attributes["status"], attributes["streams"]
        names = [str(name) for name in attributes["streams"]]
    except KeyError as error:
        raise _fault(
            uri,
            f"it has no attribute {error} (xarray's to_zarr(mode='a') puts the attrs of what it"
            " appends in place of the store's)",
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise _fault(uri, str(error)) from error
    if not isinstance(arrays, dict):
        raise _fault(uri, "its consolidated metadata are no object")
    check_version(version, uri)
    for path, kinds in _KINDS:
        for where, value in _found(attributes, path.split(".")):
            if not isinstance(value, kinds) or isinstance(value, bool):
                wanted = _NAMES.get(kinds[0], "empty")
                raise _fault(uri, f"the attribute {where} is not {wanted}: {_short(value)}")
    if attributes["status"] not in (schema.PARTIAL, schema.COMPLETE):
        raise _fault(uri, f"its status is {_short(attributes['status'])}")
    if len(set(names)) != len(names):
        raise _fault(uri, f"stream names are not unique: {_short(names)}")
    return attributes, arrays


def parse_json(data: bytes) -> Any:
    """JSON of an object of a store. Raises ValueError, also for what could not be written again."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_plain(value, MAX_DEPTH)
    return value


def check_version(version: object, uri: str, *, writing: bool = False) -> None:
    """Whether a store of this `schema_version` may be read, or written; see `docs/store.md`.

    A number n means n.0. Stores of the same major version are read, whatever their minor; they are
    written if their minor is known.

    Raises:
        StoreFault: It may not; the message says what to do.
    """
    major, minor = _parsed(version, uri)
    known = f"{schema.SCHEMA_VERSION}.{schema.SCHEMA_MINOR}"
    if major > schema.SCHEMA_VERSION:
        raise StoreFault(
            f"{uri} has schema version {version}, this takestream knows {known}:"
            " a newer takestream wrote it. Update takestream to read it"
        )
    if major < schema.OLDEST_VERSION:
        raise StoreFault(
            f"{uri} has schema version {version}, this takestream knows {known}:"
            " read it with an older takestream, or extract the take again"
        )
    if writing and minor > schema.SCHEMA_MINOR:
        raise StoreFault(
            f"{uri} has schema version {version}, this takestream knows {known}: it can read that"
            " store but not add to it. Update takestream, or choose another --output"
        )


def arrays_named(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The arrays that a store with these attributes has, of those that the schema knows."""
    named = str(attributes.get("coordinates", "")).split()
    return (*schema.ARRAYS, *(name for name in schema.OPTIONAL_COORDINATES if name in named))


def check_arrays(attributes: Mapping[str, Any], arrays: Mapping[str, Any], uri: str) -> Sizes:
    """The sizes of a store's arrays, after its metadata were compared with the table.

    Args:
        attributes: Of the store, checked.
        arrays: The metadata of its arrays, by name.
        uri: For the messages.

    Raises:
        StoreFault: An array is absent, or has other dims, shape, dtype, chunks or codecs than the
            table says; or they do not fit to the streams and the grid in the attributes.
    """
    names = arrays_named(attributes)
    if absent := [name for name in names if name not in arrays]:
        raise _fault(uri, f"it has no array {', '.join(absent)}")
    major, _ = _parsed(attributes["schema_version"], uri)
    sizes = _sizes(arrays, uri, checksum=major > 1)
    if sizes.streams != len(attributes["streams"]):
        count = len(attributes["streams"])
        raise _fault(
            uri,
            f"features has {sizes.streams} streams, its attributes name {count}; whoever writes"
            " some streams of a store anew gives their names in attrs['streams']",
        )
    grid = attributes.get("grid", {})
    if grid.get("clips", sizes.clips) != sizes.clips:
        raise _fault(uri, f"features has {sizes.clips} clips, its grid {grid['clips']}")
    for name in names:
        if fault := _array_fault(schema.SPECS[name], arrays[name], sizes):
            raise _fault(uri, f"schema: {name} has {fault}")
    return sizes


def _sizes(arrays: Mapping[str, Any], uri: str, *, checksum: bool) -> Sizes:
    features = arrays[schema.FEATURES]
    try:
        clips, streams, dim = features["shape"]
        chunk = features["chunk_grid"]["configuration"]["chunk_shape"][0]
        unit = arrays[schema.VALID]["chunk_grid"]["configuration"]["chunk_shape"][0]
        dtype = features["data_type"]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _fault(uri, "schema: features or valid has no shape or chunks") from error
    sizes = Sizes(clips, streams, dim, unit, chunk, dtype, checksum)
    if fault := size_fault(sizes):
        raise _fault(uri, f"schema: {fault}")
    return sizes


def size_fault(sizes: Sizes) -> str | None:
    """Why no store has these sizes; None when one may have them."""
    dtypes = schema.SPECS[schema.FEATURES].dtypes
    if sizes.dtype not in dtypes:
        return f"features has dtype {_short(sizes.dtype)}, expected {' or '.join(dtypes)}"
    for name, least, most in (
        ("clips", 0, MAX_CLIPS),
        ("streams", 0, MAX_ENTRIES),
        ("dim", 1, MAX_DIM),
        ("unit_clips", 1, MAX_CLIPS),
        ("chunk_clips", 1, MAX_CLIPS),
    ):
        value = getattr(sizes, name)
        if type(value) is not int or not least <= value <= most:
            return f"{name} is {_short(value)}, expected {least} to {most}"
    if sizes.unit_clips % sizes.chunk_clips:
        return (
            f"features chunks of {sizes.chunk_clips} clips do not divide units of"
            f" {sizes.unit_clips}"
        )
    if sizes.clips * sizes.streams > MAX_ENTRIES:
        return f"{sizes.clips} clips of {sizes.streams} streams are more than {MAX_ENTRIES}"
    if sizes.chunk_clips * sizes.dim * 4 > MAX_CHUNK_BYTES:
        return f"chunks of {sizes.chunk_clips} clips of {sizes.dim} numbers are too large"
    return None


def _array_fault(spec: ArraySpec, found: Any, sizes: Sizes) -> str | None:
    if not isinstance(found, dict):
        return f"metadata {_short(found)}"
    there = _comparable(found)
    if _text(there) == _expected(spec, sizes):
        return None
    expected = spec.metadata(sizes)
    if unknown := set(found) - set(expected):
        return f"unknown metadata {_short(sorted(unknown))}"
    for key, value in _comparable(expected).items():
        if _text(there.get(key)) != _text(value):
            return f"{key} {_short(found.get(key))}, expected {_short(expected[key])}"
    return None


@lru_cache(maxsize=256)
def _expected(spec: ArraySpec, sizes: Sizes) -> str:
    """What thousands of stores are compared with, of which many have the same sizes."""
    return _text(_comparable(spec.metadata(sizes)))


def _comparable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of an array without what may differ: attributes, and how hard values were packed."""
    plain = dict(metadata)
    if isinstance(plain.get("attributes"), dict):
        plain["attributes"] = {}
    if isinstance(plain.get("codecs"), list):
        plain["codecs"] = [_unlevelled(codec) for codec in plain["codecs"]]
    return plain


def _text(value: Any) -> str:
    """As text, because 1 is neither 1.0 nor true."""
    return json.dumps(value, sort_keys=True)


def _unlevelled(codec: Any) -> Any:
    settings = codec.get("configuration") if isinstance(codec, dict) else None
    if isinstance(settings, dict) and type(settings.get("level")) is int:
        rest = {name: value for name, value in settings.items() if name != "level"}
        return {**codec, "configuration": rest}
    return codec


def _parsed(version: object, uri: str) -> tuple[int, int]:
    if type(version) is int:
        return version, 0
    if isinstance(version, str) and (match := _VERSION.fullmatch(version)):
        return int(match[1]), int(match[2])
    raise _fault(uri, f"its schema_version is {_short(version)}")


def _check_plain(value: Any, depth: int) -> None:
    """Raise ValueError for what could not be written or sent again."""
    if depth < 0:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict):
        for name, inner in value.items():
            name.encode()
            _check_plain(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, depth - 1)
    elif isinstance(value, str):
        value.encode()  # not half a character
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number in it is not finite")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a number in it has more than 64 bits")


def _found(value: Any, path: list[str], where: str = "") -> Iterator[tuple[str, Any]]:
    """What lies at `path`, as (where, value)."""
    if not path:
        yield where.lstrip("."), value
    elif path[0] == "*":
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from _found(inner, path[1:], f"{where}.{name}")
    elif path[0] in value:
        yield from _found(value[path[0]], path[1:], f"{where}.{path[0]}")


def _fault(uri: str, what: str) -> StoreFault:
    return StoreFault(f"{uri} is not a takestream store, or its zarr.json is damaged: {what}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"
