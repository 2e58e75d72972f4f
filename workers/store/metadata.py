"""The metadata of a store: made once, extended by streams, changed, always whole for a reader.

The root `zarr.json` holds the attributes and the consolidated metadata of all arrays in one object.
A change takes effect with one PUT of it, after all other objects of the change were written.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import MemoryStore, StorePath

from takestream import schema
from takestream.root import (
    StoreFault,
    arrays_named,
    check_arrays,
    parse_json,
    parse_root,
    size_fault,
)
from takestream.schema import Sizes
from workers.store.changed import marked
from workers.store.errors import StoreError, StoreMismatch, StoreNotFound
from workers.store.layout import (
    ROOT,
    StoreLayout,
    array_metadata,
    chunk_clips,
    empty_objects,
    first_attributes,
    merged,
    root_json,
    stream_objects,
)
from workers.store.objects import Objects

log = logging.getLogger(__name__)

# What zarr and its codecs raise for chunks that do not decode.
UNDECODABLE = (RuntimeError, ValueError, TypeError)


class Metadata:
    """The metadata of one store, as last read or written.

    Attributes:
        attributes: Of the store.
        arrays: The metadata of its arrays, parsed, by name.
        streams: Names along the stream dimension.
        sizes: Of its arrays.
    """

    def __init__(self, objects: Objects, zarr_store: Store, root: bytes) -> None:
        self._objects = objects
        self._zarr = zarr_store
        self.attributes: dict[str, Any] = {}
        self.arrays: dict[str, Any] = {}
        self.streams: tuple[str, ...] = ()
        self.sizes: Sizes
        self._opened: dict[str, zarr.Array[Any]] = {}
        self._root = root
        self._adopt(root)

    @classmethod
    def load(cls, objects: Objects, zarr_store: Store) -> Self | None:
        """What is there; None without a root."""
        root = objects.get(ROOT)
        return None if root is None else cls(objects, zarr_store, root)

    @classmethod
    def make(cls, objects: Objects, zarr_store: Store, layout: StoreLayout) -> Self:
        """Make an empty store, or complete a half-made one.

        Raises:
            StoreMismatch: What was begun there has other clips, another dim or dtype.
        """
        claim = _claim(objects, 0, _first_claim(layout))
        same = ("dim", layout.dim), ("dtype", layout.dtype), ("clips_sha256", layout.clips_digest)
        if any(claim[key] != value for key, value in same):
            raise StoreMismatch(
                f"{objects.uri} was begun with another grid, dim or dtype. Remove that store, or"
                " choose another --output"
            )
        layout = replace(
            layout,
            streams=tuple(claim["streams"]),
            attributes=claim["attributes"],
            unit_clips=claim["unit_clips"],
        )
        made = empty_objects(layout, claim["chunk_clips"])
        objects.put_many(made)
        root = root_json(first_attributes(layout), array_metadata(made))
        if objects.put_new(ROOT, root):
            return cls(objects, zarr_store, root)
        # Another run was faster, and may have added streams since.
        metadata = cls(objects, zarr_store, objects.get(ROOT) or root)
        metadata.align()
        return metadata

    def refresh(self) -> None:
        """Read the root again.

        Raises:
            StoreNotFound: It is gone.
        """
        self._adopt(self._fresh())

    def is_current(self) -> bool:
        """Whether the root is still the one last read, by one GET.

        Raises:
            StoreNotFound: It is gone.
        """
        return self._fresh() == self._root

    def array(self, name: str) -> zarr.Array[Any]:
        """The Zarr array of that name; nothing is read by this call.

        Raises:
            KeyError: The store has none.
        """
        if name not in self._opened:
            if name not in self.arrays:
                raise KeyError(f"{self._objects.uri} has no array {name}")
            there = zarr.AsyncArray(_parsed(name, self.sizes), StorePath(self._zarr, name))
            # zarr drops all-NaN chunks by default, and a dropped chunk is a missing one.
            self._opened[name] = zarr.Array(there).with_config({"write_empty_chunks": True})
        return self._opened[name]

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the attributes as they are now, not as they were when this object was made."""
        self.refresh()
        with marked(self._objects, self.attributes["status"]):
            change(self.attributes)
            self._objects.put(ROOT, root_json(self.attributes, self.arrays))

    def extend(self, streams: Iterable[str], attributes: Mapping[str, Any]) -> None:
        """Add streams after those that are there, or what another run claimed to add there first.

        The status goes back to `partial`.

        Args:
            streams: Names.
            attributes: To be added; those that are there win.
        """
        claim = {"streams": list(streams), "attributes": dict(attributes)}
        self._add(_claim(self._objects, len(self.streams), claim))
        # Our root may just have replaced that of a run which was already further.
        self.absorb()

    def absorb(self) -> None:
        """Add streams that were claimed and are not there, whoever claimed them."""
        while data := self._objects.get(_claim_key(len(self.streams))):
            try:
                claim = _parsed_claim(self._objects, data, {"streams": [], "attributes": {}})
            except StoreError:
                return  # half written; whoever adds streams next replaces it
            self._add(claim)

    def align(self) -> None:
        """Make the arrays' own metadata and the stream names what the root says.

        They differ when a run that was overtaken wrote them last.
        """
        right = stream_objects(self.streams)
        # Laid out as when they were made, so that a mended store is the same byte for byte.
        for name, value in self.arrays.items():
            right[_key(name)] = json.dumps(value, indent=2, allow_nan=False).encode()
        own = self._objects.get_many(right)
        self._objects.put_many({k: v for k, v in right.items() if not _same(own[k], v)})

    def mend(self, layout: StoreLayout) -> None:
        """Write the coordinates of the clips that are not there.

        Args:
            layout: Of the same clips.
        """
        names = [name for name in layout.coordinates if name in self.arrays]
        keys = [f"{name}/c/0" for name in names]
        there = self._objects.get_many(keys if layout.clips else [])
        if absent := [key for key, data in there.items() if data is None]:
            made = empty_objects(layout, self.sizes.chunk_clips)
            self._objects.put_many({key: made[key] for key in absent})

    def _add(self, claim: Mapping[str, Any]) -> None:
        names = (*self.streams, *claim["streams"])
        arrays, objects = deepcopy(self.arrays), stream_objects(names)
        sizes = replace(self.sizes, streams=len(names))
        if fault := size_fault(sizes):
            raise StoreError(f"{self._objects.uri} cannot have more streams: {fault}")
        for name in (schema.FEATURES, *schema.PER_STREAM_ARRAYS):
            arrays[name]["shape"] = list(schema.SPECS[name].shape(sizes))
            objects[_key(name)] = _dumped(arrays[name])
        arrays.update(array_metadata(objects))
        self._objects.put_many(objects)
        self.refresh()
        if len(self.streams) >= len(names):
            self.align()
            return
        status = self.attributes["status"]
        self.attributes.update(merged(claim["attributes"], self.attributes))
        self.attributes.update(status=schema.PARTIAL, streams=list(names))
        root = root_json(self.attributes, arrays)
        with marked(self._objects, status):
            self._objects.put(ROOT, root)
        self._adopt(root)

    def _fresh(self) -> bytes:
        root = self._objects.get(ROOT)
        if root is None:
            raise StoreNotFound(f"{self._objects.uri} was removed while it was in use; run again")
        return root

    def _adopt(self, root: bytes) -> None:
        uri = self._objects.uri
        try:
            attributes, arrays = parse_root(root, uri)
            names = arrays_named(attributes)
            if set(names) - set(arrays):
                arrays = own_metadata(self._objects, names)
            sizes = check_arrays(attributes, arrays, uri)
        except StoreFault as error:
            raise StoreMismatch(f"{error}. Choose another --output, or remove it") from error
        self.attributes, self.arrays, self.sizes = attributes, arrays, sizes
        self._opened = {}
        self._root = root
        self.streams = tuple(attributes["streams"])


