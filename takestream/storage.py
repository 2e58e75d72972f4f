"""Any fsspec URI, with S3 credentials the AWS way."""

import os
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec import AbstractFileSystem


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
                "retries": {"mode": "standard", "max_attempts": 3},
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
