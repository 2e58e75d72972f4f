"""What every data set can be asked, whatever its layout."""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fsspec import AbstractFileSystem

from takestream.errors import StorageNotFound
from takestream.storage import S3Options, join, open_filesystem, storage_of, translated
from takestream.web import is_web
from workers.dataset.take import Stream, Take
from workers.media.counters import Counters
from workers.media.source import ObjectIdentity, Source


@dataclass(frozen=True)
class Place:
    """Where the bytes of a stream are read.

    Attributes:
        uri: of the object.
        s3: how to reach it.
        mirror: the mirror that it is in; empty for the data set's own object.
        host: whose disk it is on, where that is a mirror's.
        note: why it is not read elsewhere, in plain words.
    """

    uri: str
    s3: S3Options
    mirror: str = ""
    host: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """For reports: the mirror, with the machine whose disk it is on; or the storage."""
        if not self.mirror:
            return storage_of(self.uri)
        return f"{self.host}:{self.mirror}" if self.host else self.mirror

    def source(self, counters: Counters | None = None) -> Source:
        """Its bytes, to be read by range."""
        return Source(self.uri, self.s3, counters)


class Dataset(Protocol):
    """Takes and where their objects are. Making one reads nothing.

    A layout is one module with a class of this shape, and a line in `workers.dataset.layouts`.
    """

    def identity(self) -> ObjectIdentity:
        """Which version of the list of takes is there now.

        Raises:
            FileNotFoundError: there is no list of takes.
            StorageError: the storage cannot be read.
        """
        ...

    def takes(self) -> list[Take]:
        """All takes, in the data set's own order.

        Raises:
            DatasetError: the list of takes is absent, or not as documented.
            StorageError: the storage cannot be read.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """What is odd about the data set as a whole, in sentences; known once `takes` was read."""
        ...

    def sizes(self, takes: Sequence[Take]) -> dict[str, int | None]:
        """Size in bytes of every stream's object by URI, None where it is absent.

        Raises:
            StorageError: the storage cannot be read.
        """
        ...

    def where(self, stream: Stream) -> tuple[str, S3Options]:
        """The data set's own object of a stream that has one, and how to reach it."""
        ...

    def nearest(self, stream: Stream) -> Place:
        """Where this machine reads a stream that has an object: a copy of it, or that itself."""
        ...


def place_of(dataset: Dataset, stream: Stream, counters: Counters | None = None) -> Place:
    """Where this machine reads a stream that has an object.

    Raises:
        StorageError: the storage cannot say which of a stream's keys is there.
    """
    place = dataset.nearest(stream)
    if place.mirror or not stream.others:
        return place
    for other in (place.uri, *stream.others):
        there = replace(place, uri=other)
        try:
            there.source(counters).identity()
        except FileNotFoundError:
            continue
        return there
    return place


def source_of(dataset: Dataset, stream: Stream, counters: Counters | None = None) -> Source:
    """The object of a stream that has one, to be read by range.

    Raises:
        StorageError: as `place_of`.
    """
    return place_of(dataset, stream, counters).source(counters)


def object_sizes(takes: Sequence[Take], s3: S3Options | None = None) -> dict[str, int | None]:
    """Size in bytes of every stream's object by URI, None where it is absent.

    One listing for each folder, and of a web server one HEAD for each object. Raises StorageError
    when the storage cannot be reached.
    """
    uris = {s.uri: (s.uri, *s.others) for take in takes for s in take.streams if s.uri}
    if any(map(is_web, uris)):
        return dict(_asked(uris, s3))
    folders = sorted({posixpath.dirname(uri) for forms in uris.values() for uri in forms})

    def listing(folder: str) -> dict[str, int]:
        return {join(folder, name): size for name, size in list_files(folder, s3).items()}

    with ThreadPoolExecutor(32) as pool:
        sizes = {uri: size for part in pool.map(listing, folders) for uri, size in part.items()}
    return {
        uri: next((sizes[form] for form in forms if form in sizes), None)
        for uri, forms in uris.items()
    }


def _asked(
    uris: Mapping[str, Sequence[str]], s3: S3Options | None
) -> Iterator[tuple[str, int | None]]:
    """Of each object its size, by asking for it; None where it is absent in all its forms."""

    def size(forms: Sequence[str]) -> int | None:
        for form in forms:
            with suppress(StorageNotFound):
                return Source(form, s3).identity().size
        return None

    with ThreadPoolExecutor(32) as pool:
        yield from zip(uris, pool.map(size, uris.values()), strict=True)


def list_files(
    folder: str, s3: S3Options | None = None, *, folders: bool = False
) -> dict[str, int]:
    """Size in bytes of the files of a folder by name; empty where there is no such folder.

    Args:
        folder: its URI.
        s3: how to reach it.
        folders: list its folders instead.

    Raises:
        StorageError: the storage cannot be reached.
    """
    wanted = "directory" if folders else "file"
    try:
        with translated(folder, "list", s3):
            fs, path = open_filesystem(folder, s3)
            found = fs.ls(path, detail=True)
    except FileNotFoundError:
        return {}
    return {
        posixpath.basename(entry["name"].rstrip("/")): int(entry["size"] or 0)
        for entry in found
        if (_followed(fs, entry) if entry.get("islink") else entry["type"]) == wanted
    }


def _followed(fs: AbstractFileSystem, entry: Mapping[str, Any]) -> str:
    """What a symbolic link leads to; empty where it leads nowhere."""
    if fs.isdir(entry["name"]):
        return "directory"
    return "file" if fs.isfile(entry["name"]) else ""
