"""Ranged, retried, counted reads of one object through fsspec."""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from takestream.errors import ErrorKind, StorageError
from takestream.retry import retried
from takestream.storage import S3Options, open_filesystem, translated
from workers.media.counters import Counters

IN_FLIGHT = 4

T = TypeVar("T")


class SourceChanged(StorageError):
    """The object is not the one that was probed."""

    kind = ErrorKind.CHANGED


@dataclass(frozen=True)
class ObjectIdentity:
    """What tells one version of an object from another: size in bytes and ETag (or mtime)."""

    size: int
    etag: str


class Source:
    """One object, read by range. Safe to use from several threads.

    Methods raise StorageError: StorageNotFound for an absent object, StorageDenied,
    CredentialsError, and StorageUnavailable when no try within the patience of `s3` was answered.
    """

    def __init__(
        self, uri: str, s3: S3Options | None = None, counters: Counters | None = None
    ) -> None:
        self.uri = uri
        self.counters = counters or Counters()
        self._s3 = s3 or S3Options()
        self._fs, self._path = open_filesystem(uri, self._s3, tries=1)

    def identity(self) -> ObjectIdentity:
        """Size and ETag now, by one HEAD."""

        def head() -> ObjectIdentity:
            self.counters.add(requests=1)
            try:
                info = self._fs.info(self._path)
            except OSError as error:
                if isinstance(error, PermissionError) or error.errno == errno.EINVAL:
                    # The answer to a HEAD has no body: a bare 403 or 400 does not say whether the
                    # keys or the object are the matter. The answer to a GET does.
                    self._fs.cat_file(self._path, start=0, end=1)
                raise
            if info["type"] != "file":
                raise FileNotFoundError(self._path)
            version = info.get("ETag") or info.get("mtime") or info.get("created") or ""
            return ObjectIdentity(int(info["size"] or 0), str(version).strip('"'))

        return self._retried(head)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `[start, stop)`, all of them: a short answer is an error and tried again."""

        def get() -> bytes:
            self.counters.add(requests=1)
            data = bytes(self._fs.cat_file(self._path, start=start, end=stop))
            self.counters.add(bytes_read=len(data))
            if len(data) != stop - start:
                raise OSError(f"{len(data)} bytes came back of {stop - start} asked for")
            return data

        return self._retried(get)

    def read_ahead(self, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of each span in order, `IN_FLIGHT` requests ahead of the reader."""
        waiting: deque[Future[bytes]] = deque()
        try:
            for start, stop in spans:
                waiting.append(_pool().submit(self.read, start, stop))
                if len(waiting) >= IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _retried(self, action: Callable[[], T]) -> T:
        def once() -> T:
            with translated(self.uri, "read", self._s3):
                return action()

        return retried(once, self._s3.patience, lambda: self.counters.add(retries=1))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(64, thread_name_prefix="source")
