"""Where stores lie, what their folders are called, and which there are under an output.

A store is `<output>/<encoder_id>/<take_uid>.zarr`; an encoder_id is `<preset>-<10 hex digits>`.
"""

import fnmatch
import hashlib
import json
import os
import posixpath
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from takestream import schema
from takestream.errors import StorageNotFound
from takestream.licence import Licences
from takestream.storage import S3Options, absolute, join, open_filesystem, translated

SUFFIX = ".zarr"
ON_DEMAND = "on-demand"
"""Folder of an output with what a service computed on other grids than its own, for a while.

Stores lie one folder deeper than others, so that whoever lists an output's stores passes over them.
"""
THUMBNAILS = "thumbnails"
"""Folder of an output with small pictures for the service's page."""
_DIGITS = 10
_CONSOLIDATED = re.compile(rb'"consolidated_metadata"\s*:\s*\{')
_ENCODER_ID = re.compile(rf"[A-Za-z0-9._-]+-[0-9a-f]{{{_DIGITS}}}")

_inherited: list[Any] = []


def _hold() -> None:
    if s3fs := sys.modules.get("s3fs"):
        _inherited.append(dict(getattr(s3fs.S3FileSystem, "_cache", {})))


# A forked process holds on to the S3 file systems of its parent, unused as they are. fsspec drops
# them there, and s3fs then closes the parent's connections from an event loop that does not exist:
# pages of errors on the terminal, and a goodbye on the parent's sockets.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_inherited.clear)


def store_uri(output: str, encoder_id: str, take_uid: str) -> str:
    """Where the store of a take is."""
    return join(output, encoder_id, f"{take_uid}{SUFFIX}")


def is_store(uri: str) -> bool:
    """Whether a URI, or the name of a folder, is that of a store."""
    return uri.endswith(SUFFIX)


def uid_of(uri: str) -> str:
    """The uid of the take that the store at `uri` is of."""
    return posixpath.basename(uri).removesuffix(SUFFIX)


def encoder_id_of(uri: str) -> str:
    """The encoder_id of the store at `uri`: the folder that it lies in."""
    return posixpath.basename(posixpath.dirname(uri))


def make_encoder_id(preset: str, digest: str) -> str:
    """The encoder_id of a preset; digest: hex, over all that decides what the features mean."""
    return f"{preset}-{digest[:_DIGITS]}"


def is_encoder_id(name: str) -> bool:
    """Whether a folder in an output is that of an encoder; others are none of ours."""
    return _ENCODER_ID.fullmatch(name) is not None


def preset_of(encoder_id: str) -> str:
    """The preset that an encoder_id begins with."""
    return encoder_id.rpartition("-")[0]


def is_of_encoder(encoder_id: str, encoder: str) -> bool:
    """Whether `encoder`, an encoder_id or a preset, means this encoder_id."""
    return encoder in (encoder_id, preset_of(encoder_id))


@dataclass(frozen=True)
class StoredTake:
    """One store, as it was found.

    Attributes:
        uri: Where it is.
        uid: Of the take.
        name: Of the take.
        streams: Names along its stream dimension.
        sizes: Of its arrays.
        digest: Of its clips; another one means other clips.
        complete: Whether every chunk was there.
        sources: Each stream and a digest of its provenance; another one means other features.
        labelled: Whether its clips are segments, with names and labels.
        facts: What the data set says of the take; see `takestream.facts`.
        licences: Of its videos and of its encoder.
        first: The first clip that is used.
        stop: The clip after the last one that is used; None for all.
        span: Seconds `[start, end)` in which the middles of the clips that are used lie.
    """

    uri: str
    uid: str
    name: str
    streams: tuple[str, ...]
    sizes: schema.Sizes
    digest: str | None
    complete: bool
    sources: tuple[tuple[str, str], ...] = ()
    labelled: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0
    stop: int | None = None
    span: tuple[float, float] | None = None
    licences: Licences = field(default_factory=Licences)

    @property
    def clips(self) -> int:
        """Clips of the take that are used."""
        return (self.sizes.clips if self.stop is None else self.stop) - self.first

    @property
    def chunk(self) -> int:
        """Clips of a features chunk."""
        return self.sizes.chunk_clips

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self.sizes.dim

    @property
    def dtype(self) -> str:
        """Of the features."""
        return self.sizes.dtype

    @property
    def weight(self) -> int:
        """Bytes of the features of one clip, of all streams."""
        return len(self.streams) * self.dim * {"float16": 2}.get(self.dtype, 4)