@lru_cache(maxsize=64)
def _parsed(name: str, sizes: Sizes) -> Any:
    """An array's metadata as zarr parses them, which takes longer than to read a small chunk.

    They are from the table: those of a checked store equal it in all that matters.
    """
    metadata = schema.SPECS[name].metadata(sizes)
    return zarr.Array.from_dict(StorePath(MemoryStore(), name), metadata).metadata


def own_metadata(objects: Objects, names: Iterable[str]) -> dict[str, Any]:
    """The metadata of these arrays, parsed from their own `zarr.json`, by array name.

    Raises:
        StoreNotFound: An array has none.
        StoreError: It cannot be read or is no JSON.
    """
    found = objects.get_many([_key(name) for name in names])
    if absent := [key for key, data in found.items() if data is None]:
        raise StoreNotFound(f"{objects.uri} is half-made, without {', '.join(absent)}")
    try:
        return array_metadata({k: data for k, data in found.items() if data is not None})
    except ValueError as error:
        raise StoreError(f"{objects.uri}: {error}") from error


def read_whole(array: zarr.Array[Any], uri: str) -> np.ndarray[Any, Any]:
    """All values of a small array.

    Raises:
        StoreError: A chunk does not decode.
    """
    try:
        return np.asarray(array[:])
    except UNDECODABLE as error:
        raise StoreError(
            f"{uri}: {array.path} is damaged ({error}); `takestream verify` names the chunk"
        ) from error


