"""What goes wrong between a training script and the service, one class for each thing to do."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from takestream.client.jobs import Job


class TakestreamError(Exception):
    """Any of the errors below; the text is the service's own where it gave one.

    status: the HTTP status, None when no answer came. request_id: what to look for in the
    service's log. errors: one line for each value that is wrong, if the service listed them.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        errors: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.request_id, self.errors = status, request_id, errors


class Unauthorised(TakestreamError):
    """401: the key is missing or not known."""


class Forbidden(TakestreamError):
    """403: the key may not do this."""


class NotFound(TakestreamError):
    """404: no such take, encoder, stream or job; the text names the nearest."""


class InvalidRequest(TakestreamError):
    """400, 422 and other 4xx: the service understood, and what was asked makes no sense."""


class TooLarge(InvalidRequest):
    """413: more clips or a larger body than one request may have. Ask for less at a time."""


class _TryAgain(TakestreamError):
    """retry_after: seconds that the service asks to wait, None if it did not say."""

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


class UnexpectedAnswer(TakestreamError):
    """What answered does not speak this interface: a wrong URL, a proxy, another version."""


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


class JobFailed(_OfJob):
    """A job that was waited for failed or was stopped; `job.failures` says where."""


class JobTimeout(TakestreamError, TimeoutError):
    """`job.wait(timeout)` gave up; the job goes on."""
