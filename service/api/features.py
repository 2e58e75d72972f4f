"""`/v1/takes/{take}/features` and `/v1/features`: synchronised features, stored or computed."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from service.api.answers import FeatureArrays, SegmentArrays, StartedJob
from service.api.context import ApiContext, Context, Reader
from service.api.fields import Names, Seconds, ShortName, TakeName, split_names
from service.api.keys import Key
from service.api.negotiation import accepted, matches
from service.api.problems import Problem, headers, responses
from service.api.streaming import arrow, chained, ndjson
from service.features import segments
from service.features.compute import ComputeFailed
from service.features.request import FeaturePlan
from takestream.errors import ErrorKind
from takestream.protocol import (
    ARROW,
    CACHE_STATUS_HEADER,
    CLIPS_HEADER,
    ENCODER_ID_HEADER,
    JSON,
    NDJSON,
    NPZ,
    RETRY_AFTER_HEADER,
    ClipCounts,
)

router = APIRouter(tags=["features"])
KINDS = (JSON, NPZ, ARROW, NDJSON)
# For OpenAPI.
_BYTES, _LINES = {"schema": {"type": "string", "format": "binary"}}, {"schema": {"type": "string"}}
_TOO_MUCH: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "Too much to compute at once: a job does it",
        "headers": headers("Location", RETRY_AFTER_HEADER),
        "model": StartedJob,
    }
}


class FeaturesQuery(BaseModel):
    """Which features of a take."""

    model_config = ConfigDict(extra="forbid")

    encoder: ShortName | None = Field(None, description="a preset, or a whole encoder_id")
    streams: Names = Field(default_factory=list, description="names or patterns, comma-separated")
    start: Seconds | None = Field(None, description="seconds on the take's clock")
    end: Seconds | None = Field(None, description="seconds; clips that show any of [start, end)")
    fps: Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)] | None = Field(
        None, description="frames per second of the grid, instead of the encoder's own"
    )

    @property
    def stream_names(self) -> list[str]:
        """The names, whether comma-separated or repeated."""
        return split_names(self.streams)


class Interval(BaseModel):
    """`[start, end)` seconds of a take; `start_time` and `end_time` are taken too."""

    model_config = ConfigDict(extra="allow")

    start: Seconds = Field(validation_alias=AliasChoices("start", "start_time"))
    end: Seconds = Field(validation_alias=AliasChoices("end", "end_time"))
    step_id: int | ShortName | None = None


class TakeInterval(Interval):
    """An interval that says of which take, by uid or name."""

    take: ShortName = Field(validation_alias=AliasChoices("take", "take_uid", "take_name"))


class TakeAnnotation(BaseModel):
    """What an annotation file holds for one take."""

    model_config = ConfigDict(extra="allow")

    segments: list[Interval]


class SegmentsBody(BaseModel):
    """Segments of any takes."""

    model_config = ConfigDict(extra="forbid")

    encoder: ShortName | None = None
    streams: Names = Field(default_factory=list)
    segments: list[TakeInterval] = Field(min_length=1)


class AnnotationBody(BaseModel):
    """An annotation file as it is: `keystep_train.json` and its like."""

    model_config = ConfigDict(extra="allow")

    encoder: ShortName | None = None
    streams: Names = Field(default_factory=list)
    annotations: dict[ShortName, TakeAnnotation] = Field(min_length=1)


@router.get(
    "/v1/takes/{take}/features",
    summary="Get the features of a take",
    response_model=FeatureArrays,
    responses={
        200: {
            "description": "Features of every stream on one clock",
            "headers": headers("ETag", ENCODER_ID_HEADER, CLIPS_HEADER, CACHE_STATUS_HEADER),
            "content": {NPZ: _BYTES, ARROW: _BYTES, NDJSON: _LINES},
        },
        304: {"description": "Not changed", "headers": headers("ETag")},
        **_TOO_MUCH,
        **responses(406, 413),
    },
)
async def features(
    take: TakeName,
    query: Annotated[FeaturesQuery, Query()],
    request: Request,
    context: Context,
    caller: Reader,
) -> Response:
    """The features of all clips that show any of `[start, end)`, from the store or computed now."""
    kind = accepted(request.headers.get("accept"), KINDS)
    wanted = await asyncio.to_thread(
        context.features.request,
        take,
        query.encoder,
        query.stream_names,
        query.start,
        query.end,
        query.fps,
    )
    if query.start is not None and query.end is not None and query.end <= query.start:
        raise Problem(422, f"end: {query.end} is not after start, {query.start}")
    plan = await context.features.plan(wanted, compute=caller.may("compute"))
    about = _headers(plan, kind)
    if "ETag" in about and matches(request.headers.get("if-none-match"), about["ETag"]):
        return Response(status_code=304, headers=about)
    if kind == NDJSON or (kind == ARROW and plan.missing):
        return await _streamed(context, plan, kind)
    if plan.missing > context.spec.limits.compute_clips:
        return await as_job(context, caller, [plan])
    plan, found = await context.features.complete(plan)
    context.metrics.clips(plan.cached, plan.missing)
    body = await asyncio.to_thread(found.encode, kind)
    return Response(body, media_type=kind, headers=_headers(plan, kind))


async def _streamed(context: ApiContext, plan: FeaturePlan, kind: str) -> Response:
    """An answer that is sent as clips are ready.

    Its first piece is made before the answer begins, so that an error until then has a status.
    """
    make = ndjson if kind == NDJSON else arrow
    pieces = make(context, plan)
    try:
        first = await anext(pieces)
    except ComputeFailed as error:
        if error.kind is not ErrorKind.CHANGED:
            raise
        plan = await context.features.renew(plan)
        pieces = make(context, plan)
        first = await anext(pieces)
    about = _headers(plan, kind)
    return StreamingResponse(chained(first, pieces), media_type=kind, headers=about)


def _headers(plan: FeaturePlan, kind: str) -> dict[str, str]:
    """Headers that describe an answer; an ETag when all of it is known."""
    hit = "hit" if not plan.missing else f"fwd={'partial' if plan.cached else 'miss'}"
    found = {
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Authorization",
        ENCODER_ID_HEADER: plan.request.variant.encoder_id,
        CLIPS_HEADER: ClipCounts(plan.cached, plan.missing).header(),
        CACHE_STATUS_HEADER: f"takestream; {hit}",
    }
    etag = plan.etag(kind)
    return found if etag is None else {"ETag": etag, **found}


@router.post(
    "/v1/features",
    summary="Pool features over segments",
    response_model=SegmentArrays,
    responses={
        200: {"description": "One vector per segment and stream", "content": {NPZ: _BYTES}},
        **_TOO_MUCH,
        **responses(406, 413),
    },
)
async def segment_features(
    body: SegmentsBody | AnnotationBody, request: Request, context: Context, caller: Reader
) -> Response:
    """One vector for each segment and stream: the mean of its clips' features.

    A segment's clips are those whose middle lies in it, or the one whose middle is nearest.
    """
    kind = accepted(request.headers.get("accept"), (JSON, NPZ))
    if isinstance(body, SegmentsBody):
        found = [segments.Segment(s.take, s.start, s.end, s.step_id) for s in body.segments]
    else:
        found = [
            segments.Segment(uid, s.start, s.end, s.step_id)
            for uid, entry in body.annotations.items()
            for s in entry.segments
        ]
    limit = context.spec.limits.segments
    if len(found) > limit:
        raise Problem(413, f"{len(found)} segments in one request, {limit} are allowed")
    names = split_names(body.streams)
    by_take: dict[str, list[int]] = {}
    for number, segment in enumerate(found):
        by_take.setdefault(segment.take, []).append(number)
    # All names first: nothing is computed for a request that is wrong.
    requests = [
        await asyncio.to_thread(context.features.request, take, body.encoder, names)
        for take in by_take
    ]
    for number, segment in enumerate(found):
        if segment.end <= segment.start:
            raise Problem(422, f"segment {number}: end {segment.end} is not after its start")
    numbered = list(zip(by_take.values(), requests, strict=True))
    entries = sum(len(numbers) * len(one.streams) for numbers, one in numbered)
    if entries > context.spec.limits.answer_clips:
        raise Problem(
            413,
            f"{entries} segments × streams in one answer, {context.spec.limits.answer_clips} are "
            "allowed: ask for fewer segments or streams",
        )
    results: list[segments.PooledSegments] = []
    lacking: list[tuple[list[int], FeaturePlan]] = []
    for numbers, one in numbered:
        mine = [found[number] for number in numbers]
        members = partial(segments.member_clips, segments=mine)
        plan = await context.features.plan(one, compute=caller.may("compute"), wanted=members)
        if plan.missing:
            lacking.append((numbers, plan))
        else:
            context.metrics.clips(plan.cached, 0)
            pool = segments.pool_segments
            results.append(await asyncio.to_thread(pool, plan.features(), numbers, mine))
    if sum(plan.missing for _, plan in lacking) > context.spec.limits.compute_clips:
        return await as_job(context, caller, [plan for _, plan in lacking])
    for numbers, plan in lacking:
        mine = [found[number] for number in numbers]
        members = partial(segments.member_clips, segments=mine)
        plan, computed = await context.features.complete(plan, members)
        context.metrics.clips(plan.cached, plan.missing)
        pool = segments.pool_segments
        results.append(await asyncio.to_thread(pool, computed, numbers, mine))
    body_bytes = await asyncio.to_thread(segments.encode_segments, found, results, kind)
    return Response(body_bytes, media_type=kind)


async def as_job(context: ApiContext, caller: Key, plans: Sequence[FeaturePlan]) -> Response:
    """202: one job extracts the streams of these takes whole."""
    wanted = [plan.request for plan in plans]
    recipe = wanted[0].variant.recipe
    assert recipe is not None
    uids = tuple(one.take.uid for one in wanted)
    streams = tuple(dict.fromkeys(name for one in wanted for name in one.streams))
    select = recipe.job.select.model_copy(update={"uids": uids, "streams": streams})
    job = recipe.job.model_copy(update={"select": select})
    record = await context.engine.submit(job, caller.name or None)
    url = f"/v1/jobs/{record.job_id}"
    missing = sum(plan.missing for plan in plans)
    detail = f"{missing} clips × streams are missing: a job computes them, then ask again"
    return JSONResponse(
        {"job_id": record.job_id, "url": url, "detail": detail},
        202,
        {
            "Location": context.spec.root_path + url,
            RETRY_AFTER_HEADER: "10",
            "Cache-Control": "no-store",
        },
    )
