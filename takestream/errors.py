"""Every error that takestream raises on purpose, and the table of what each kind of it means.

`except TakestreamError` catches all of them. An error's `kind` says what is the matter; exit codes,
HTTP statuses, the kinds in reports and whether a job goes on are columns of one table, `ErrorKind`.
"""

import errno
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from takestream.client.jobs import Job

_FULL = (errno.ENOSPC, errno.EDQUOT)


class ErrorKind(StrEnum):
    """What is the matter, as the word that reports, metrics and problem answers carry.

    Attributes:
        exit_code: Of a command that ends with it: 2 where the command, its settings or its rights
            have to change first, 1 where the same command may succeed later.
        status: HTTP status of the answer.
        retry_after: Seconds after which asking again makes sense, None where it does not.
        fatal: Whether a job stops at once, because every other unit would fail the same way.
    """

    exit_code: int
    status: int
    retry_after: int | None
    fatal: bool

    def __new__(
        cls,
        word: str,
        exit_code: int,
        status: int,
        retry_after: int | None = None,
        fatal: bool = False,
    ) -> "ErrorKind":
        """One row of the table."""
        row = str.__new__(cls, word)
        row._value_ = word
        row.exit_code, row.status, row.retry_after = exit_code, status, retry_after
        row.fatal = fatal
        return row

    # Faults of the request.
    INVALID = "invalid", 2, 422  # a setting, a flag, a URI or a request that makes no sense
    NOT_FOUND = "not_found", 2, 404  # no take, encoder, stream or job of that name
    FORBIDDEN = "forbidden", 2, 403  # the service does not allow it
    TOO_LARGE = "too_large", 2, 413  # more than one request may have
    CONFLICT = "conflict", 2, 409  # a job that another process owns
    BUSY = "busy", 1, 503, 10  # too much is under way
    DATASET = "dataset", 2, 503, 10  # takes.json or the selection cannot be used
    MODEL = "model", 2, 503, 60, True  # an encoder that does not load or cannot do this
    PACKAGE = "package", 1, 503, 60, True  # a Python package is not installed
    # The storage.
    CREDENTIALS = "credentials", 2, 503, 60, True  # missing, wrong or expired
    DENIED = "denied", 2, 503, 60  # this object or folder may not be read
    UNWRITABLE = "unwritable", 2, 503, 60, True  # the output may not be written
    ABSENT = "absent", 2, 503, 10  # no such object, folder, store or bucket
    FULL = "full", 1, 503, 60, True  # no space is left
    UNAVAILABLE = "unavailable", 1, 503, 10  # no answer, or not the right one, after all tries
    OUTAGE = "outage", 1, 503, 60, True  # a whole storage does not answer
    CHANGED = "changed", 1, 503, 10  # an object is another one than was probed
    STORAGE = "storage", 1, 503, 10  # anything else about storage
    STORE = "store", 1, 503, 10  # a store is damaged, or cannot do what is asked of it
    MISMATCH = "mismatch", 2, 503, 10  # a store of another grid, dimension, dtype or schema
    # The work.
    UNREADABLE = "unreadable", 1, 422  # the videos
    INCOMPLETE = "incomplete", 1, 503, 10  # not all of a take, or of a job, was extracted
    BUDGET = "budget", 1, 503, None, True  # a job has cost, or taken, as much as it may
    CRASH = "crash", 1, 500  # it took its worker down
    ENGINE = "engine", 2, 503, 5, True  # Ray or its workers cannot be started or reached
    FAULT = "fault", 1, 500  # a fault of takestream


class TakestreamError(Exception):
    """Any of the errors below; the text is the service's own where it gave one.

    Attributes:
        kind: What is the matter; each class has its own, which an instance may override.
        status: The HTTP status, None when no answer came.
        request_id: What to look for in the service's log.
        errors: One line for each value that is wrong, if the service listed them.
    """

    kind: ErrorKind = ErrorKind.FAULT

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind | None = None,
        status: int | None = None,
        request_id: str | None = None,
        errors: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind
        self.status, self.request_id, self.errors = status, request_id, errors


