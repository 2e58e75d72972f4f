"""Features that stores have, cached in memory until a store's metadata changes."""

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from cachetools import LRUCache

from service.features.block import NOT_EXTRACTED, Array, Block, Clips
from takestream import schema
from takestream.storage import S3Options
from workers.run.tasks import ClipPart
from workers.store.errors import StoreError, StoreNotFound
from workers.store.metadata import UNDECODABLE
from workers.store.takestore import TakeStore

# Bounds on the stores whose metadata are kept: clips of all of them (40 bytes each), of which a
# store counts so many more than it has.
OPEN_CLIPS, CLIPS_PER_STORE = 2_000_000, 10_000
# Seconds between two comparisons of a store's videos with their identity in the provenance.
VIDEO_CHECK_SECONDS = 60.0
# In the keys of columns that were computed here and are not in the store.
_COMPUTED = "computed"

# Of one stream's clips in one chunk: features [n, D], reason [n], frame_time [n].
Column = tuple[Array, Array, Array]


class StoredFeatures:
    """Opens stores and keeps what was read of them, up to `cache_bytes`.

    May be used from several threads. Methods raise StorageError.
    """

    def __init__(self, s3: S3Options, cache_bytes: int) -> None:
        self._s3 = s3
        self._lock = threading.Lock()
        self._stores: LRUCache[str, OpenStore] = LRUCache(
            OPEN_CLIPS, getsizeof=lambda opened: opened.store.clips + CLIPS_PER_STORE
        )
        self._columns = ColumnCache(cache_bytes)

    def open(self, uri: str) -> "OpenStore | None":
        """The store as it is now; None when there is none."""
        with self._lock:
            known = self._stores.get(uri)
        try:
            if known is None or not known.store.is_current():
                store = TakeStore.open(uri, self._s3)
                known = OpenStore(store, _clips(store), self._columns)
        except StoreNotFound:
            with self._lock:
                self._stores.pop(uri, None)
            return None
        with self._lock, suppress(ValueError):  # raised for one that is larger than the cache
            self._stores[uri] = known
        return known


class OpenStore:
    """A store with the metadata that it had when it was opened.

    Attributes:
        store: The store.
        clips: All its clips.
        attributes: Of its root.
        videos_changed: Whether its videos have another identity than its provenance says.
    """

    _numbers = itertools.count()

    def __init__(self, store: TakeStore, clips: Clips, columns: "ColumnCache") -> None:
        self.store = store
        self.clips = clips
        self.attributes = store.attributes
        self.videos_changed = False
        # Of this object, in the cache's keys: a store that changed is opened as another.
        self._number = next(self._numbers)
        self._checked_at = float("-inf")
        self._columns = columns
        self._remembering = threading.Lock()
        self._known: set[tuple[int, str]] = set()

    def claim_video_check(self) -> bool:
        """Whether the videos are to be compared again now; the caller then has to do it."""
        now = time.monotonic()
        due = now - self._checked_at > VIDEO_CHECK_SECONDS
        if due:
            self._checked_at = now
        return due

    def read(self, streams: Sequence[str], first: int, stop: int) -> Block | None:
        """Clips `[first, stop)` of the streams, as far as the store and the cache have them.

        Returns:
            The clips; None when the store changed meanwhile and has to be opened again.
        """
        store = self.store
        n = stop - first
        block = Block.unknown(n, len(streams), store.dim, store.dtype)
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
        try:
            return None if fetched and not store.is_current() else block
        except StoreNotFound:
            return None

    def remember(self, part: ClipPart) -> None:
        """Cache clips that were computed on demand; features in the store's dtype."""
        size, stop = self.store.chunk_clips, part.first + len(part.reason)
        for chunk in range(part.first // size, -(-stop // size)):
            key = (self._number, _COMPUTED, chunk, part.stream)
            low, high = max(part.first, chunk * size), min(stop, (chunk + 1) * size)
            inside, rows = (
                slice(low % size, low % size + high - low),
                slice(low - part.first, high - part.first),
            )
            with self._remembering:
                known = self._columns.get(key)
                # Copies: other threads may be reading.
                features, reason, time = (
                    [array.copy() for array in known] if known else self._unknown(size)
                )
                features[inside] = part.features[rows]
                reason[inside] = part.reason[rows]
                time[inside] = part.frame_time[rows]
                self._columns.put(key, (features, reason, time))

    def _recall(self, streams: Sequence[str], first: int, block: Block) -> None:
        """Fill in the clips that were computed on demand before."""
        size, stop = self.store.chunk_clips, first + len(block.have)
        for chunk in range(first // size, -(-stop // size)):
            low, high = max(first, chunk * size), min(stop, (chunk + 1) * size)
            rows, inside = slice(low - first, high - first), slice(low % size, None)
            for at, name in enumerate(streams):
                column = self._columns.get((self._number, _COMPUTED, chunk, name))
                if column is not None:
                    block.fill(rows, at, *(array[inside][: high - low] for array in column))

    def _unknown(self, clips: int) -> Column:
        store = self.store
        return (
            np.full((clips, store.dim), np.nan, dtype=store.dtype),
            np.full(clips, NOT_EXTRACTED, dtype=np.uint8),
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
        # A chunk that exists stays as long as the root does; a missing one may be written later.
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
            cached = {name: self._columns.get((self._number, chunk, name)) for name in names}
            lacking = [name for name, column in cached.items() if column is None]
            loaded = self._load(chunk, lacking) if lacking else {}
            fetched |= bool(lacking)
            for name, column in loaded.items():
                self._columns.put((self._number, chunk, name), column)
            begin, end = max(low, chunk * size), min(high, (chunk + 1) * size)
            rows, inside = slice(begin - first, end - first), slice(begin % size, None)
            for name in names:
                column = cached[name] or loaded[name]
                parts = (array[inside][: end - begin] for array in column)
                block.fill(rows, order.index(name), *parts)
        return fetched

    def _load(self, chunk: int, names: list[str]) -> dict[str, Column]:
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


class ColumnCache:
    """Columns by (store, chunk, stream), for several threads; the least recently used go first."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._columns: LRUCache[Any, Column] = LRUCache(
            limit, getsizeof=lambda column: sum(array.nbytes for array in column)
        )

    def get(self, key: Any) -> Column | None:
        """The column; None when it is not there."""
        with self._lock:
            return self._columns.get(key)

    def put(self, key: Any, column: Column) -> None:
        """Keep a column, unless it alone is larger than the cache."""
        with self._lock, suppress(ValueError):
            self._columns[key] = column


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
