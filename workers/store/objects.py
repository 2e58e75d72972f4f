"""The objects under one root URI: whole reads, atomic whole writes, one listing; plain errors."""

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from takestream.errors import InvalidStorage, StorageError
from takestream.retry import retried
from takestream.storage import (
    UPLOAD_SECONDS,
    S3Options,
    absolute,
    open_filesystem,
    translated,
)
from takestream.web import is_web

T = TypeVar("T")

_PARALLEL = 10
PROBE_PATIENCE = 5.0


class _NotKept(OSError):
    """A write was answered as done, and other bytes lie there, or none."""


class Objects:
    """Objects below `uri`, by their key relative to it.

    Every method raises StorageError, never an error of fsspec or botocore.

    Args:
        uri: A local path (made absolute), `file://…`, or any fsspec URI.
        s3: How to reach it, and for how many seconds each object is tried while it does not answer.
        patience: Seconds to try instead.
    """

    def __init__(
        self, uri: str, s3: S3Options | None = None, *, patience: float | None = None
    ) -> None:
        self.uri = absolute(uri)
        self.local = "://" not in self.uri
        self._on_s3 = self.uri.startswith(("s3://", "s3a://"))
        # Whether its ETags are MD5, as those of S3 are where it does not encrypt with keys of KMS.
        self._tags_tell = True
        self._s3 = s3 or S3Options()
        self._patience = self._s3.patience if patience is None else patience
        if self.local:
            self._fs, self._root = LocalFileSystem(), self.uri
            self._patience = 0.0
        elif is_web(self.uri):
            raise InvalidStorage(
                f"{self.uri}: stores cannot be written to a web server, nor read from one; give a"
                " path, or a URI of S3"
            )
        else:
            # With more at once, s3fs asks for the size before each read, to split large ones: twice
            # the requests for objects as small as ours.
            self._fs, root = open_filesystem(
                self.uri, self._s3, tries=1, silent=UPLOAD_SECONDS, max_concurrency=1
            )
            self._root = root.rstrip("/")

    def beside(self) -> "Objects":
        """The objects below the folder that this root lies in."""
        return Objects(self.uri.rpartition("/")[0], self._s3, patience=self._patience)

    def get(self, key: str) -> bytes | None:
        """The bytes of one object, None when it does not exist."""

        return self._retried("read", lambda: self._get_once(key))

    def _get_once(self, key: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(self._path(key)))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """The bytes of several objects, read at once."""
        keys = list(keys)
        return dict(zip(keys, _in_parallel(self.get, keys), strict=True))

    def put(self, key: str, data: bytes) -> None:
        """Write one object, whole or not at all."""

        def write() -> None:
            if self.local:
                _write_atomically(Path(self._path(key)), data, os.replace)
            else:
                self._put_once(key, data)

        with self._none_spoilt(key, data):
            self._retried("write to", write)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write one object unless it exists; False when it does. Of many callers one wins.

        An S3 server without conditional writes answers as if this caller had won.
        """
        won = False

        def write() -> bool:
            nonlocal won
            try:
                if self.local:
                    _write_atomically(Path(self._path(key)), data, _place_new)
                elif won:
                    self._put_once(key, data)
                else:
                    self._put_once(key, data, new=True)
            except FileExistsError:
                return False
            except _NotKept:
                won = True  # what lies there now is ours to replace
                raise
            except PermissionError:
                raise
            except OSError as error:
                # s3fs has no one exception for a failed condition, and a retried PUT can fail on
                # the object it made itself: what is there decides.
                if not won and self._get_once(key) is not None:
                    return False
                if error.errno != errno.ENOSYS:
                    raise
                self._put_once(key, data)
            return True

        with self._none_spoilt(key, data):
            return self._retried("write to", write)

    def _put_once(self, key: str, data: bytes, *, new: bool = False) -> None:
        """Raises OSError, `_NotKept` when the storage did not keep what it was sent."""
        if not self._on_s3:
            self._fs.pipe_file(self._path(key), data, **({"mode": "create"} if new else {}))
            return
        bucket, name, _ = self._fs.split_path(self._path(key))
        only = {"IfNoneMatch": "*"} if new else {}
        put = {"Bucket": bucket, "Key": name, "Body": data, **only}
        made = sync(self._fs.loop, self._fs._call_s3, "put_object", **put)
        tag = str(made.get("ETag", "")).strip('"')
        if tag and (not self._tags_tell or tag == _md5(data)):
            return
        if self._get_once(key) != data:
            raise _NotKept(f"{key} was answered as written, and other bytes lie there")
        self._tags_tell = not tag

    @contextlib.contextmanager
    def _none_spoilt(self, key: str, data: bytes) -> Iterator[None]:
        """Of a write that failed for good leave nothing that counts as written."""
        try:
            yield
        except StorageError as error:
            if isinstance(error.__cause__, _NotKept):
                with contextlib.suppress(OSError):
                    there = self._get_once(key)
                    if there not in (None, data) and _is_spoilt(key, there):
                        self._fs.rm_file(self._path(key))
            raise

    def put_many(self, objects: Mapping[str, bytes]) -> None:
        """Write several objects at once, in no particular order."""
        _in_parallel(lambda key: self.put(key, objects[key]), objects)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete objects, in no particular order; those already gone are fine."""

        def delete(key: str) -> None:
            def remove() -> None:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(self._path(key))

            self._retried("delete from", remove)

        _in_parallel(delete, keys)

    def delete_all(self) -> None:
        """Delete every object below the root: chunks first and what names them last.

        Its folders too, which disks and some servers keep, and which would be listed as stores.
        """
        keys = self.listing()
        chunks = {key for key in keys if "/c/" in key}
        for some in (chunks, keys - chunks):
            self._delete_at_once([self._path(key) for key in sorted(some)])

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.invalidate_cache()
                self._fs.rm(self._root, recursive=True)

        self._retried("delete from", remove)

    def _delete_at_once(self, paths: list[str]) -> None:
        """Where S3 is below, a thousand by one request."""

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(paths)

        if self._on_s3 and paths:
            self._retried("delete from", remove)
        elif paths:
            self.delete_many(path.removeprefix(f"{self._root}/") for path in paths)

    def weights(self) -> dict[str, tuple[int, float | None]]:
        """By key, the bytes of each object and when it was written, in seconds since 1970.

        When is None where the storage does not say. By one listing.
        """

        def find() -> dict[str, dict[str, Any]]:
            self._fs.invalidate_cache()
            try:
                return dict(self._fs.find(self._root, detail=True))
            except FileNotFoundError:
                return {}

        top = self._root + "/"
        return {
            path.removeprefix(top): (int(info["size"] or 0), written_at(info))
            for path, info in self._retried("list", find).items()
            if path.startswith(top) and path != top
        }

    def listing(self) -> set[str]:
        """The keys of all objects, by one listing where S3 is below (a request per 1000 keys)."""

        def find() -> list[str]:
            self._fs.invalidate_cache()
            try:
                return list(self._fs.find(self._root))
            except FileNotFoundError:
                return []

        found = self._retried("list", find)
        top = self._root + "/"
        # Some servers list the folder itself as an object.
        return {path.removeprefix(top) for path in found if path.startswith(top) and path != top}

    def folders(self) -> list[str]:
        """The names of the folders directly below the root, sorted."""

        def entries() -> list[dict[str, Any]]:
            self._fs.invalidate_cache()
            try:
                return list(self._fs.ls(self._root, detail=True))
            except (FileNotFoundError, NotADirectoryError):
                return []

        names = (
            str(e["name"]).rstrip("/")
            for e in self._retried("list", entries)
            if e["type"] == "directory"
        )
        return sorted(name.rpartition("/")[2] for name in names)

    def _retried(self, doing: str, action: Callable[[], T]) -> T:
        def once() -> T:
            with self._translated(doing):
                return action()

        return retried(once, self._patience)

    def _translated(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return translated(self.uri, doing, self._s3)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


def written_at(info: Mapping[str, Any]) -> float | None:
    """When an object was written, in seconds since 1970, by what its filesystem says of it."""
    for name in ("LastModified", "mtime", "created"):
        when = info.get(name)
        if isinstance(when, datetime):
            return when.timestamp()
        if isinstance(when, int | float):
            return float(when)
    return None


def probe_writable(output_uri: str, s3: S3Options | None = None) -> None:
    """Write and delete a small object below `output_uri`, before any work is done for it.

    Tried for seconds only: whoever mistyped an endpoint waits for the answer.
    Raises StorageError saying what is wrong.
    """
    objects = Objects(output_uri, s3, patience=PROBE_PATIENCE)
    key = f".takestream-probe-{uuid.uuid4().hex}"
    objects.put(key, b"takestream checks that it may write here\n")
    objects.delete_many([key])


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _is_spoilt(key: str, data: bytes | None) -> bool:
    """Whether an object cannot be what was there before a write: a chunk, or JSON cut short."""
    if "/c/" in key:
        return True
    try:
        json.loads(data or b"")
    except ValueError:
        return key.endswith(".json")
    return False


def _write_atomically(path: Path, data: bytes, place: Callable[[Path, Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        temporary.write_bytes(data)
        place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _place_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A filesystem without hard links.
        with path.open("xb") as file:
            file.write(temporary.read_bytes())


def _in_parallel(work: Callable[[str], T], keys: Iterable[str]) -> list[T]:
    keys = list(keys)
    if not keys:
        return []
    with ThreadPoolExecutor(min(_PARALLEL, len(keys))) as pool:
        return list(pool.map(work, keys))
