"""Features that stores have already, kept in memory as long as they stay true."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takestream import schema
from takestream.storage import S3Options
from workers.run.tasks import ClipPart
from workers.store.errors import StoreError, StoreNotFound
from workers.store.metadata import UNDECODABLE
from workers.store.takestore import TakeStore

Array = NDArray[Any]
# Stores whose metadata stay open: so many, and so many clips in all (40 bytes each).
KEPT_STORES, KEPT_CLIPS = 200, 2_000_000
# Seconds after which it is looked again whether a store's videos are still the same.
LOOK_SECONDS = 60.0
NOT_EXTRACTED = int(schema.Reason.NOT_EXTRACTED)
# What was computed here lies beside what the store has, under keys of its own.
_COMPUTED = "computed"


@dataclass(frozen=True)
class Clips:
    """Which clips of a take, and what its store says of them.

    Attributes:
        clip: int64 [n], numbers in the take.
        columns: The coordinates that the store has, [n] each, by the name of their array: frames
            and seconds, and text where the clips are annotated segments.
    """

    clip: Array
    columns: Mapping[str, Array]

    @property
    def start_time(self) -> Array:
        """float64 [n], seconds on the take's clock."""
        return self.columns[schema.START_TIME]

    @property
    def end_time(self) -> Array:
        """float64 [n], seconds on the take's clock."""
        return self.columns[schema.END_TIME]

    def chosen(self, rows: slice | Array) -> "Clips":
        """Some of them."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Clips(self.clip[rows], columns)

    def within(self, start: float | None, end: float | None) -> "Clips":
        """The clips that show any of `[start, end)` seconds."""
        seen = np.ones(len(self.clip), dtype=bool)
        if start is not None:
            seen &= self.end_time > start
        if end is not None:
            seen &= self.start_time < end
        return self.chosen(seen)

    def arrays(self) -> dict[str, Array]:
        """Numbers and columns by name, as they are answered."""
        return {schema.CLIP: self.clip, **self.columns}


@dataclass
class Block:
    """Clips × streams of one store; `have` says which entries are known.

    features: float16 or float32 [n, S, D], NaN where invalid or unknown. reason: uint8 [n, S].
    frame_time: float64 [n, S] seconds. have: bool [n, S].
    """

    features: Array
    reason: Array
    frame_time: Array
    have: Array

    def fill(self, rows: slice, at: int, features: Array, reason: Array, time: Array) -> None:
        """Put in the clips `rows` of the stream in column `at`."""
        self.features[rows, at] = features
        self.reason[rows, at] = reason
        self.frame_time[rows, at] = time
        # An object that was deleted by hand reads as fill values.
        lost = np.isnan(features[:, 0]) & (reason == schema.Reason.VALID)
        self.have[rows, at] = ~lost & (reason != NOT_EXTRACTED)

    @property
    def valid(self) -> Array:
        """bool [n, S]."""
        return np.asarray(self.have & (self.reason == schema.Reason.VALID))


class StoredFeatures:
    """Reads stores; what was read is kept, up to `cache_bytes`, until a store's root changes.

    May be used from several threads. Methods raise StorageError.
    """

    def __init__(self, s3: S3Options, cache_bytes: int) -> None:
        self._s3 = s3
        self._stores: OrderedDict[str, OpenStore] = OrderedDict()
        self._lock = threading.Lock()
        self._cache = _Cache(cache_bytes)

    def open(self, uri: str) -> "OpenStore | None":
        """The store as it is now; None when there is none."""
        with self._lock:
            known = self._stores.get(uri)
        try:
            if known is None or not known.store.is_current():
                store = TakeStore.open(uri, self._s3)
                known = OpenStore(store, _clips(store), self._cache)
        except StoreNotFound:
            with self._lock:
                self._stores.pop(uri, None)
            return None
        with self._lock:
            self._stores[uri] = known
            self._stores.move_to_end(uri)
            clips = sum(store.store.clips for store in self._stores.values())
            while len(self._stores) > KEPT_STORES or (clips > KEPT_CLIPS and len(self._stores) > 1):
                _, old = self._stores.popitem(last=False)
                clips -= old.store.clips
        return known


class OpenStore:
    """A store with the metadata that it had when it was opened.

    changed: whether its videos were seen to be others since.
    """

    def __init__(self, store: TakeStore, clips: Clips, cache: "_Cache") -> None:
        self.store = store
        self.clips = clips
        self.attributes = store.attributes
        self.changed = False
        self._looked = float("-inf")
        self._cache = cache
        self._keeping = threading.Lock()
        self._known: set[tuple[int, str]] = set()

    def due_for_a_look(self) -> bool:
        """Whether it is time to compare the videos again; if so, the asker does it."""
        now = time.monotonic()
        due = now - self._looked > LOOK_SECONDS
        if due:
            self._looked = now
        return due

    def read(self, streams: Sequence[str], first: int, stop: int) -> Block | None:
        """Clips `[first, stop)` of the streams, as far as they are there.

        None when the store changed meanwhile: open it again.
        """
        store = self.store
        n = stop - first
        block = Block(
            features=np.full((n, len(streams), store.dim), np.nan, dtype=store.dtype),
            reason=np.full((n, len(streams)), schema.Reason.NOT_EXTRACTED, dtype=np.uint8),
            frame_time=np.full((n, len(streams)), np.nan),
            have=np.zeros((n, len(streams)), dtype=bool),
        )
        if not n or not streams:
            return block
        self._recall(streams, first, block)
        units = range(first // store.unit_clips, -(-stop // store.unit_clips))
        wanted = {
            (unit, name)
            for unit in units
            for at, name in enumerate(streams)
            if not block.have[self._rows_of(unit, first), at].all()
        }
        there = self._there(wanted)
        fetched = False
        for unit in units:
            names = [name for name in streams if (unit, name) in there]
            fetched |= self._fetch(unit, names, first, stop, block, list(streams))
        if fetched and not store.is_current():
            return None
        return block

    def keep(self, part: ClipPart) -> None:
        """Remember clips that were computed on demand; features in the store's dtype."""
        size, stop = self.store.chunk_clips, part.first + len(part.reason)
        for chunk in range(part.first // size, -(-stop // size)):
            key = (id(self), _COMPUTED, chunk, part.stream)
            low, high = max(part.first, chunk * size), min(stop, (chunk + 1) * size)
            inside, rows = (
                slice(low % size, low % size + high - low),
                slice(low - part.first, high - part.first),
            )
            with self._keeping:
                known = self._cache.get(key)
                # Copies: others may be reading.
                features, reason, time = (
                    [array.copy() for array in known] if known else self._unknown(size)
                )
                features[inside] = part.features[rows]
                reason[inside] = part.reason[rows]
                time[inside] = part.frame_time[rows]
                self._cache.put(key, (features, reason, time), keep=self)

    def _recall(self, streams: Sequence[str], first: int, block: Block) -> None:
        """Fill in what was computed before."""
        size, stop = self.store.chunk_clips, first + len(block.have)
        for chunk in range(first // size, -(-stop // size)):
            low, high = max(first, chunk * size), min(stop, (chunk + 1) * size)
            rows, inside = slice(low - first, high - first), slice(low % size, None)
            for at, name in enumerate(streams):
                kept = self._cache.get((id(self), _COMPUTED, chunk, name))
                if kept is not None:
                    block.fill(rows, at, *(array[inside][: high - low] for array in kept))

    def _unknown(self, clips: int) -> tuple[Array, Array, Array]:
        store = self.store
        return (
            np.full((clips, store.dim), np.nan, dtype=store.dtype),
            np.full(clips, schema.Reason.NOT_EXTRACTED, dtype=np.uint8),
            np.full(clips, np.nan),
        )

    def _rows_of(self, unit: int, first: int) -> slice:
        size = self.store.unit_clips
        return slice(max(0, unit * size - first), max(0, (unit + 1) * size - first))

    def _there(self, wanted: set[tuple[int, str]]) -> set[tuple[int, str]]:
        if self.store.status == schema.COMPLETE or wanted <= self._known:
            return wanted
        streams = sorted({name for _, name in wanted})
        absent = {
            (gap.start // self.store.unit_clips, name)
            for gap in self.store.missing(streams)
            for name in gap.streams
        }
        # A chunk that exists stays as long as the root does; one that does not may come.
        self._known |= wanted - absent
        return wanted - absent

    def _fetch(
        self, unit: int, names: list[str], first: int, stop: int, block: Block, order: list[str]
    ) -> bool:
        store = self.store
        size = store.chunk_clips
        low = max(first, unit * store.unit_clips)
        high = min(stop, (unit + 1) * store.unit_clips)
        fetched = False
        for chunk in range(low // size, -(-high // size)):
            wanted = [name for name in names if self._cache.get((id(self), chunk, name)) is None]
            if wanted:
                fetched = True
                for name, column in self._load(chunk, wanted).items():
                    self._cache.put((id(self), chunk, name), column, keep=self)
            begin, end = max(low, chunk * size), min(high, (chunk + 1) * size)
            rows, inside = slice(begin - first, end - first), slice(begin % size, None)
            for name in names:
                kept = self._cache.get((id(self), chunk, name))
                # Others may have pushed it out again.
                kept = kept or self._load(chunk, [name])[name]
                parts = (array[inside][: end - begin] for array in kept)
                block.fill(rows, order.index(name), *parts)
        return fetched

    def _load(self, chunk: int, names: list[str]) -> dict[str, tuple[Array, Array, Array]]:
        store = self.store
        rows = slice(chunk * store.chunk_clips, (chunk + 1) * store.chunk_clips)
        columns = np.array([store.streams.index(name) for name in names])

        def part(name: str) -> Array:
            array = store.array(name)
            more = (slice(None),) if array.ndim == 3 else ()
            return np.asarray(array.get_orthogonal_selection((rows, columns, *more)))

        try:
            with ThreadPoolExecutor(3) as pool:
                features, reason, times = pool.map(
                    part, (schema.FEATURES, schema.REASON, schema.FRAME_TIME)
                )
        except UNDECODABLE as error:
            raise StoreError(
                f"{store.uri}: a chunk is damaged ({error}); `takestream verify` names it"
            ) from error
        return {
            name: (
                np.ascontiguousarray(features[:, at]),
                np.ascontiguousarray(reason[:, at]),
                np.ascontiguousarray(times[:, at]),
            )
            for at, name in enumerate(names)
        }


class _Cache:
    """Columns by (store, chunk, stream), the least recently used dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._lock = threading.Lock()
        self._columns: OrderedDict[Any, tuple[tuple[Array, Array, Array], object]] = OrderedDict()

    def get(self, key: Any) -> tuple[Array, Array, Array] | None:
        with self._lock:
            if key not in self._columns:
                return None
            self._columns.move_to_end(key)
            return self._columns[key][0]

    def put(self, key: Any, column: tuple[Array, Array, Array], *, keep: object) -> None:
        """Keep `column`, and with it the object whose id is in the key."""
        with self._lock:
            if key in self._columns:
                self._size -= _bytes(self._columns.pop(key)[0])
            self._columns[key] = column, keep
            self._size += _bytes(column)
            while self._size > self._limit and self._columns:
                _, (old, _) = self._columns.popitem(last=False)
                self._size -= _bytes(old)


def _bytes(column: tuple[Array, Array, Array]) -> int:
    return sum(array.nbytes for array in column)


def _clips(store: TakeStore) -> Clips:
    names = [name for name in store.array_names if schema.SPECS[name].dims == (schema.CLIP,)]

    def column(name: str) -> Array:
        values = np.asarray(store.array(name)[:])
        text = schema.SPECS[name].dtypes == (schema.TEXT,)
        return np.array(values.tolist(), dtype=np.str_) if text else values

    try:
        with ThreadPoolExecutor(len(names)) as pool:
            values = list(pool.map(column, names))
    except UNDECODABLE as error:
        raise StoreError(
            f"{store.uri}: the clips' times are damaged ({error}); `takestream verify` says more"
        ) from error
    return Clips(np.arange(store.clips, dtype=np.int64), dict(zip(names, values, strict=True)))
