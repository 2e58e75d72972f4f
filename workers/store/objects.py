"""The objects under one root URI: whole reads, atomic whole writes, one listing; plain errors."""

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from takestream.errors import InvalidStorage
from takestream.storage import S3Options, absolute, translated

T = TypeVar("T")

_PARALLEL = 10


class Objects:
    """Objects below `uri`, by their key relative to it.

    uri: a local path (made absolute), `file://…`, or any fsspec URI.
    patient: whether requests to S3 that fail are tried for half a minute, or for seconds only.

    Every method raises StorageError, never an error of fsspec or botocore.
    """

    def __init__(self, uri: str, s3: S3Options | None = None, *, patient: bool = True) -> None:
        self.uri = absolute(uri)
        self.local = "://" not in self.uri
        self._s3 = s3 or S3Options()
        self._options = self._s3.for_uri(self.uri)
        on_s3 = self.uri.startswith(("s3://", "s3a://"))
        if on_s3:
            # Otherwise s3fs asks for the size before each read, to split large ones: twice the
            # requests for objects as small as ours.
            self._options["max_concurrency"] = 1
        if on_s3 and patient:
            # Nobody above tries a write again within a run, so the client is patient here.
            self._options["config_kwargs"] = {
                "connect_timeout": 5,
                "read_timeout": 30,
                "retries": {"mode": "standard", "max_attempts": 6},
            }
        if self.local:
            self._fs, self._root = LocalFileSystem(), self.uri
        else:
            with self._translated("open"):
                try:
                    self._fs, root = fsspec.core.url_to_fs(self.uri, **self._options)
                except (ValueError, ImportError) as error:
                    raise InvalidStorage(f"cannot open {self.uri}: {error}") from error
            self._root = root.rstrip("/")
            if on_s3 and not patient:
                # s3fs's own tries come on top of its client's.
                self._fs.retries = 1

    def get(self, key: str) -> bytes | None:
        """The bytes of one object, None when it does not exist."""
        with self._translated("read"):
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
        with self._translated("write to"):
            if self.local:
                _write_atomically(Path(self._path(key)), data, os.replace)
            else:
                self._fs.pipe_file(self._path(key), data)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write one object unless it exists; False when it does. Of many callers one wins.

        An S3 server without conditional writes answers as if this caller had won.
        """
        with self._translated("write to"):
            try:
                if self.local:
                    _write_atomically(Path(self._path(key)), data, _place_new)
                else:
                    self._fs.pipe_file(self._path(key), data, mode="create")
            except FileExistsError:
                return False
            except PermissionError:
                raise
            except OSError as error:
                # s3fs has no one exception for a failed condition, and a retried PUT can fail on
                # the object it made itself: what is there decides.
                if self.get(key) is not None:
                    return False
                if error.errno != errno.ENOSYS:
                    raise
                self.put(key, data)
        return True

    def put_many(self, objects: Mapping[str, bytes]) -> None:
        """Write several objects at once, in no particular order."""
        _in_parallel(lambda key: self.put(key, objects[key]), objects)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete objects, in no particular order; those already gone are fine."""

        def delete(key: str) -> None:
            with self._translated("delete from"), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(key))

        _in_parallel(delete, keys)

    def listing(self) -> set[str]:
        """The keys of all objects, by one listing where S3 is below (a request per 1000 keys)."""
        with self._translated("list"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._root)
            except FileNotFoundError:
                return set()
        top = self._root + "/"
        # Some servers list the folder itself as an object.
        return {path.removeprefix(top) for path in found if path.startswith(top) and path != top}

    def folders(self) -> list[str]:
        """The names of the folders directly below the root, sorted."""
        with self._translated("list"):
            self._fs.invalidate_cache()
            try:
                entries = self._fs.ls(self._root, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = (str(e["name"]).rstrip("/") for e in entries if e["type"] == "directory")
        return sorted(name.rpartition("/")[2] for name in names)

    def _translated(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return translated(self.uri, doing, self._s3)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


def probe_writable(output_uri: str, s3: S3Options | None = None) -> None:
    """Write and delete a small object below `output_uri`, before any work is done for it.

    Not patient: whoever mistyped an endpoint waits for the answer.
    Raises StorageError saying what is wrong.
    """
    objects = Objects(output_uri, s3, patient=False)
    key = f".takestream-probe-{uuid.uuid4().hex}"
    objects.put(key, b"takestream checks that it may write here\n")
    objects.delete_many([key])


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
