"""`/v1/takes/{take}/features` and `/v1/features`: synchronised features, stored or computed."""

import asyncio
import json
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from service import segments
from service.answering import CannotCompute, Failed, Plan, Refused
from service.answers import (
    ARROW,
    JSON,
    NDJSON,
    NPZ,
    dumped,
    npz,
    plain_list,
)
from service.api.front import Front, Reader, TheFront
from service.api.negotiation import accepted, matches
from service.api.problems import Problem, responses
from service.api.streaming import arrow, chained, head, ndjson, rows_of, tail
from service.engine import Refusal
from service.jobs import recipe_job
from service.keys import Key

router = APIRouter(tags=["features"])
KINDS = (JSON, NPZ, ARROW, NDJSON)
Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
ShortName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]


class FeaturesQuery(BaseModel):
    """Which features of a take."""

    model_config = ConfigDict(extra="forbid")

    encoder: ShortName | None = Field(None, description="a preset, or a whole encoder_id")
    streams: list[ShortName] = Field(
        default_factory=list, max_length=100, description="names or patterns, comma-separated"
    )
    start: Seconds | None = Field(None, description="seconds on the take's clock")
    end: Seconds | None = Field(None, description="seconds; clips that show any of [start, end)")
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = Field(
        None, description="frames per second of the grid, instead of the encoder's own"
    )

    @property
    def stream_names(self) -> list[str]:
        """The names, whether comma-separated or repeated."""
        return [name.strip() for text in self.streams for name in text.split(",") if name.strip()]


class Interval(BaseModel):
    """`[start, end)` seconds of a take; `start_time` and `end_time` are taken too."""

    model_config = ConfigDict(extra="allow")

    start: Seconds = Field(validation_alias=AliasChoices("start", "start_time"))
    end: Seconds = Field(validation_alias=AliasChoices("end", "end_time"))
    step_id: int | str | None = None


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
    streams: list[ShortName] = Field(default_factory=list, max_length=100)
    segments: list[TakeInterval] = Field(min_length=1)


class AnnotationBody(BaseModel):
    """An annotation file as it is: `keystep_train.json` and its like."""

    model_config = ConfigDict(extra="allow")

    encoder: ShortName | None = None
    streams: list[ShortName] = Field(default_factory=list, max_length=100)
    annotations: dict[ShortName, TakeAnnotation] = Field(min_length=1)


@router.get(
    "/v1/takes/{take}/features",
    responses={
        200: {
            "description": "Features of every stream on one clock",
            "content": {JSON: {}, NPZ: {}, ARROW: {}, NDJSON: {}},
        },
        202: {"description": "Too much to compute at once: a job does it", "content": {JSON: {}}},
        304: {"description": "Not changed"},
        **responses(406, 413),
    },
)
async def features(
    take: ShortName,
    asked: Annotated[FeaturesQuery, Query()],
    request: Request,
    door: TheFront,
    caller: Reader,
) -> Response:
    """The features of all clips that show any of `[start, end)`, from the store or computed now."""
    kind = accepted(request.headers.get("accept"), KINDS)
    what = await asyncio.to_thread(
        door.answering.asked,
        take,
        asked.encoder,
        asked.stream_names,
        asked.start,
        asked.end,
        asked.fps,
    )
    if None not in (asked.start, asked.end) and asked.end <= asked.start:  # type: ignore[operator]
        raise Problem(422, f"end: {asked.end} is not after start, {asked.start}")
    plan = await planned(door, caller, what)
    total = int(plan.wanted.sum()) * len(what.streams)
    if total > door.spec.limits.answer_clips:
        raise Problem(
            413,
            f"{total} clips × streams in one answer, {door.spec.limits.answer_clips} are allowed: "
            "ask for a shorter time or fewer streams",
        )
    headers = {
        "ETag": plan.etag(kind),
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Authorization",
        "X-Takestream-Encoder-Id": what.variant.encoder_id,
        "X-Takestream-Clips": f"cached={plan.cached}; computed={plan.missing}",
        "Cache-Status": "takestream; hit" if not plan.missing else
        f"takestream; fwd={'partial' if plan.cached else 'miss'}",
    }  # fmt: skip
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if kind in (NDJSON, ARROW) and plan.missing:
        lines = ndjson(door, plan) if kind == NDJSON else arrow(door, plan)
        # The first piece is made before the answer begins, so that its errors are answers too.
        first = await anext(lines)
        return StreamingResponse(chained(first, lines), media_type=kind, headers=headers)
    if plan.missing > door.spec.limits.compute_clips:
        return await as_job(door, caller, plan)
    answer = await resolved(door, caller, plan)
    door.metrics.clips(plan.cached, plan.missing)
    if kind == NDJSON:
        whole = b"".join([head(plan), *rows_of(plan), tail(plan)])
        return Response(whole, media_type=kind, headers=headers)
    return Response(await asyncio.to_thread(answer.encode, kind), media_type=kind, headers=headers)


