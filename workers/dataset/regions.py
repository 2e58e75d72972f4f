"""In which region a bucket is, found without the right to ask for it."""

import fnmatch
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cachetools import TTLCache

from takestream.errors import StorageError
from takestream.storage import S3Options, open_filesystem, translated

HEADER = "x-amz-bucket-region"

_known: dict[tuple[str, S3Options], str | None] = {}
# Buckets that did not answer; asked again after so many seconds.
_silent: TTLCache[tuple[str, S3Options], None] = TTLCache(1000, 60.0)
_lock = threading.Lock()


def bucket_of(uri: str) -> str | None:
    """The bucket of an object on S3; None for any other URI."""
    scheme, there, rest = uri.partition("://")
    return rest.partition("/")[0] if there and scheme in ("s3", "s3a") else None


def region_of(bucket: str, s3: S3Options) -> str | None:
    """The region of a bucket, by one HEAD for each process; None where the answer does not tell.

    A bucket that does not answer, or not for now (5xx), is asked again later.

    The header is there on a refusal (403) and on a redirection (301) too, and needs no more than
    that the bucket exists: keys may not be allowed to ask for its location.
    """
    with _lock:
        if (bucket, s3) in _known:
            return _known[bucket, s3]
        if (bucket, s3) in _silent:
            return None
    answered, region = _asked(bucket, s3)
    with _lock:
        if not answered:
            _silent[bucket, s3] = None
            return None
        return _known.setdefault((bucket, s3), region)


def _asked(bucket: str, s3: S3Options) -> tuple[bool, str | None]:
    """Whether a bucket answered, and its region if the answer tells it."""
    uri = f"s3://{bucket}"
    try:
        with translated(uri, "read", s3):
            fs, _ = open_filesystem(uri, s3, tries=1)
            answer: Any = fs.call_s3("head_bucket", Bucket=bucket)
    except StorageError as error:
        # Whoever reads an object of the bucket is told what is the matter with it.
        cause = error.__cause__
        answer = getattr(getattr(cause, "__cause__", None) or cause, "response", None) or {}
    said = answer.get("ResponseMetadata", {})
    found = said.get("HTTPHeaders", {}).get(HEADER)
    if found:
        return True, str(found)
    return 0 < int(said.get("HTTPStatusCode") or 0) < 500, None


class Reach:
    """How to reach each bucket of a data set.

    Args:
        root: the data set's URI.
        s3: for the root, and for every bucket that no pattern meets.
        buckets: by shell patterns of buckets' names, other options; the first that meets counts.
    """

    def __init__(self, root: str, s3: S3Options, buckets: Mapping[str, S3Options]) -> None:
        self._root, self._s3, self._buckets = bucket_of(root), s3, dict(buckets)

    def __call__(self, uri: str) -> S3Options:
        """The options for an object.

        The region of a bucket that is not the root's is looked up, unless the options name one:
        a release's buckets lie in several.
        """
        bucket = bucket_of(uri)
        if bucket is None:
            return self._s3
        met = [s3 for name, s3 in self._buckets.items() if fnmatch.fnmatchcase(bucket, name)]
        s3 = met[0] if met else self._s3
        if s3.region or bucket == self._root:
            return s3
        region = region_of(bucket, s3)
        return replace(s3, region=region) if region else s3