def _first_claim(layout: StoreLayout) -> dict[str, Any]:
    itemsize = np.dtype(layout.dtype).itemsize
    return {
        "streams": layout.streams,
        "attributes": layout.attributes,
        "unit_clips": layout.unit_clips,
        "chunk_clips": chunk_clips(layout.unit_clips, layout.dim, itemsize),
        "dim": layout.dim,
        "dtype": layout.dtype,
        "clips_sha256": layout.clips_digest,
    }


def _claim(objects: Objects, position: int, claim: Mapping[str, Any]) -> dict[str, Any]:
    """What is added at this stream position: `claim`, or that of whoever was first.

    Two runs that add streams at once would otherwise both take the same index. The loser carries
    out the winner's claim too, so it does not matter whether the winner still lives. One that was
    half written was never carried out, as its writer would have read it back, and is replaced.
    """
    key = _claim_key(position)
    objects.put_new(key, _dumped(claim))
    try:
        return _parsed_claim(objects, objects.get(key) or b"", claim)
    except StoreError as error:
        log.warning("%s; it is replaced", error)
    objects.put(key, _dumped(claim))
    return _parsed_claim(objects, objects.get(key) or b"", claim)


def _parsed_claim(objects: Objects, data: bytes, like: Mapping[str, Any]) -> dict[str, Any]:
    """The claim in `data`, with entries of the kinds that `like` has."""
    try:
        found = parse_json(data)
        for name, value in json.loads(_dumped(like)).items():
            if type(found[name]) is not type(value):
                raise ValueError(f"its {name} is of another kind")
        if not all(isinstance(name, str) for name in found["streams"]):
            raise ValueError("its streams are no names")
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{objects.uri}: an object below {schema.STREAM}/claims is damaged ({error})"
        ) from error
    return dict(found)


def _claim_key(position: int) -> str:
    # Below an array, where no reader of Zarr looks for members of the group.
    return f"{schema.STREAM}/claims/{position}.json"


def _key(array: str) -> str:
    return f"{array}/{ROOT}"


def _same(own: bytes | None, right: bytes) -> bool:
    if own is None or own == right:
        return own == right
    try:
        return bool(json.loads(own) == json.loads(right))
    except ValueError:
        return False


def _dumped(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
