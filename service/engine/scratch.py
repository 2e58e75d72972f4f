"""Stores of grids that a service was asked for and does not keep: bounded, beside the output."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.engine.ondemand import Busy
from takestream.errors import StorageError
from takestream.storage import S3Options, absolute, join
from takestream.stores import ON_DEMAND, is_store
from workers.run.recipe import Recipe
from workers.store.objects import Objects
from workers.store.takestore import TakeStore

log = logging.getLogger(__name__)

# Seconds for which a store is kept after its last use, whatever else is asked for: answers are
# still being read from it.
IDLE_SECONDS = 60.0
# A store without its features: metadata, coordinates, validity; and beside each vector.
STORE_BYTES, CLIP_BYTES = 100_000, 20


@dataclass
class _Kept:
    size: int
    used: float
    pins: int = 0


class Scratch:
    """Keeps the stores below `<output>/on-demand` under a limit; the least recently used go first.

    Readers do not list them. Methods are called from one event loop.

    Args:
        output: Of the service.
        s3: How to reach it.
        limit: Bytes of all of them together, by their sizes when they are whole.
    """

    def __init__(self, output: str, s3: S3Options, limit: int) -> None:
        self._root, self._s3, self._limit = join(absolute(output), ON_DEMAND), s3, limit
        self._kept: dict[str, _Kept] | None = None
        self._lock = asyncio.Lock()

    def holds(self, recipe: Recipe) -> bool:
        """Whether the stores of a recipe are kept here."""
        return recipe.job.output == self._root

    async def make_room(self, uri: str) -> None:
        """Remove stores, unless this one is there, until one more may be made.

        Raises:
            Busy: All of them are in use.
            StorageError: The storage fails.
        """
        async with self._lock:
            if self._kept is None:
                self._kept = await asyncio.to_thread(self._found)
            if uri in self._kept:
                self._kept[uri].used = time.monotonic()
                return
            while self._total() + STORE_BYTES > self._limit:
                await self._remove_one(self._kept)
            self._kept[uri] = _Kept(STORE_BYTES, time.monotonic())

    async def made(self, uri: str) -> None:
        """A store was made: it counts with the size that it may come to."""
        size = await asyncio.to_thread(self._size, uri)
        if self._kept is not None:
            self._kept.setdefault(uri, _Kept(size, time.monotonic())).size = size

    @contextmanager
    def in_use(self, uri: str) -> Iterator[None]:
        """Keep a store while it is written to."""
        kept = (self._kept or {}).get(uri)
        if kept is None:
            yield
            return
        kept.pins += 1
        try:
            yield
        finally:
            kept.pins -= 1
            kept.used = time.monotonic()

    def _total(self) -> int:
        return sum(one.size for one in (self._kept or {}).values())

    async def _remove_one(self, kept: dict[str, _Kept]) -> None:
        until = time.monotonic() - IDLE_SECONDS
        free = [(one.used, uri) for uri, one in kept.items() if not one.pins and one.used < until]
        if not free:
            raise Busy("the room for grids that are not the service's own is in use", 30)
        _, uri = min(free)
        await asyncio.to_thread(self._remove, uri)
        del kept[uri]

    def _remove(self, uri: str) -> None:
        try:
            # It marks the store partial first: a reader that misses a chunk sees it has changed.
            TakeStore.open(uri, self._s3, writable=True).remove()
        except StorageError as error:  # one that is gone, or damaged
            log.warning("%s", error)
        Objects(uri, self._s3).delete_all()

    def _found(self) -> dict[str, _Kept]:
        """What another service, or this one before, left."""
        long_ago = time.monotonic() - 2 * IDLE_SECONDS
        uris = [
            join(self._root, folder, name)
            for folder in Objects(self._root, self._s3).folders()
            for name in Objects(join(self._root, folder), self._s3).folders()
            if is_store(name)
        ]
        return {uri: _Kept(self._size(uri), long_ago) for uri in uris}

    def _size(self, uri: str) -> int:
        try:
            store = TakeStore.open(uri, self._s3)
        except StorageError:
            return STORE_BYTES
        vector = store.dim * (2 if store.dtype == "float16" else 4)
        return STORE_BYTES + store.clips * len(store.streams) * (vector + CLIP_BYTES)
