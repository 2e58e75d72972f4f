"""Any fsspec URI, with S3 credentials the AWS way."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

# Of the client, for one request.
S3_TRIES = 3


@dataclass(frozen=True)
class S3Options:
    """How to reach an S3 endpoint; other protocols ignore it.

    profile: a profile of `~/.aws/credentials`; without one the usual AWS chain decides
        (environment, shared files, instance role).
    endpoint_url: an S3-compatible endpoint, for example `http://127.0.0.1:8333`.
    """

    profile: str | None = None
    endpoint_url: str | None = None

    def for_uri(self, uri: str) -> dict[str, Any]:
        """The keyword arguments with which fsspec opens `uri`."""
        if not uri.startswith(("s3://", "s3a://")):
            return {}
        # A cached listing would hide that an object changed. Waits are short, because whoever reads
        # tries again: an endpoint that does not answer must not look like a slow one for minutes.
        options: dict[str, Any] = {
            "use_listings_cache": False,
            "config_kwargs": {
                "connect_timeout": 5,
                "read_timeout": 10,
                "retries": {"mode": "standard", "max_attempts": S3_TRIES},
            },
        }
        if self.profile:
            options["profile"] = self.profile
        if self.endpoint_url:
            options["endpoint_url"] = self.endpoint_url
        return options


def open_filesystem(uri: str, s3: S3Options | None = None) -> tuple[AbstractFileSystem, str]:
    """The filesystem of `uri` and the path in it.

    Raises ValueError for an unknown protocol, ImportError when its package is missing.
    """
    fs, path = fsspec.core.url_to_fs(uri, **(s3 or S3Options()).for_uri(uri))
    if uri.startswith(("s3://", "s3a://")):
        # s3fs's own tries come on top of its client's; one layer of them is enough.
        fs.retries = 1
    return fs, str(path)


def as_uri(given: str | os.PathLike[str]) -> str:
    """What a person gave, as a URI: `~` and `s3a://` resolved, without a slash at its end.

    Raises ValueError when nothing was given.
    """
    uri = os.fspath(given)
    if not uri.strip():
        raise ValueError("which folder? Give its path or URI, such as s3://bucket/features")
    if uri.startswith("s3a://"):
        uri = f"s3://{uri.removeprefix('s3a://')}"
    uri = uri if "://" in uri else os.path.expanduser(uri)
    return uri.rstrip("/") or uri


@contextmanager
def reached(uri: str, s3: S3Options) -> Iterator[None]:
    """Turn what S3 clients raise into ConnectionError and PermissionError that name `uri`."""
    try:
        yield
    except PermissionError as error:
        if not uri.startswith("s3://"):
            raise
        raise PermissionError(f"{uri}: access refused{_through(s3)}: {error}") from error
    except Exception as error:
        # Looked up when an error is there: botocore is slow to import.
        module: Any = sys.modules.get("botocore.exceptions")
        if module is None or not isinstance(error, (module.BotoCoreError, module.ClientError)):
            raise
        name = type(error).__name__
        if "Credential" in name or "Token" in name or "Profile" in name:
            raise PermissionError(f"{uri}: no way in{_through(s3)}: {error}") from error
        raise ConnectionError(f"{uri} cannot be reached{_through(s3)}: {error}") from error


def _through(s3: S3Options) -> str:
    how = {"endpoint": s3.endpoint_url, "profile": s3.profile}
    said = ", ".join(f"{name} {value}" for name, value in how.items() if value)
    return f" ({said})" if said else ""


def join(root: str, *parts: str) -> str:
    """`root/part/part`; only slashes at the joints are touched, so spaces and case survive."""
    return "/".join([root.rstrip("/"), *(part.strip("/") for part in parts)])


def absolute(uri: str) -> str:
    """`uri` without a trailing slash; a local path absolute and without `file://` before it."""
    for scheme in ("file://", "local://"):
        uri = uri.removeprefix(scheme)
    if "://" in uri:
        return uri.rstrip("/")
    return os.path.abspath(os.path.expanduser(uri))
