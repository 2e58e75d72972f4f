"""`/v1/jobs`: launch extraction jobs, watch them, stop them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from configs.schema import EncoderChoice, GridChoice, Selection
from configs.store import StoreSpec
from configs.timing import SyncSpec, TimelineSpec
from service.api.answers import JobsPage
from service.api.context import Context, JobFollower, JobReader, Submitter
from service.api.fields import LongText, ShortName, check_texts
from service.api.paging import next_page
from service.api.problems import Problem, headers, responses
from service.errors import Unknown
from service.features.encoding import dumped
from service.jobs.listing import JobQuery
from service.jobs.policy import BY_SERVICE, checked_job
from service.jobs.records import JobRecord, is_job_id, is_short_id, whole_id
from service.report.run import evaluations_of, find_report, html_of
from takestream.protocol import (
    END_EVENT,
    EVENTS,
    JOBS_PER_PAGE,
    JSON,
    NAME_LENGTH,
    NAMES,
    PROGRESS_EVENT,
    TEXT,
    JobState,
    JobStatus,
)
from takestream.storage import absolute
from workers.dataset.selection import select
from workers.dataset.take import DatasetError

router = APIRouter(tags=["jobs"])
# Entries of one list in a job, duplicates not counted. Records are read and listed whole.
LIST_LENGTH = 500
# The page of a report has neither scripts nor anything from elsewhere.
CSP, ONLY_ITSELF = "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"
JobId = Annotated[
    str,
    Path(
        max_length=NAME_LENGTH,
        description="A job's id, its beginning, or the beginning of its last part",
        examples=["20261124-054233-a1b2c3", "a1b2c3"],
    ),
]


async def _known(job_id: JobId, context: Context) -> JobRecord:
    """The job of the path. Raises Unknown."""
    record = await context.engine.job(job_id)
    if record is None and is_short_id(job_id):
        newest = (await context.engine.job_list(JobQuery(JOBS_PER_PAGE))).jobs
        record = await context.engine.job(whole_id(job_id, [one.job_id for one in newest]))
    if record is None:
        raise _no_job(job_id)
    return record


KnownJob = Annotated[JobRecord, Depends(_known)]


Encoder = LongText | EncoderChoice
Encoders = Annotated[list[Encoder], Field(min_length=1, max_length=NAMES)]


class JobBody(BaseModel):
    """A job spec, as a job file holds it; data set and output are the service's unless said."""

    model_config = ConfigDict(extra="forbid")

    dataset: LongText | None = None
    output: LongText | None = None
    encoder: Encoder | Encoders | None = Field(None, description="a preset, or several")
    encoders: Encoders | None = Field(None, description="as `encoder`, where it is a list")
    grid: GridChoice | None = None
    segments: LongText | None = Field(None, description="of the data set: a file of segments")
    timeline: Literal["frames", "pts"] | TimelineSpec | None = None
    sync: Literal["measure", "apply"] | SyncSpec | None = None
    select: Selection | None = None
    rotate: Annotated[dict[LongText, Literal[0, 90, 180, 270]] | None, Field(max_length=NAMES)] = (
        None
    )
    store: StoreSpec | None = None
    strict: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _its_own(cls, value: Any) -> Any:
        """Say of a setting that it is not the sender's, rather than that there is none."""
        if not isinstance(value, dict):
            return value
        for name in BY_SERVICE:
            if name in value:
                inner = value[name]
                more = f".{min(inner)}"[:NAME_LENGTH] if isinstance(inner, dict) and inner else ""
                raise ValueError(f"'{name}{more}' is set by the service; leave it out")
        if "encoder" in value and "encoders" in value:
            raise ValueError("give encoder or encoders, not both")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        """Fold duplicates in lists, and refuse long ones and texts that none may hold."""
        check_texts(value)
        if not isinstance(value, dict):
            return value
        return {name: _folded(name, item) for name, item in value.items()}


def _folded(name: str, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    if all(isinstance(entry, str) for entry in value):
        value = list(dict.fromkeys(value))
    if len(value) > LIST_LENGTH:
        raise ValueError(
            f"{name}: {len(value)} entries, {LIST_LENGTH} are allowed: use patterns or filters, or "
            "several jobs"
        )
    return value


class JobsQuery(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=JOBS_PER_PAGE, description="jobs on a page")] = 50
    cursor: ShortName | None = Field(None, description="`next` of the page before")
    status: Annotated[list[JobStatus], Field(max_length=6)] = Field(
        default_factory=list, description="only jobs that stand so; may be given several times"
    )
    encoder: ShortName | None = Field(None, description="a preset, or a whole encoder_id")
    by: ShortName | None = Field(None, description="the name of the key that submitted it")


