"""S3 file systems, which are kept for the life of a process, and are forgotten when one fails.

A file system holds the keys, the endpoint and the profile that it found when it was made. After a
refusal the next one has to look again, or a notebook would have to be started anew.
"""

import os
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from takestream.errors import StorageDenied, StorageError
from takestream.storage import S3Options, translated

Found = TypeVar("Found")

_shared: dict[tuple[int, S3Options], Any] = {}
# s3fs would close the connections of those that live in zarr's event loop from another one.
_retired: deque[Any] = deque(maxlen=256)


def asked(uri: str, s3: S3Options, read: Callable[[], Found]) -> Found:
    """What `read` returns, its errors translated; asked again where keys were refused.

    Args:
        uri: What is read, for messages.
        s3: How it is reached.
        read: Reads it; may be called twice.

    Raises:
        StorageError: Whatever the storage answers, the second time too.
    """
    for last in (False, True):
        try:
            with translated(uri, "read", s3):
                return read()
        except StorageError as error:
            # Without a cause it is our own finding, such as a take that is not there.
            if not uri.startswith("s3://") or error.__cause__ is None:
                raise
            forget()
            if last or not isinstance(error, StorageDenied):
                raise
    raise AssertionError("either try returns or raises")


def forget() -> None:
    """Let the next reads make their own file systems; those in use stay as they are."""
    import s3fs

    kept = [*_shared.values(), *s3fs.S3FileSystem._cache.values()]
    _retired.extend(files for files in kept if files.asynchronous)
    _shared.clear()
    s3fs.S3FileSystem.clear_instance_cache()


def shared_s3(s3: S3Options) -> Any:
    """The file system by which all threads of this process read arrays on S3.

    By zarr's own way, from the URI, each thread would get one, and fsspec would keep it for good.
    By process: a forked one must not use its parent's connections, nor close them.
    """
    import s3fs

    key = os.getpid(), s3
    if key not in _shared:
        _shared[key] = s3fs.S3FileSystem(asynchronous=True, **s3.for_uri("s3://"))
    return _shared[key]
