"""zarr-python's view of a store's objects."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Self

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from workers.store.objects import Objects


class ObjectsStore(Store):
    """Objects as a store of zarr-python, so that zarr uses the same client and raises StorageError.

    Attributes:
        objects: The objects below one root.
        sizes: Bytes last written under each key.
    """

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    def __init__(self, objects: Objects, *, read_only: bool) -> None:
        super().__init__(read_only=read_only)
        self.objects = objects
        self.sizes: dict[str, int] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectsStore) and self.objects.uri == other.objects.uri

    __hash__ = None  # type: ignore[assignment]

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.objects, read_only=read_only)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        data = await asyncio.to_thread(self.objects.get, key)
        if data is None:
            return None
        # Our arrays are not sharded, so zarr asks for whole objects; a part is cut out here.
        match byte_range:
            case RangeByteRequest(start, end):
                data = data[start:end]
            case OffsetByteRequest(offset):
                data = data[offset:]
            case SuffixByteRequest(suffix):
                data = data[-suffix:]
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        data = value.to_bytes()
        await asyncio.to_thread(self.objects.put, key, data)
        self.sizes[key] = len(data)

    async def delete(self, key: str) -> None:
        self._check_writable()
        await asyncio.to_thread(self.objects.delete_many, [key])

    async def exists(self, key: str) -> bool:
        return await self.get(key) is not None

    async def list(self) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self.objects.listing):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        top = prefix.rstrip("/") + "/" if prefix else ""
        names = {key.removeprefix(top).partition("/")[0] async for key in self.list_prefix(top)}
        for name in names:
            yield name
