"""The typed boundary of the engine: what the HTTP service may ask of it, and how it may refuse.

`EngineClient` is what the routes and `service.features` know; `ServeEngineClient` speaks to the
engine's Ray Serve deployment. Nothing of Ray passes this boundary.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypedDict, TypeVar

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from configs.schema import JobSpec
from service.engine.ondemand import Part
from service.engine.refusal import Refusal
from service.jobs.claim import NotOwner
from service.jobs.listing import JobList, JobQuery
from service.jobs.records import JobRecord
from takestream.errors import ErrorKind, TakestreamError
from workers.dataset.take import Take
from workers.run.recipe import Recipe
from workers.run.tasks import PreparedTake, Query
from workers.run.tracing import carried

T = TypeVar("T")


class EngineBusy(TakestreamError):
    """The engine refuses for now.

    Attributes:
        retry_after: Seconds after which the same call may be accepted.
    """

    kind = ErrorKind.BUSY

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class EngineUnavailable(TakestreamError):
    """The engine does not answer: it is not there, or not there again yet."""

    kind = ErrorKind.ENGINE


class EngineStatus(TypedDict):
    """Numbers for the metrics.

    Attributes:
        workers: Workers when all are alive.
        workers_alive: Workers that are alive now.
        queue: Urgent tasks that no worker has taken yet.
        jobs: Jobs that have not ended.
        counts: Work done so far, by name: bytes_read, frames_decoded, clips and others.
    """

    workers: int
    workers_alive: int
    queue: int
    jobs: int
    counts: dict[str, float]


class EngineClient(Protocol):
    """What the HTTP service asks of the engine.

    Every method raises EngineUnavailable, and what the engine itself raised: StorageError, for one.
    Closing a generator before its end cancels the call.
    """

    async def ready(self) -> dict[str, str]:
        """The checks that fail, with the reason; empty when the engine is ready."""
        ...

    async def status(self) -> EngineStatus:
        """Numbers for the metrics."""
        ...

    async def prepare(self, recipe: Recipe, take: Take, streams: Sequence[str]) -> PreparedTake:
        """Probe a take and make its store ready for `streams`. Raises EngineBusy."""
        ...

    def window(
        self, recipe: Recipe, take: Take, streams: Sequence[str], start: int, stop: int
    ) -> AsyncGenerator[Part, None]:
        """Clips `[start, stop)` of the streams part by part, then their records.

        Raises:
            EngineBusy: The queue is full, or the engine is shutting down.
        """
        ...

    async def query(self, recipe: Recipe, text: str | None, image: bytes | None) -> Query:
        """A text or an image as a vector in the joint space of the recipe's encoder."""
        ...

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord:
        """Queue a job. Raises EngineBusy."""
        ...

    async def job(self, job_id: str) -> JobRecord | None:
        """A job by its id."""
        ...

    async def job_list(self, query: JobQuery) -> JobList:
        """The jobs that are asked for, newest first."""
        ...

    async def job_stop(self, job_id: str) -> JobRecord | None:
        """Ask a job to stop; None when there is none.

        Raises:
            NotOwner: Another service or a cluster runs it.
        """
        ...

    async def job_log(self, job_id: str) -> str:
        """The end of the job's log."""
        ...

    def job_events(self, job_id: str) -> AsyncGenerator[JobRecord, None]:
        """The job now and after every change, for some seconds or until it has ended.

        A call that yields nothing says that the engine is shutting down.
        """
        ...


class ServeEngineClient:
    """`EngineClient` over the Ray Serve handle of `service.engine.engine.Engine`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def ready(self) -> dict[str, str]:
        with _without_ray():
            found: dict[str, str] = await self._handle.ready.remote()
        return found

    async def status(self) -> EngineStatus:
        with _without_ray():
            found: EngineStatus = await self._handle.status.remote()
        return found

    async def prepare(self, recipe: Recipe, take: Take, streams: Sequence[str]) -> PreparedTake:
        with _without_ray():
            found: PreparedTake | Refusal = await self._handle.prepare.remote(
                recipe, take, streams, carried()
            )
        return _accepted(found)

    async def window(
        self, recipe: Recipe, take: Take, streams: Sequence[str], start: int, stop: int
    ) -> AsyncGenerator[Part, None]:
        call = self._handle.window.options(stream=True)
        items: Any = call.remote(recipe, take, streams, start, stop, carried())
        ended = False
        try:
            with _without_ray():
                async for item in items:
                    yield _accepted(item)
            ended = True
        finally:
            if not ended:
                items.cancel()

    async def query(self, recipe: Recipe, text: str | None, image: bytes | None) -> Query:
        with _without_ray():
            found: Query = await self._handle.query.remote(recipe, text, image)
        return found

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord:
        with _without_ray():
            found: JobRecord | Refusal = await self._handle.submit.remote(job, by)
        return _accepted(found)

    async def job(self, job_id: str) -> JobRecord | None:
        with _without_ray():
            found: JobRecord | None = await self._handle.job.remote(job_id)
        return found

    async def job_list(self, query: JobQuery) -> JobList:
        with _without_ray():
            found: JobList = await self._handle.job_list.remote(query)
        return found

    async def job_stop(self, job_id: str) -> JobRecord | None:
        with _without_ray():
            found: JobRecord | Refusal | None = await self._handle.job_stop.remote(job_id)
        return _accepted(found)

    async def job_log(self, job_id: str) -> str:
        with _without_ray():
            found: str = await self._handle.job_log.remote(job_id)
        return found

    async def job_events(self, job_id: str) -> AsyncGenerator[JobRecord, None]:
        records: Any = self._handle.job_events.options(stream=True).remote(job_id)
        try:
            with _without_ray():
                async for record in records:
                    yield record
        finally:
            records.cancel()


def _accepted(found: T | Refusal) -> T:
    """`found`. Raises what a Refusal stands for."""
    if not isinstance(found, Refusal):
        return found
    if found.retry_after is None:
        raise NotOwner(found.detail)
    raise EngineBusy(found.detail, found.retry_after)


@contextmanager
def _without_ray() -> Iterator[None]:
    """Raise what the engine raised, without Ray's account of it: tracebacks, process ids, paths.

    Raises:
        EngineUnavailable: No engine answered.
    """
    try:
        yield
    except RayTaskError as error:
        cause: BaseException = error
        while isinstance(cause, RayTaskError) and isinstance(cause.cause, Exception):
            cause = cause.cause
        raise cause from None
    except (RayError, RayServeException, ConnectionError) as error:
        raise EngineUnavailable(
            "the engine does not answer: its workers are starting again; try again in a moment"
        ) from error