def kind_of(error: BaseException) -> ErrorKind:
    """What any error means: `FAULT` unless it is one of ours, a full disk or a missing package."""
    if isinstance(error, TakestreamError):
        return error.kind
    if isinstance(error, ModuleNotFoundError):
        return ErrorKind.PACKAGE
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return ErrorKind.FULL
        cause = cause.__cause__
    return ErrorKind.FAULT


class StorageError(TakestreamError):
    """Something about storage. The message names the URI, and says what to do next.

    Attributes:
        uri: What was read or written, empty where the error is not about one place.
    """

    kind = ErrorKind.STORAGE
    uri = ""


class StorageUnavailable(StorageError, ConnectionError):
    """The storage did not answer, or not with the right answer: worth another try later.

    Attributes:
        retry_after: Seconds that the storage asked to wait, 0 where it did not.
    """

    retry_after = 0.0
    kind = ErrorKind.UNAVAILABLE


class StorageDenied(StorageError, PermissionError):
    """The storage refuses: an object that may not be read, an output that may not be written."""

    kind = ErrorKind.DENIED


class CredentialsError(StorageDenied):
    """The keys are missing, wrong or expired: no other request will go through either."""

    kind = ErrorKind.CREDENTIALS


class StorageNotFound(StorageError, FileNotFoundError):
    """There is no such object, folder or bucket."""

    kind = ErrorKind.ABSENT


class StorageFull(StorageError, OSError):
    """No space is left where something was to be written."""

    kind = ErrorKind.FULL


class InvalidStorage(StorageError, ValueError):
    """A URI, an endpoint or a bucket's name that cannot be one."""

    kind = ErrorKind.INVALID


class Unauthorised(TakestreamError):
    """401: the key is missing or not known."""

    kind = ErrorKind.CREDENTIALS


class Forbidden(TakestreamError):
    """403: the key may not do this."""

    kind = ErrorKind.FORBIDDEN


class NotFound(TakestreamError):
    """404: no such take, encoder, stream or job; the text names the nearest."""

    kind = ErrorKind.NOT_FOUND


class InvalidRequest(TakestreamError):
    """400, 422 and other 4xx: the service understood, and what was asked makes no sense."""

    kind = ErrorKind.INVALID


class TooLarge(InvalidRequest):
    """413: more clips or a larger body than one request may have. Ask for less at a time."""

    kind = ErrorKind.TOO_LARGE


class _TryAgain(TakestreamError):
    """retry_after: seconds that the service asks to wait, None if it did not say."""

    kind = ErrorKind.UNAVAILABLE

    def __init__(self, message: str, *, retry_after: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after = retry_after


class TooManyRequests(_TryAgain):
    """429, still after a while: this key has too many requests under way."""


class Unavailable(_TryAgain):
    """502, 503 or 504, still after some tries: queue full, not ready, or storage away.

    Also a 404 that is not the service's own: what stands before it while it starts, or a wrong URL.
    """


class ServiceFault(TakestreamError):
    """Any other 5xx: a fault of the service."""


class ConnectionFailed(TakestreamError):
    """The service could not be reached, or did not answer in time."""

    kind = ErrorKind.UNAVAILABLE


class UnexpectedAnswer(TakestreamError):
    """What answered does not speak this interface: a wrong URL, a proxy, another version."""

    kind = ErrorKind.UNAVAILABLE


class TornAnswer(UnexpectedAnswer):
    """The answer broke off, or is not whole."""


class _OfJob(TakestreamError):
    def __init__(self, message: str, job: "Job", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled, so that it gets out of the process of a DataLoader or a pool.
        return type(self), (str(self), self.job), self.__dict__


class StillComputing(_OfJob):
    """The features are not there yet; a job computes them (`features(..., wait=False)`).

    job: ask again when `job.wait()` has returned.
    """

    kind = ErrorKind.UNAVAILABLE


class JobFailed(_OfJob):
    """A job that was waited for failed or was stopped; `job.failures` says where."""

    kind = ErrorKind.INCOMPLETE


class JobTimeout(TakestreamError, TimeoutError):
    """`job.wait(timeout)` gave up; the job goes on."""

    kind = ErrorKind.UNAVAILABLE
