"""One store: create it or add streams, write units, find what is missing, finish.

Completeness is a fact about objects: a unit of a stream is done if and only if its chunks exist.
Everything here may be repeated, by several processes at once, without harm.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from takestream import schema
from takestream.root import StoreFault, arrays_named, check_version
from takestream.schema import Reason
from takestream.storage import S3Options
from workers.store.errors import StoreError, StoreMismatch, StoreNotFound
from workers.store.gap import Gap
from workers.store.layout import ROOT, StoreLayout, merged
from workers.store.metadata import Metadata, read_whole
from workers.store.objects import Objects
from workers.store.zarr_adapter import ObjectsStore

_OWN_ATTRIBUTES = frozenset({"schema_version", "status", "streams", "clips_sha256", "coordinates"})


class TakeStore:
    """The store of one take and one encoder. Make one with `create` or `open`.

    `write` may be called from several threads. Every method raises StorageError (or one of its
    kinds) when the storage fails.
    """

    def __init__(self, objects: ObjectsStore, metadata: Metadata) -> None:
        self._zarr = objects
        self._objects = objects.objects
        self._metadata = metadata

    @classmethod
    def create(cls, uri: str, layout: StoreLayout, s3: S3Options | None = None) -> Self:
        """The store at `uri` with at least the streams of `layout`, made or extended if need be.

        An existing store keeps its U, C, attributes and chunks. New streams come after the old
        ones, their attributes are added and the status goes back to `partial`.

        Args:
            uri: Where the store is or will be.
            layout: What it has to hold.
            s3: How to reach S3.

        Raises:
            StoreMismatch: The clips, dim or dtype there are others, it is no store, or a newer
                takestream wrote it.
        """
        objects = ObjectsStore(Objects(uri, s3), read_only=False)
        there = Metadata.load(objects.objects, objects)
        metadata = there or Metadata.make(objects.objects, objects, layout)
        store = cls(objects, metadata)
        store._check(layout)
        if there is not None and store.status == schema.PARTIAL:
            metadata.mend(layout)
        while new := [name for name in layout.streams if name not in store.streams]:
            store._require_writable()
            metadata.extend(new, layout.attributes)
        return store

    @classmethod
    def open(cls, uri: str, s3: S3Options | None = None, *, writable: bool = False) -> Self:
        """The store at `uri` as it is now.

        Args:
            uri: Where it is.
            s3: How to reach S3.
            writable: Whether the methods that write may be called.

        Raises:
            StoreNotFound: There is none, or only a half-made one.
            StoreMismatch: It is no store that this takestream reads, or its metadata are damaged.
        """
        objects = ObjectsStore(Objects(uri, s3), read_only=not writable)
        metadata = Metadata.load(objects.objects, objects)
        if metadata is None:
            raise StoreNotFound(
                f"no store at {objects.objects.uri}. `takestream extract` makes one, and finishes"
                " one whose creation was interrupted"
            )
        return cls(objects, metadata)

    @property
    def uri(self) -> str:
        """Where the store is; a local path is absolute."""
        return self._objects.uri

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes as last read or written, as a copy."""
        return deepcopy(self._metadata.attributes)

    @property
    def status(self) -> str:
        """`partial` or `complete`, as last read or written."""
        return str(self._metadata.attributes["status"])

    @property
    def streams(self) -> tuple[str, ...]:
        """Names along the stream dimension."""
        return self._metadata.streams

    @property
    def clips(self) -> int:
        """Clips of the take."""
        return self._metadata.sizes.clips

    @property
    def dim(self) -> int:
        """Length of a feature vector (D)."""
        return self._metadata.sizes.dim

    @property
    def dtype(self) -> str:
        """Of `features`: `float16` or `float32`."""
        return self._metadata.sizes.dtype

    @property
    def unit_clips(self) -> int:
        """U: clips of a unit."""
        return self._metadata.sizes.unit_clips

    @property
    def chunk_clips(self) -> int:
        """C: clips of a features chunk."""
        return self._metadata.sizes.chunk_clips

    def is_current(self) -> bool:
        """Whether attributes and streams are as last read, by one GET.

        As long as they are, chunks that were read stay right: a stream that is extracted again
        changes the attributes first.

        Raises:
            StoreNotFound: The store is gone.
        """
        return self._metadata.is_current()

    @property
    def array_names(self) -> tuple[str, ...]:
        """The arrays of the schema that this store has."""
        return arrays_named(self._metadata.attributes)

    def array(self, name: str) -> zarr.Array[Any]:
        """The Zarr array of that name (`takestream.schema`); one of `array_names`."""
        return self._metadata.array(name)

    def chunk_keys(self, stream: str, start: int) -> list[str]:
        """The keys of all chunks that hold the unit from clip `start` of one stream."""
        index, unit, chunk = self._index(stream), self.unit_clips, self.chunk_clips
        stop = min(start + unit, self.clips)
        side = [f"{name}/c/{start // unit}/{index}" for name in schema.PER_STREAM_ARRAYS]
        chunks = range(start // chunk, -(-stop // chunk))
        return [*side, *(f"{schema.FEATURES}/c/{number}/{index}/0" for number in chunks)]

    def missing(self, streams: Sequence[str] | None = None) -> list[Gap]:
        """The units not all there, in clip order, for `streams` (default: all), by one listing."""
        wanted = self.streams if streams is None else tuple(streams)
        return self._gaps(wanted, self._objects.listing())

    def write(
        self,
        stream: str,
        start: int,
        *,
        features: ArrayLike,
        valid: ArrayLike,
        frame_time: ArrayLike,
        reason: ArrayLike,
    ) -> int:
        """Write one unit of one stream, each chunk by one PUT, the features last.

        Args:
            stream: Name of the stream.
            start: First clip of the unit, a multiple of U; n is U, or less up to the last clip.
            features: float [n, D], anything where invalid (NaN is stored).
            valid: bool [n].
            frame_time: float64 [n], seconds.
            reason: uint8 [n], 0 exactly where valid.

        Returns:
            The bytes written.

        Raises:
            ValueError: Another shape, or a unit that is not aligned.
            StoreError: Features of valid clips are not finite in the store's dtype.
        """
        self._require_writable()
        n = min(self.unit_clips, self.clips - start)
        if start % self.unit_clips or not 0 <= start < self.clips:
            raise ValueError(
                f"unit starts at a multiple of {self.unit_clips} below {self.clips}, not {start}"
            )
        ok = _shaped("valid", valid, bool, (n,))
        why = _shaped("reason", reason, np.uint8, (n,))
        times = _shaped("frame_time", frame_time, np.float64, (n,))
        with np.errstate(over="ignore"):
            values = _shaped("features", features, self.dtype, (n, self.dim))
        if not np.array_equal(why == Reason.VALID, ok):
            raise ValueError(f"reason is {int(Reason.VALID)} exactly where a clip is valid")
        if not np.isfinite(times[ok]).all():
            raise ValueError("frame_time is finite where a clip is valid")
        bad = np.flatnonzero(ok & ~np.isfinite(values).all(axis=1))
        if len(bad):
            raise StoreError(
                f"{self.uri}: the features of {len(bad)} valid clips of {stream} (first: clip"
                f" {start + int(bad[0])}) are not finite in {self.dtype}; try store dtype float32"
                " or encoder precision float32"
            )
        values[~ok] = np.nan
        index, rows = self._index(stream), slice(start, start + n)
        self.array(schema.VALID)[rows, index] = ok
        self.array(schema.FRAME_TIME)[rows, index] = times
        self.array(schema.REASON)[rows, index] = why
        self._features[rows, index, :] = values
        return sum(self._zarr.sizes[key] for key in self.chunk_keys(stream, start))

    def reset(self, stream: str) -> None:
        """Forget one stream because its source changed: its chunks, provenance and problems.

        A reset cut short leaves units that `missing` names.
        """
        self._require_writable()
        index = self._index(stream)

        def forget(attributes: dict[str, Any]) -> None:
            attributes["status"] = schema.PARTIAL
            attributes.get("problems", {}).pop(stream, None)
            attributes.get("provenance", {}).get("streams", {}).pop(stream, None)

        self._metadata.change(forget)
        keys = self._objects.listing()
        features = re.compile(rf"{schema.FEATURES}/c/\d+/{index}/0")
        side = re.compile(rf"({'|'.join(schema.PER_STREAM_ARRAYS)})/c/\d+/{index}")
        for pattern in (features, side):
            self._objects.delete_many(sorted(key for key in keys if pattern.fullmatch(key)))

    def mark_partial(self) -> None:
        """Say that chunks are missing, before some are deleted."""
        self._require_writable()
        self._metadata.change(lambda attributes: attributes.update(status=schema.PARTIAL))

    def remove(self) -> None:
        """Delete the store: chunks first and the root last, so that a part of it is never taken
        for a store, nor its old chunks for those of a new one.
        """
        self.mark_partial()
        keys = self._objects.listing() - {ROOT}
        chunks = {key for key in keys if "/c/" in key}
        for some in (chunks, keys - chunks, {ROOT}):
            self._objects.delete_many(sorted(some))

    def finish(self) -> bool:
        """Mark the store complete if every chunk of every stream exists; whether it is.

        Writes the counts of invalid clips into `problems`, the status and the consolidated
        metadata, all by one PUT of the root after every chunk was seen.
        """
        self._require_writable()
        keys = self._objects.listing()
        self._metadata.refresh()
        self._metadata.absorb()
        if self._gaps(self.streams, keys) or self._lost_coordinates(keys):
            if self.status == schema.COMPLETE:
                self.mark_partial()
            return False
        if self.status == schema.COMPLETE:
            return True
        counted = self._count_invalid()
        self._metadata.align()

        def complete(attributes: dict[str, Any]) -> None:
            problems = attributes.setdefault("problems", {})
            for name in self.streams:
                kept = [line for line in problems.pop(name, []) if not schema.is_invalid_line(line)]
                if lines := [*kept, *counted.get(name, [])]:
                    problems[name] = lines
            attributes["status"] = schema.COMPLETE

        self._metadata.change(complete)
        # Read once more: a storage may have answered, and not kept it.
        self._metadata.refresh()
        return self.status == schema.COMPLETE

    def note(self, stream: str, line: str) -> None:
        """Add a sentence to what is said of a stream, once."""
        self._require_writable()

        def noted(attributes: dict[str, Any]) -> None:
            lines = attributes.setdefault("problems", {}).setdefault(stream, [])
            if line not in lines:
                lines.append(line)

        self._metadata.change(noted)

    def update_attributes(self, **attributes: Any) -> None:
        """Merge into the attributes, mappings level by level; the new values win.

        Args:
            **attributes: JSON-able.

        Raises:
            ValueError: The store keeps one of these itself (`status`, …).
        """
        if own := _OWN_ATTRIBUTES & set(attributes):
            raise ValueError(f"the store keeps {', '.join(sorted(own))} itself")
        self.change_attributes(lambda old: old.update(merged(old, attributes)))

    def change_attributes(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the attributes as they are now, by one PUT of the root; no array is touched."""
        self._require_writable()
        self._metadata.change(change)

    def _lost_coordinates(self, keys: set[str]) -> set[str]:
        """Chunks of the clips' coordinates that a storage did not keep."""
        if not self.clips:
            return set()
        names = (n for n in self.array_names if schema.SPECS[n].dims == (schema.CLIP,))
        return {f"{name}/c/0" for name in names} - keys

    @property
    def _features(self) -> zarr.Array[Any]:
        return self.array(schema.FEATURES)

    def _index(self, stream: str) -> int:
        if stream not in self.streams:
            names = ", ".join(self.streams)
            raise StoreError(f"{self.uri} has no stream {stream!r}; it has {names}")
        return self.streams.index(stream)

    def _check(self, layout: StoreLayout) -> None:
        there = {"dim": self.dim, "dtype": self.dtype, "clips": self.clips}
        wanted = {"dim": layout.dim, "dtype": layout.dtype, "clips": layout.clips}
        differ = [f"{k} {there[k]} instead of {wanted[k]}" for k in there if there[k] != wanted[k]]
        if not differ and self._metadata.attributes.get("clips_sha256") != layout.clips_digest:
            differ = ["clips of other frames or segments"]
        if differ:
            raise StoreMismatch(
                f"{self.uri} has {', '.join(differ)}. Remove that store, or choose another --output"
            )

    def _gaps(self, streams: Sequence[str], keys: set[str]) -> list[Gap]:
        gaps = []
        for start in range(0, self.clips, self.unit_clips):
            lacking = [s for s in streams if not keys.issuperset(self.chunk_keys(s, start))]
            if lacking:
                stop = min(start + self.unit_clips, self.clips)
                gaps.append(Gap(start, stop, tuple(lacking)))
        return gaps

    def _count_invalid(self) -> dict[str, list[str]]:
        reasons = read_whole(self.array(schema.REASON), self.uri)
        if unknown := sorted(set(np.unique(reasons).tolist()) - set(Reason)):
            raise StoreError(
                f"{self.uri}: unknown reasons {unknown}; `takestream verify` says where"
            )
        lines = {}
        for index, name in enumerate(self.streams):
            counts = Counter(Reason(int(value)) for value in reasons[:, index] if value)
            if counts:
                lines[name] = [schema.invalid_line(counts, self.clips)]
        return lines

    def _require_writable(self) -> None:
        if self._zarr.read_only:
            raise StoreError(f"{self.uri} is open for reading only")
        try:
            check_version(self._metadata.attributes["schema_version"], self.uri, writing=True)
        except StoreFault as error:
            raise StoreMismatch(str(error)) from error


def _shaped(name: str, value: ArrayLike, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array.astype(dtype)