@router.post(
    "/v1/features",
    responses={
        200: {
            "description": "One vector per segment and stream",
            "content": {JSON: {}, NPZ: {}},
        },
        **responses(406, 413),
    },
)
async def segment_features(
    body: SegmentsBody | AnnotationBody, request: Request, door: TheFront, caller: Reader
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
    limit = door.spec.limits.segments
    if len(found) > limit:
        raise Problem(413, f"{len(found)} segments in one request, {limit} are allowed")
    names = [name.strip() for text in body.streams for name in text.split(",") if name.strip()]
    by_take: dict[str, list[int]] = {}
    for number, segment in enumerate(found):
        by_take.setdefault(segment.take, []).append(number)
    results = []
    for take, numbers in by_take.items():
        what = await asyncio.to_thread(door.answering.asked, take, body.encoder, names)
        mine = [found[number] for number in numbers]
        for number, segment in zip(numbers, mine, strict=True):
            if segment.end <= segment.start:
                raise Problem(422, f"segment {number}: end {segment.end} is not after its start")
        wanted = partial(segments.seen, segments=mine)
        plan = await planned(door, caller, what, wanted)
        if plan.missing > door.spec.limits.compute_clips:
            return await as_job(door, caller, plan)
        answer = await resolved(door, caller, plan, wanted)
        door.metrics.clips(plan.cached, plan.missing)
        results.append((numbers, answer, segments.pooled(answer, mine)))
    arrays = segments.assembled(found, results)
    if kind == NPZ:
        return Response(npz(arrays), media_type=NPZ)
    attributes = json.loads(str(arrays.pop("attributes")))
    plain = {name: plain_list(values) for name, values in arrays.items()}
    return Response(dumped({"attributes": attributes, **plain}), media_type=JSON)


async def planned(door: Front, caller: Key, what: Any, wanted: Any = None) -> Plan:
    """The plan, with what stands against it as problems."""
    try:
        return await door.answering.plan(what, compute="compute" in caller.scopes, wanted=wanted)
    except CannotCompute as error:
        status = 403 if "compute" not in caller.scopes else 404
        raise Problem(status, str(error)) from None
    except Refused as error:
        raise Problem.of_refusal(error.refusal) from None
    except Failed as error:
        raise Problem.of_failure(error.failure) from None


async def resolved(door: Front, caller: Key, plan: Plan, wanted: Any = None) -> Any:
    """The complete answer of a plan; once more from the start when its videos changed."""
    for last in (False, True):
        try:
            return await door.answering.complete(plan)
        except Refused as error:
            raise Problem.of_refusal(error.refusal) from None
        except Failed as error:
            if error.failure.kind != "changed" or last:
                raise Problem.of_failure(error.failure) from None
            await door.answering.renew(plan.asked)
            plan = await planned(door, caller, plan.asked, wanted)
    raise AssertionError


async def as_job(door: Front, caller: Key, plan: Plan) -> Response:
    """202: a job extracts the take's streams whole."""
    recipe = plan.asked.variant.recipe
    assert recipe is not None
    job = recipe_job(recipe, plan.asked.take.uid, plan.asked.streams)
    record = await door.engine.submit.remote(job, caller.name or None)
    if isinstance(record, Refusal):
        raise Problem.of_refusal(record)
    url = f"/v1/jobs/{record.job_id}"
    detail = f"{plan.missing} clips × streams are missing: a job computes them, then ask again"
    return JSONResponse(
        {"job_id": record.job_id, "url": url, "detail": detail},
        202,
        {"Location": url, "Retry-After": "10", "Cache-Control": "no-store"},
    )
