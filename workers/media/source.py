"""Ranged, retried, counted reads of one object through fsspec."""

import errno
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from takestream.errors import ErrorKind, InvalidStorage, StorageError, StorageUnavailable
from takestream.retry import retried
from takestream.storage import S3Options, open_filesystem, translated
from takestream.web import is_web
from workers.media.counters import Counters

IN_FLIGHT = 4
# To confirm what was read, objects up to so large are read whole; of others each span is read from
# so many bytes earlier: a storage that gives wrong bytes gives others for another request.
WHOLE_BYTES, EARLIER_BYTES = 64 * 2**20, 4099

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

    Attributes:
        uri: of the object.
        counters: count requests and bytes.
        expected: the version that alone is read, if any.

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
        if isinstance(self._fs, LocalFileSystem):
            # A symbolic link has a time of its own, which does not change with the file.
            self._path = os.path.realpath(self._path)
        self._on_s3 = uri.startswith(("s3://", "s3a://"))
        self.expected: ObjectIdentity | None = None
        # By span, a digest of what was read.
        self._seen: dict[tuple[int, int], bytes] = {}

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
            # A web server may say neither; then its size has to tell one version from another.
            names = ("ETag", "mtime", "created", "Last-Modified")
            version = next((info[name] for name in names if info.get(name)), "")
            if not version and is_web(self.uri):
                version = "unversioned"
            return ObjectIdentity(int(info["size"] or 0), str(version).strip('"'))

        return self._retried(head)

    def answers(self) -> bool:
        """Whether its storage answers anything, be it a refusal, to one HEAD."""
        try:
            with translated(self.uri, "read", self._s3):
                self._fs.info(self._path)
        except StorageUnavailable:
            return False
        except StorageError:
            return True
        return True

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `[start, stop)`, all of them: a short or another answer is tried again.

        Raises:
            SourceChanged: They are of another version of the object than `expect` named.
        """

        data = self._read(start, stop)
        self._seen[start, stop] = _digest(data)
        return data

    def whole(self) -> bytes:
        """All of a small object, such as a list of takes; raises as `read`."""
        size = self.identity().size
        return self.read(0, size) if size else b""

    def note(self, start: int, data: bytes) -> None:
        """Have `confirm` look at bytes that another source of this object has read, too."""
        self._seen[start, start + len(data)] = _digest(data)

    def _read(self, start: int, stop: int) -> bytes:
        return self._retried(lambda: self._counted(stop - start, lambda: self._get(start, stop)))

    def _unranged(self, size: int) -> bytes:
        """All of the object, asked for without a range, which may be taken for another."""

        def get() -> bytes:
            if self._on_s3:
                return bytes(sync(self._fs.loop, self._get_from_s3, 0, None))
            return bytes(self._fs.cat_file(self._path))

        return self._counted(size, get)

    def _counted(self, asked: int, get: Callable[[], bytes]) -> bytes:
        self.counters.add(requests=1)
        began = time.monotonic()
        data = get()
        self.counters.add(bytes_read=len(data), read_seconds=time.monotonic() - began)
        if len(data) != asked:
            raise OSError(f"{len(data)} bytes came back of {asked} asked for")
        return data

    def expect(self, identity: ObjectIdentity) -> None:
        """Read this version of the object alone."""
        self.expected = identity

    def confirm(self) -> None:
        """Read everything that this source has read once more, by other requests, and compare.

        To be called before what was read is called damaged: of a storage that gives other bytes
        each time nothing is known.

        Raises:
            StorageUnavailable: Two readings of the same bytes differ.
        """
        seen, size = dict(self._seen), self.expected.size if self.expected else 0
        whole = None
        if 0 < size <= WHOLE_BYTES:
            whole = memoryview(self._retried(lambda: self._unranged(size)))
        for (start, stop), digest in sorted(seen.items()):
            if whole is not None:
                again = whole[start:stop]
            else:
                first = max(0, start - EARLIER_BYTES)
                again = memoryview(self._read(first, stop))[start - first :]
            if _digest(again) != digest:
                error = StorageUnavailable(
                    f"{self.uri}: two readings of bytes {start} to {stop - 1} differ, so it is the "
                    "storage that is at fault, not the video; run again"
                )
                error.uri = self.uri
                raise error

    def _get(self, start: int, stop: int) -> bytes:
        if not self._on_s3:
            data = bytes(self._fs.cat_file(self._path, start=start, end=stop))
            if len(data) > stop - start and is_web(self.uri):
                error = InvalidStorage(
                    f"{self.uri}: its server answers no byte ranges, and sends the whole object for"
                    " each; put the videos behind one that does (nginx, Apache, any S3)"
                )
                error.uri = self.uri
                raise error
            return data
        return bytes(sync(self._fs.loop, self._get_from_s3, start, stop))

    async def _get_from_s3(self, start: int, stop: int | None) -> bytes:
        """As s3fs does it, with the version asked for and the answer's headers looked at."""
        bucket, key, version = self._fs.split_path(self._path)
        asked: dict[str, str] = {}
        if stop is not None:
            asked["Range"] = f"bytes={start}-{stop - 1}"
        if version:
            asked["VersionId"] = version
        tag = self.expected.etag if self.expected else ""
        if tag:
            asked["IfMatch"] = f'"{tag}"'
        try:
            answer = await self._fs._call_s3("get_object", Bucket=bucket, Key=key, **asked)
        except OSError as error:
            if tag and _status(error) == 412:
                raise self._changed() from error
            raise
        async with answer["Body"] as body:
            data: bytes = await body.read()
        if tag and str(answer.get("ETag", tag)).strip('"') != tag:
            raise self._changed()
        span = str(answer.get("ContentRange", "")).removeprefix("bytes ").partition("/")[0]
        if span and span != f"{start}-{start + len(data) - 1}":
            raise OSError(f"bytes {span} came back instead of {asked.get('Range', 'all')}")
        return data

    def _changed(self) -> SourceChanged:
        error = SourceChanged(f"{self.uri}: the object changed since it was probed; run again")
        error.uri = self.uri
        return error

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


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _status(error: BaseException) -> int:
    """The HTTP status behind what s3fs raised, 0 where there is none."""
    answer: Any = getattr(error.__cause__ or error, "response", None) or {}
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(64, thread_name_prefix="source")
