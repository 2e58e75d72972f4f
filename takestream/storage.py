"""Any fsspec URI, with S3 credentials the AWS way, and what its errors mean."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

import fsspec
from fsspec import AbstractFileSystem

from takestream.errors import (
    CredentialsError,
    ErrorKind,
    InvalidStorage,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageNotFound,
    StorageUnavailable,
    TakestreamError,
)
from takestream.masking import refuse_secrets
from takestream.s3answers import is_elsewhere, retry_after, s3_answer
from takestream.web import is_web, web_kind, web_options

# Of the client, for one request of a reader of the wheel.
S3_TRIES = 3
# Seconds until a connection is given up, and until one that brings nothing is.
CONNECT_SECONDS, SILENT_SECONDS = 5, 10
# Of a writer: the answer to an upload may take until all of it has gone out.
UPLOAD_SECONDS = 20
PATIENCE, MAX_PATIENCE = 60.0, 3600.0

WRITING = ("write to", "delete from")
"""What `translated` may be doing that changes the storage."""

# Error codes with which S3 says that the keys, not the object, are the matter; some services send
# only the words.
_KEY_CODES = frozenset({
    "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired",
    "RequestExpired", "RequestTimeTooSkewed", "InvalidAccessKeyId", "InvalidClientTokenId",
    "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp",
    "MissingSecurityHeader", "MissingSecurityElement", "AuthorizationHeaderMalformed",
    "AuthFailure", "AccountProblem",
})  # fmt: skip
_KEY_WORDS = (
    "AccessKeyId you provided does not exist", "token has expired", "token must be refreshed",
    "token included in the request is", "token is malformed", "signature we calculated does not",
)  # fmt: skip
_INVALID_CODES = frozenset({"InvalidBucketName", "InvalidURI", "KeyTooLongError"})
_INVALID_NAMES = ("ParamValidationError", "InvalidRegionError", "UnknownEndpointError")
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of a path that can be none: a file stands where a folder is needed, a name is too long, links
# lead to each other.
_NO_PLACES = (errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
# Mistakes in a program, never an answer of a storage.
_NO_STORAGES = (
    ValueError, TypeError, LookupError, AttributeError, NameError, ImportError, AssertionError,
    ArithmeticError, MemoryError, NotImplementedError, RecursionError, Warning,
)  # fmt: skip


@dataclass(frozen=True)
class S3Options:
    """How to reach an S3 endpoint; other protocols ignore it.

    Also the `s3` of a job file, where unknown settings are refused.

    Attributes:
        profile: A profile of `~/.aws/credentials`; without one the usual AWS chain decides
            (environment, shared files, instance role).
        endpoint_url: An S3-compatible endpoint, for example `http://127.0.0.1:8333`.
        patience: Seconds for which one object of a storage that does not answer is tried.
        region: The region of the bucket; without one the usual AWS chain decides.
        anon: Whether to ask without keys, of a bucket that anybody may read.
        requester_pays: Whether the bucket has those pay who read it; then it is you.
        sse: How what is written is encrypted there: `AES256` or `aws:kms`; without it as the bucket
            has it.
        kms_key: Id or ARN of the key for `aws:kms`; without it the account's own.
        acl: Canned ACL of what is written, for example `bucket-owner-full-control`.

    Raises:
        InvalidStorage: The endpoint is no URL, or holds a password; the patience is negative;
            settings that exclude each other, or that S3 does not know.
    """

    # Read by pydantic, which this module does not need.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    profile: str | None = None
    endpoint_url: str | None = None
    patience: float = PATIENCE
    region: str | None = None
    anon: bool = False
    requester_pays: bool = False
    sse: str | None = None
    kms_key: str | None = None
    acl: str | None = None

    def __post_init__(self) -> None:
        if self.sse not in (None, "AES256", "aws:kms", "aws:kms:dsse"):
            raise InvalidStorage(f"sse is AES256 or aws:kms, not {self.sse!r}")
        if self.kms_key and not (self.sse or "").startswith("aws:kms"):
            raise InvalidStorage("kms_key needs sse: aws:kms")
        if self.anon and (self.requester_pays or self.profile):
            raise InvalidStorage("anon asks without keys, so it has no profile and nobody to pay")
        if not 0 <= self.patience <= MAX_PATIENCE:
            raise InvalidStorage(f"patience is 0 to {MAX_PATIENCE:g} seconds, not {self.patience}")
        if not self.endpoint_url:
            return
        try:
            parts = urlsplit(self.endpoint_url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            parts.port  # noqa: B018 - raises for what is no number
        except ValueError:
            usable = False
        if not usable:
            raise InvalidStorage("the endpoint is no URL such as http://127.0.0.1:8333")
        if parts.username or parts.password:
            raise InvalidStorage("the endpoint's URL holds a user or password: use a profile")

    def for_uri(
        self, uri: str, *, tries: int | None = None, silent: float = SILENT_SECONDS
    ) -> dict[str, Any]:
        """The keyword arguments with which fsspec opens `uri`.

        Args:
            uri: What is opened.
            tries: Of the client for one request; 1 where `takestream.retry` tries again.
            silent: Seconds until a connection that brings nothing is given up.
        """
        if is_web(uri):
            return web_options(silent)
        if not uri.startswith(("s3://", "s3a://")):
            return {}
        from takestream.unredirected import unredirected  # slow to import

        # A cached listing would hide that an object changed. Waits are short, because whoever reads
        # tries again: an endpoint that does not answer must not look like a slow one for minutes.
        options: dict[str, Any] = {
            "use_listings_cache": False,
            "config_kwargs": {
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": silent,
                "retries": {"mode": "standard", "max_attempts": tries or S3_TRIES},
                **unredirected(),
            },
        }
        if self.anon:
            options["anon"] = True
        if self.requester_pays:
            options["requester_pays"] = True
        written = {"ServerSideEncryption": self.sse, "SSEKMSKeyId": self.kms_key, "ACL": self.acl}
        if any(written.values()):
            options["s3_additional_kwargs"] = {k: v for k, v in written.items() if v}
        if self.profile:
            options["profile"] = self.profile
        if self.endpoint_url:
            options["endpoint_url"] = self.endpoint_url
        if self.region:
            options["client_kwargs"] = {"region_name": self.region}
        return options


def open_filesystem(
    uri: str,
    s3: S3Options | None = None,
    *,
    tries: int | None = None,
    silent: float = SILENT_SECONDS,
    **options: Any,
) -> tuple[AbstractFileSystem, str]:
    """The filesystem of `uri` and the path in it.

    Args:
        uri: What is opened.
        s3: How to reach it.
        tries: As for `S3Options.for_uri`.
        silent: As for `S3Options.for_uri`.
        options: Further ones of the filesystem on S3.

    Raises:
        StorageError: An unknown protocol, or one whose package is missing (`InvalidStorage`), or
            what `translated` makes of the filesystem's own errors.
    """
    refuse_secrets(uri)
    with translated(uri, "open", s3):
        try:
            found = (s3 or S3Options()).for_uri(uri, tries=tries, silent=silent)
            # Only jobs and services pass `tries`, and they may run for longer than keys last.
            if "config_kwargs" in found:
                if tries is not None and not found.get("anon"):
                    found |= _renewing(found.get("profile"))
                found |= options
            fs, path = fsspec.core.url_to_fs(uri, **found)
        except (ValueError, ImportError) as error:
            raise InvalidStorage(f"cannot open {uri}: {error}") from error
    if uri.startswith(("s3://", "s3a://")):
        # s3fs's own tries come on top of its client's; one layer of them is enough.
        fs.retries = 1
    return fs, str(path)


def _renewing(profile: str | None) -> dict[str, Any]:
    from takestream.renewed import renewing_session  # slow to import

    session = renewing_session(profile)
    return {} if session is None else {"session": session}


def as_uri(given: str | os.PathLike[str]) -> str:
    """What a person gave, as a URI: `~` and `s3a://` resolved, without a slash at its end.

    A local path is made absolute, because the process may go to another folder before it reads on.

    Raises ValueError when nothing was given.
    """
    uri = os.fspath(given)
    if not uri.strip():
        raise ValueError("which folder? Give its path or URI, such as s3://bucket/features")
    if uri.startswith("s3a://"):
        uri = f"s3://{uri.removeprefix('s3a://')}"
    return absolute(uri) or uri


@contextmanager
def translated(uri: str, doing: str = "read", s3: "S3Options | None" = None) -> Iterator[None]:
    """Turn what filesystems and S3 clients raise into a StorageError that names `uri`.

    Args:
        uri: What is read or written.
        doing: Completes "cannot … <uri>": "read", "list", "open", "write to", "delete from".
        s3: How it is reached, for the message.

    Raises:
        StorageError: Of the class that `storage_error` chooses. Errors of takestream, and those
            that are no storage's, pass unchanged.
    """
    try:
        yield
    except TakestreamError:
        raise
    except Exception as error:
        found = storage_error(error, uri, doing, s3)
        if found is None:
            raise
        raise found from error


def storage_error(
    error: Exception, uri: str, doing: str = "read", s3: "S3Options | None" = None
) -> StorageError | None:
    """What an error of a filesystem or of an S3 client means, wherever it was raised.

    Args:
        error: As fsspec, s3fs, botocore or the operating system raised it.
        uri: What was read or written.
        doing: As for `translated`.
        s3: How it was reached, for the message.

    Returns:
        The error to raise instead, None when this is no matter of the storage.
    """
    found = _told(error, uri, doing, s3)
    if found is not None:
        found.uri = uri
    return found


def _told(error: Exception, uri: str, doing: str, s3: "S3Options | None") -> StorageError | None:
    remote = "://" in uri and not uri.startswith(("file://", "local://"))
    said = _said(error)
    what = f"cannot {doing} {uri}{_through(s3) if remote else ''}: "
    if uri.startswith("s3") and is_elsewhere(error):
        words = "the bucket is in another region; name that as `region` of `s3` or `buckets`"
        kind = ErrorKind.UNWRITABLE if doing in WRITING else ErrorKind.DENIED
        return StorageDenied(f"{what}{words} ({said})", kind=kind)
    match _kind(error):
        case None:
            return None
        case ErrorKind.CREDENTIALS:
            if _is_botocores(error):
                words = (
                    f"there are no usable credentials ({said}); set a profile or AWS keys;"
                    " a bucket that anybody may read needs none: anon=True, --anon"
                )
            else:
                words = (
                    f"the storage does not accept the credentials ({said}). Ego-Exo4D keys live 14 "
                    "days: renew them, then run the same command again"
                )
            return CredentialsError(what + words)
        case ErrorKind.DENIED if doing in WRITING:
            return StorageDenied(f"{what}no permission ({said})", kind=ErrorKind.UNWRITABLE)
        case ErrorKind.DENIED:
            absent = "; S3 also answers so for what is absent, to keys that may not list"
            return StorageDenied(
                f"{what}access denied ({said}{absent if uri.startswith('s3') else ''})"
            )
        case ErrorKind.ABSENT:
            hint = "; does the bucket exist, and is the endpoint right?" if remote else ""
            return StorageNotFound(f"{what}not found ({said}){hint if doing in WRITING else ''}")
        case ErrorKind.FULL:
            return StorageFull(f"{what}no space is left there; free some, or choose another output")
        case ErrorKind.INVALID:
            return InvalidStorage(what + said)
    unavailable = StorageUnavailable(f"{what}the storage did not answer ({said})")
    unavailable.retry_after = retry_after(error)
    return unavailable


def _kind(error: BaseException) -> ErrorKind | None:
    # s3fs turns botocore's error into an OSError of some kind and keeps it as the cause.
    chain = [error] if error.__cause__ is None else [error, error.__cause__]
    if (kind := web_kind(chain)) is not None:
        return kind
    code, status = next((found for found in map(s3_answer, chain) if found), ("", 0))
    names = [type(one).__name__ for one in chain if _is_botocores(one)]
    refused = bool(code) or any(isinstance(one, PermissionError) for one in chain)
    if (
        code in _KEY_CODES
        or status == 401
        or any(word in name for name in names for word in ("Credential", "Token", "Profile"))
        or (refused and any(words in f"{chain}" for words in _KEY_WORDS))
    ):
        return ErrorKind.CREDENTIALS
    if code in _INVALID_CODES or any(name in _INVALID_NAMES for name in names):
        return ErrorKind.INVALID
    if not code and getattr(error, "errno", None) in _NO_PLACES:
        return ErrorKind.INVALID
    if isinstance(error, _NO_STORAGES):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or status == 507:
        return ErrorKind.FULL
    if isinstance(error, PermissionError) or number == errno.EROFS or status in (403, 405):
        return ErrorKind.DENIED
    if status == 404 or isinstance(
        error, FileNotFoundError | NotADirectoryError | IsADirectoryError
    ):
        return ErrorKind.ABSENT
    return ErrorKind.UNAVAILABLE


def storage_of(uri: str) -> str:
    """The storage that `uri` lies on, for messages: a bucket, a host, or the local disk."""
    scheme, there, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if there else "the local disk"


def _is_botocores(error: BaseException) -> bool:
    """Whether this is botocore's own trouble, before any answer came."""
    modules = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return bool(modules & {"botocore", "aiobotocore"}) and s3_answer(error) is None


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    answer = s3_answer(error.__cause__) if error.__cause__ else None
    if answer and answer[0] and not answer[0].isdigit() and answer[0] not in text:
        text = f"{answer[0]}: {text}"
    return text if len(text) <= 200 else text[:197] + "..."


def _through(s3: "S3Options | None") -> str:
    how = {"endpoint": s3.endpoint_url, "profile": s3.profile} if s3 else {}
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
