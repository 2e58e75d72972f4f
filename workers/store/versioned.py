"""Objects that are replaced only while they are what the writer last saw.

Exact, so that of many writers with the same version one wins, on

* S3 servers with conditional writes (`If-Match`, `If-None-Match`), as AWS and SeaweedFS are;
* local and shared disks, by `flock` on a file that all writers of the folder lock. The kernel lets
  go of it when its holder dies.

Elsewhere (a server that ignores the condition, a file system without `flock`, another protocol)
the version is compared just before the write: two writers in the same instant may then both win,
and the later one's object stays.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.asyn import sync

from takestream.storage import S3Options
from workers.store.objects import Objects

log = logging.getLogger(__name__)

LOCK = ".lock"
"""The file that writers on a disk lock; it stays, empty."""

# S3 error codes for a condition that does not hold. 409 is for a write that lost a race to another.
_LOST = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"}
_NOT_EXACT = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


class Versioned(NamedTuple):
    """An object and the version that it had when it was read.

    Attributes:
        data: Its bytes.
        version: Its ETag on S3, else a digest of its bytes.
    """

    data: bytes
    version: str


class VersionedObjects(Objects):
    """`Objects` with conditional writes; every method raises StorageError."""

    def __init__(self, uri: str, s3: S3Options | None = None) -> None:
        super().__init__(uri, s3)
        self._conditional: bool | None = None
        self._asking = threading.Lock()

    def read(self, key: str) -> Versioned | None:
        """One object with its version, None when it does not exist."""
        if not self._on_s3:
            data = self.get(key)
            return None if data is None else Versioned(data, _digest(data))

        def read() -> Versioned | None:
            with contextlib.suppress(FileNotFoundError):
                return Versioned(*sync(self._fs.loop, self._get, key))
            return None

        return self._retried("read", read)

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Write one object if it still has `version`, or does not exist where that is None.

        Returns:
            The new version; None when the object was another one by now, and nothing was written.
        """
        if self._on_s3 and self._has_conditions():
            return self._put_if(key, data, version)
        with self._locked():
            there = self.read(key)
            if (there.version if there else None) != version:
                return None
            self.put(key, data)
            if not self._on_s3:
                return _digest(data)
            written = self.read(key)
            return written.version if written else None

    @property
    def exact(self) -> bool:
        """Whether of several writers in the same instant exactly one wins."""
        if self._on_s3:
            return self._has_conditions()
        if not self.local:
            return False
        with self._locked() as locked:
            return locked

    async def _get(self, key: str) -> tuple[bytes, str]:
        bucket, name, _ = self._fs.split_path(self._path(key))
        found = await self._fs._call_s3("get_object", Bucket=bucket, Key=name)
        async with found["Body"] as body:
            return await body.read(), found["ETag"]

    def _put(self, key: str, data: bytes, **condition: str) -> str:
        bucket, name, _ = self._fs.split_path(self._path(key))
        made = self._fs.call_s3("put_object", Bucket=bucket, Key=name, Body=data, **condition)
        return str(made["ETag"])

    def _put_if(self, key: str, data: bytes, version: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}

        def put() -> str | None:
            try:
                return self._put(key, data, **condition)
            except OSError as error:
                if _code(error) not in _LOST:
                    raise
                return None

        if (made := self._retried("write to", put)) is not None:
            return made
        # A second try after an answer that was lost meets its own object.
        there = self.read(key)
        return there.version if there and there.data == data else None

    def _has_conditions(self) -> bool:
        """Whether the server obeys `If-Match`: asked once, with a version that no object has."""
        with self._asking:
            if self._conditional is None:
                key = f".takestream-probe-{uuid.uuid4().hex}"
                with self._translated("write to"):
                    try:
                        self._put(key, b"", IfMatch='"0"')
                        self._conditional = False
                    except OSError as error:
                        if _code(error) not in (*_LOST, "NotImplemented", "501"):
                            raise
                        self._conditional = _code(error) in _LOST
                if not self._conditional:
                    self.delete_many([key])
                    log.warning(
                        "%s: its server has no conditional writes, so two services that take up "
                        "the same job in the same instant may both run it",
                        self.uri,
                    )
            return self._conditional

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Let no other writer of this folder write; False where that cannot be had."""
        if not self.local:
            yield False
            return
        with self._translated("write to"):
            Path(self._root).mkdir(parents=True, exist_ok=True)
            file = Path(self._path(LOCK)).open("ab")  # noqa: SIM115 - closed below
        with file:
            locked = True
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NOT_EXACT:
                    with self._translated("lock"):
                        raise
                locked = False
            yield locked


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _code(error: BaseException) -> str:
    """The S3 error code of what s3fs raised."""
    cause: Any = error.__cause__ or error
    response = getattr(cause, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
