"""Ranged, retried, counted reads of one object through fsspec."""

import errno
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from fsspec import AbstractFileSystem

from takestream.storage import S3Options, open_filesystem
from workers.media.counters import Counters

ATTEMPTS = 5
FIRST_DELAY = 0.2
# Seconds after which no further try begins: a try at an endpoint that hangs takes its time-outs.
PATIENCE = 60.0
IN_FLIGHT = 4

# Error codes with which S3 says that the keys, not the object, are the matter; some services send
# only the words.
_KEY_TROUBLE = (
    "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired", "InvalidAccessKeyId",
    "SignatureDoesNotMatch", "AccessKeyId you provided does not exist", "token has expired",
    "token included in the request is", "token is malformed", "signature we calculated does not",
)  # fmt: skip
_NO_KEYS = ("NoCredentialsError", "ProfileNotFound", "PartialCredentialsError")

T = TypeVar("T")


class SourceError(Exception):
    """An object or its store cannot be read; the message names the URI and what to do next."""


class SourceUnavailable(SourceError):
    """The store did not answer after all retries: worth another try later."""


class SourceDenied(SourceError):
    """The store refuses the request (403)."""


class CredentialsError(SourceDenied):
    """The keys are missing, wrong or expired: no other request will go through either."""


class SourceChanged(SourceError):
    """The object is not the one that was probed."""


@dataclass(frozen=True)
class ObjectIdentity:
    """What tells one version of an object from another: size in bytes and ETag (or mtime)."""

    size: int
    etag: str


class Source:
    """One object, read by range. Safe to use from several threads.

    Raises FileNotFoundError for an absent object, SourceDenied, CredentialsError, and
    SourceUnavailable when `ATTEMPTS` tries with backoff and jitter did not help.
    """

    def __init__(
        self, uri: str, s3: S3Options | None = None, counters: Counters | None = None
    ) -> None:
        self.uri = uri
        self.counters = counters or Counters()
        self._fs, self._path = _filesystem(uri, s3 or S3Options())

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
        began = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with translated(self.uri):
                    return action()
            except SourceUnavailable:
                if attempt == ATTEMPTS or time.monotonic() - began > PATIENCE:
                    raise
                self.counters.add(retries=1)
                time.sleep(FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what fsspec and botocore raise into SourceError; FileNotFoundError stays."""
    try:
        yield
    except (FileNotFoundError, SourceError):
        raise
    except (NotADirectoryError, IsADirectoryError):
        raise FileNotFoundError(uri) from None
    except Exception as error:
        if type(error).__name__ in _NO_KEYS:
            raise CredentialsError(f"{uri}: {_short(error)}; set a profile or AWS keys") from error
        if _is_key_trouble(error):
            raise CredentialsError(
                f"{uri}: the storage does not accept the credentials ({_short(error)}). "
                "Ego-Exo4D keys live 14 days: renew them, then run the same command again"
            ) from error
        if isinstance(error, PermissionError):
            raise SourceDenied(f"{uri}: access denied ({_short(error)})") from error
        if isinstance(error, ValueError | TypeError | ImportError | AttributeError | KeyError):
            raise
        raise SourceUnavailable(f"{uri}: the storage did not answer ({_short(error)})") from error


def _is_key_trouble(error: BaseException) -> bool:
    # s3fs turns botocore's error into an OSError of some kind and keeps it as the cause.
    chain = (error, error.__cause__)
    if not any(isinstance(e, PermissionError) or type(e).__name__ == "ClientError" for e in chain):
        return False
    return any(code in f"{error} {error.__cause__}" for code in _KEY_TROUBLE)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(64, thread_name_prefix="source")


def _filesystem(uri: str, s3: S3Options) -> tuple[AbstractFileSystem, str]:
    with translated(uri):
        return open_filesystem(uri, s3)