def choose_streams(takes: Sequence[StoredTake], patterns: Sequence[str] | None) -> tuple[str, ...]:
    """The names over all takes: sorted, or in the order of the patterns that match them.

    Raises:
        ValueError: A pattern matches none, or nothing is chosen.
    """
    if patterns is not None and not patterns:
        raise ValueError("streams=[] chooses none; leave it out for all")
    there = sorted({stream for take in takes for stream in take.streams})
    if not there:
        raise ValueError(f"{takes[0].uri} and the other stores have no streams")
    if patterns is None:
        return tuple(there)
    chosen: dict[str, None] = {}
    for pattern in patterns:
        names = fnmatch.filter(there, pattern)
        if not names:
            raise ValueError(f"no take has a stream {pattern!r}; there is {', '.join(there)}")
        chosen.update(dict.fromkeys(names))
    return tuple(chosen)


def find_stores(uri: str, s3: S3Options | None = None) -> list[str]:
    """The stores that `list_stores` finds at a path or URI, sorted.

    Raises:
        StorageNotFound: There are none.
        StorageError: The storage cannot be reached.
    """
    where = absolute(uri)
    try:
        found = list_stores(where, s3 or S3Options())
    except StorageNotFound:
        found = []
    if not found:
        raise StorageNotFound(
            f"no stores at {where}: expected <output>/<encoder_id>/<take_uid>{SUFFIX}"
        )
    return sorted(found)


def list_stores(output: str, s3: S3Options) -> list[str]:
    """The stores at `output`: itself, those of one encoder's folder, or those of all encoders.

    Raises:
        StorageNotFound: There is no such folder.
        StorageError: The storage cannot be reached.
    """
    if is_store(output):
        return [output]
    fs, path = open_filesystem(output, s3)

    def folders(path: str) -> list[str]:
        entries = fs.ls(path, detail=True)
        names = [e["name"] for e in entries if e["type"] == "directory"]
        return sorted(posixpath.basename(name.rstrip("/")) for name in names)

    with translated(output, "list", s3):
        try:
            top = folders(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StorageNotFound(f"{output}: no such folder") from error
        if here := [join(output, name) for name in top if is_store(name)]:
            return here  # the folder of one encoder
        with ThreadPoolExecutor(8) as pool:
            inner = list(pool.map(lambda name: folders(f"{path.rstrip('/')}/{name}"), top))
    return [
        join(output, name, store)
        for name, stores in zip(top, inner, strict=True)
        for store in stores
        if is_store(store)
    ]


def read_roots(stores: Sequence[str], s3: S3Options) -> dict[str, bytes]:
    """The `zarr.json` of each store, all read at once; those that were only half made have none.

    Some writers leave the consolidated metadata out: each array is then asked for its own.
    """
    found = _read_all({uri: f"{uri}/zarr.json" for uri in stores}, s3)
    for uri, data in found.items():
        if not _CONSOLIDATED.search(data):
            found[uri] = _consolidated(uri, data, s3)
    return found


def _read_all(uris: Mapping[str, str], s3: S3Options) -> dict[str, bytes]:
    """Objects, all read at once, by their keys in `uris`; those that are not there have none."""
    if not uris:
        return {}
    fs, _ = open_filesystem(next(iter(uris.values())), s3)
    paths = [open_filesystem(uri, s3)[1] for uri in uris.values()]
    found = {}
    for key, data in zip(uris, fs.cat_ranges(paths, None, None, on_error="return"), strict=True):
        if isinstance(data, FileNotFoundError | NotADirectoryError):
            continue
        if isinstance(data, BaseException):
            raise data
        found[key] = data
    return found


def _consolidated(uri: str, data: bytes, s3: S3Options) -> bytes:
    """The root at `uri` with the metadata of its arrays, as far as both can be read."""
    try:
        root = json.loads(data)
        parts = _read_all({name: f"{uri}/{name}/zarr.json" for name in schema.SPECS}, s3)
        arrays = {name: json.loads(part) for name, part in parts.items()}
        gathered = {"kind": "gathered", "metadata": arrays}
        return json.dumps({**root, "consolidated_metadata": gathered}).encode()
    except (ValueError, TypeError, RecursionError):
        return data  # the checks of the root, which come next, say what is wrong


def sources_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """By stream, a digest of where its features came from, to be compared."""
    streams = attributes.get("provenance", {}).get("streams", {})
    texts = {name: json.dumps(facts, sort_keys=True) for name, facts in streams.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}


def is_ego(attributes: Mapping[str, Any], stream: str) -> bool:
    """Whether a stream of a store is of a worn camera; by its name where the store does not say."""
    facts = attributes.get("provenance", {}).get("streams", {}).get(stream, {})
    return bool(facts.get("is_ego", stream.startswith("aria")))


def names_of(attributes: Mapping[str, Any], uri: str) -> tuple[str, str]:
    """Uid and name of the take of a store; from its own name where its attributes do not say."""
    take = attributes.get("take", {})
    uid = str(take.get("take_uid") or uid_of(uri))
    return uid, str(take.get("take_name") or uid)
