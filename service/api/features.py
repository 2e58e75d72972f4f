"""`/v1/takes/{take}/features` and `/v1/features`: synchronised features, stored or computed."""

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
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
    arrow_batch,
    arrow_schema,
    dumped,
    npz,
    plain_list,
)
from service.api.front import Front, Reader, TheFront
from service.api.problems import Problem, responses
from service.engine import Refusal
from service.jobs import recipe_job
from service.keys import Key
from takestream.schema import Reason
from workers.unit import ClipPart

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


async def ndjson(door: Front, plan: Plan) -> AsyncGenerator[bytes, None]:
    """Lines as clips are ready: first what the store has."""
    names = plan.asked.streams
    async with aclosing(door.answering.parts(plan)) as parts:
        part = await started(parts)
        yield head(plan)
        for line in rows_of(plan):
            yield line
        try:
            while part is not None:
                at = names.index(part.stream)
                yield b"".join(_row(plan, part, row, at) for row in range(len(part.reason)))
                part = await anext(parts, None)
        except (Failed, Refused) as error:
            yield _line({"error": _problem(error).body(None)})
            return
    door.metrics.clips(plan.cached, plan.missing)
    yield tail(plan)


async def arrow(door: Front, plan: Plan) -> AsyncGenerator[bytes, None]:
    """Record batches as clips are ready; without its end mark the stream is torn."""
    schema = arrow_schema(plan.store.store.dim, plan.attributes)
    sink = io.BytesIO()
    async with aclosing(door.answering.parts(plan)) as parts:
        part = await started(parts)
        writer = pa.ipc.new_stream(sink, schema)
        have = np.argwhere(plan.block.have & plan.wanted[:, None])
        if len(have):
            rows, columns = have[:, 0], have[:, 1]
            writer.write_batch(
                arrow_batch(
                    schema,
                    plan.clips,
                    rows,
                    np.array(plan.asked.streams, dtype=object)[columns],
                    plan.block.features[rows, columns],
                    plan.block.reason[rows, columns],
                    plan.block.frame_time[rows, columns],
                    plan.block.valid[rows, columns],
                )
            )
        first = int(plan.clips.clip[0])
        try:
            while part is not None:
                rows = np.arange(len(part.reason)) + part.first - first
                writer.write_batch(
                    arrow_batch(
                        schema,
                        plan.clips,
                        rows,
                        np.full(len(rows), part.stream, dtype=object),
                        part.features,
                        part.reason,
                        part.frame_time,
                        part.reason == Reason.VALID,
                    )
                )
                yield taken(sink)
                part = await anext(parts, None)
        except (Failed, Refused) as error:
            raise _problem(error) from None
        writer.close()
    door.metrics.clips(plan.cached, plan.missing)
    yield taken(sink)


def taken(sink: io.BytesIO) -> bytes:
    """What was written to `sink` since the last time."""
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


async def started(parts: AsyncGenerator[ClipPart, None]) -> ClipPart | None:
    """The first part; its errors become problems as long as no answer has begun."""
    try:
        return await anext(parts, None)
    except (Failed, Refused) as error:
        raise _problem(error) from None


def head(plan: Plan) -> bytes:
    """The first line: what will come."""
    clips = plan.clips
    times = {name: plain_list(getattr(clips, name)) for name in clips.__dataclass_fields__}
    return _line({"attributes": plan.attributes, "stream": list(plan.asked.streams), **times})


def tail(plan: Plan) -> bytes:
    """The last line: without it the answer is torn."""
    count = int(plan.wanted.sum()) * len(plan.asked.streams)
    return _line({"end": True, "clips": count, "cached": plan.cached, "computed": plan.missing})


def rows_of(plan: Plan) -> list[bytes]:
    """Lines of the clips that are known already."""
    block, lines = plan.block, []
    for row, at in np.argwhere(block.have & plan.wanted[:, None]):
        part = ClipPart(
            plan.asked.streams[at],
            int(plan.clips.clip[row]),
            block.features[row : row + 1, at],
            block.reason[row : row + 1, at],
            block.frame_time[row : row + 1, at],
        )
        lines.append(_row(plan, part, 0, at))
    return lines


def _row(plan: Plan, part: ClipPart, row: int, at: int) -> bytes:
    valid = bool(part.reason[row] == Reason.VALID)
    return _line(
        {
            "clip": part.first + row,
            "stream": plan.asked.streams[at],
            "valid": valid,
            "reason": int(part.reason[row]),
            "frame_time": plain_list(part.frame_time[row : row + 1])[0],
            "features": plain_list(part.features[row]) if valid else None,
        }
    )


def _line(value: Mapping[str, Any]) -> bytes:
    return dumped(value).encode() + b"\n"


def _problem(error: Failed | Refused) -> Problem:
    if isinstance(error, Refused):
        return Problem.of_refusal(error.refusal)
    return Problem.of_failure(error.failure)


async def chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """`first`, then the rest; closed with it."""
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def accepted(accept: str | None, kinds: tuple[str, ...]) -> str:
    """The best of `kinds` for an Accept header; the first when anything will do.

    Raises Problem 406.
    """
    if not accept:
        return kinds[0]
    best, quality = "", 0.0
    for entry in accept[:1000].split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        q = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weight = float(q)
        except ValueError:
            weight = 0.0
        group = name.partition("/")[0]
        for kind in kinds:
            if name in (kind, "*/*", f"{group}/*" if kind.startswith(f"{group}/") else kind):
                if weight > quality:
                    best, quality = kind, weight
                break
    if not best:
        raise Problem(406, f"this comes as {', '.join(kinds)}, not as '{accept[:200]}'")
    return best


def matches(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names `etag`, by the weak comparison of RFC 9110."""
    if header is None:
        return False
    names = {name.strip().removeprefix("W/") for name in header.split(",")}
    return "*" in names or etag.removeprefix("W/") in names