@router.post(
    "/v1/jobs",
    summary="Launch a job",
    status_code=201,
    response_model=JobState,
    responses={201: {"description": "Queued", "headers": headers("Location")}, **responses(413)},
)
async def submit(body: JobBody, context: Context, caller: Submitter) -> JSONResponse:
    """Launch a job; it is checked by the same model as the command line's."""
    given = body.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    job = checked_job(given, context.spec, context.catalogue.presets)
    # A misspelt take or task is told at once, not by a job that fails.
    takes = await asyncio.to_thread(context.catalogue.takes)
    try:
        select(takes, job.select)
    except DatasetError as error:
        raise Problem(404, str(error)) from None
    record = await context.engine.submit(job, caller.name or None)
    sent = {
        "Location": f"{context.spec.root_path}/v1/jobs/{record.job_id}",
        "Cache-Control": "no-store",
    }
    return JSONResponse(facts(record), 201, sent)


@router.head("/v1/jobs", include_in_schema=False)
@router.get(
    "/v1/jobs",
    summary="List jobs",
    response_model=JobsPage,
    responses={
        200: {"description": "A page of the list", "headers": headers("Link")},
        **responses(),
    },
)
async def jobs(
    query: Annotated[JobsQuery, Query()], context: Context, caller: JobReader
) -> JSONResponse:
    """The newest jobs, those of services before this one too.

    A page may have fewer jobs than `limit` while there is a next one: where filters leave few, a
    page ends when some thousand jobs have been looked at.
    """
    if query.cursor is not None and not is_job_id(query.cursor):
        raise Problem(422, f"cursor: '{query.cursor}' is none that a list of jobs gave as `next`")
    found = await context.engine.job_list(
        JobQuery(query.limit, query.cursor, tuple(query.status), query.encoder, query.by)
    )
    link = next_page(context, "/v1/jobs", query, cursor=found.cursor) if found.cursor else {}
    # As its record has it, whatever wrote that: no validation that would refuse to show it.
    answer = {"jobs": [facts(record) for record in found.jobs], "next": found.cursor}
    return JSONResponse(answer, headers=link)


@router.head("/v1/jobs/{job_id}", include_in_schema=False)
@router.get(
    "/v1/jobs/{job_id}", summary="Get a job", response_model=JobState, responses=responses()
)
async def job(caller: JobReader, known: KnownJob) -> JSONResponse:
    """One job."""
    return JSONResponse(facts(known))


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Stop a job",
    status_code=202,
    response_model=JobState,
    responses={202: {"description": "Stops"}, **responses(409)},
)
async def stop(caller: Submitter, known: KnownJob, context: Context) -> JSONResponse:
    """Stop a job at its next batch; what it wrote is kept, and the same job again goes on."""
    record = await context.engine.job_stop(known.job_id)
    if record is None:
        raise _no_job(known.job_id)
    return JSONResponse(facts(record), 202, {"Cache-Control": "no-store"})


@router.get(
    "/v1/jobs/{job_id}/logs",
    summary="Get a job's log",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "Lines", "content": {TEXT: {"schema": {"type": "string"}}}},
        **responses(),
    },
)
async def logs(caller: JobReader, known: KnownJob, context: Context) -> Response:
    """The job's log: takes that are complete, failures, its end."""
    return PlainTextResponse(await context.engine.job_log(known.job_id))


@router.get(
    "/v1/jobs/{job_id}/report",
    summary="Get a job's report",
    response_class=HTMLResponse,
    responses={
        200: {
            "description": "A page, or the facts as JSON",
            "content": {JSON: {"schema": {"type": "object"}}},
        },
        **responses(),
    },
)
async def report(
    caller: JobReader,
    known: KnownJob,
    context: Context,
    form: Annotated[Literal["html", "json"], Query(alias="format")] = "html",
) -> Response:
    """How the job's run went: timeline, stages, slowest units, failures, cost."""
    output = absolute(str(known.spec.get("output", "")))
    if known.report is None or not known.report.startswith(f"{output}/"):
        raise Unknown(f"job '{known.job_id}' has no report yet: it is written when the job ends")
    s3 = context.spec.job.reach_output
    uri, found = await asyncio.to_thread(find_report, known.report, s3)
    if form == "json":
        return JSONResponse(found)
    page = await asyncio.to_thread(lambda: html_of(found, evaluations_of(uri, s3)))
    return HTMLResponse(page, headers={CSP: ONLY_ITSELF})


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Server-sent events, each with the whole job as its data",
            "content": {EVENTS: {"schema": {"type": "string"}}},
        },
        **responses(),
    },
)
async def events(
    caller: JobFollower, known: KnownJob, context: Context
) -> AsyncIterator[ServerSentEvent]:
    """`progress` events with the whole job, one for each change, then one `end`."""
    number, sent = 0, ""
    while True:
        news = False
        # A call of the engine follows a job for some seconds; one that brings nothing says that the
        # engine is shutting down, and a client that connects again finds the next one.
        async with aclosing(context.engine.job_events(known.job_id)) as records:
            async for record in records:
                news = True
                data = dumped(facts(record))
                if data != sent:
                    sent, number = data, number + 1
                    kind = END_EVENT if record.ended else PROGRESS_EVENT
                    yield ServerSentEvent(raw_data=data, event=kind, id=str(number))
                if record.ended:
                    return
        if not news:
            return


def facts(record: JobRecord) -> dict[str, Any]:
    """A job as JSON."""
    return record.facts()


def _no_job(job_id: str) -> Unknown:
    return Unknown(f"there is no job '{job_id}'; GET /v1/jobs lists them")
