"""`/v1/search`, and a take's timeline and map: exact, over the features that its store has."""

import asyncio
import base64
from typing import Annotated, Any, Self

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.search.joint import has_joint_space
from models.search.joint import scores as joint_scores
from service.api.answers import (
    FoundClip,
    MappedClip,
    PairSimilarity,
    Projection,
    SearchAnswer,
    StreamMoments,
    StreamTimeline,
    Timeline,
)
from service.api.context import ApiContext, Context, Reader
from service.api.fields import LongText, Names, Seconds, ShortName, TakeName
from service.api.keys import Key
from service.api.problems import Problem, responses
from service.errors import Unknown
from service.features import analysis
from service.features.request import FeaturePlan, check_within, chosen_streams
from takestream.likeness import mean_cosines
from takestream.schema import Reason
from takestream.sync import TakeSync

router = APIRouter(tags=["moments"])
MAP_POINTS = 4000
# Moments this near to a better one show the same thing.
APART_SECONDS = 1.0


class EncoderQuery(BaseModel):
    """Whose features."""

    model_config = ConfigDict(extra="forbid")

    encoder: ShortName | None = Field(None, description="a preset, or a whole encoder_id")


class SpanQuery(EncoderQuery):
    """Whose features, and when."""

    start: Seconds | None = Field(None, description="seconds on the take's clock")
    end: Seconds | None = Field(None, description="seconds; clips that show any of [start, end)")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end is not None and self.end <= (self.start or 0.0):
            raise ValueError("end: is not after start")
        return self


class Moment(BaseModel):
    """A clip, named by its stream and a time in seconds."""

    model_config = ConfigDict(extra="forbid")

    stream: ShortName
    time: Seconds


class SearchBody(BaseModel):
    """What to look for in one take: exactly one of text, image (base64) and moment."""

    model_config = ConfigDict(extra="forbid")

    take: ShortName
    encoder: ShortName | None = None
    streams: Names = Field(default_factory=list)
    top: Annotated[int, Field(ge=1, le=100)] = 5
    text: LongText | None = None
    image: Annotated[str, Field(min_length=1)] | None = Field(None, description="base64")
    moment: Moment | None = None


@router.post("/v1/search", summary="Search a take", responses=responses(413))
async def search(body: SearchBody, context: Context, caller: Reader) -> SearchAnswer:
    """The moments of each stream most like the query."""
    plan = await _stored(context, body.take, body.encoder)
    if sum(part is not None for part in (body.text, body.image, body.moment)) != 1:
        raise Problem(422, "give exactly one of text, image and moment")
    names, clips, valid = plan.request.streams, plan.clips, plan.block.valid
    chosen = chosen_streams(plan.request.take, body.streams)
    step = float(np.median(np.diff(clips.start_time))) if len(clips.clip) > 1 else 1.0
    gap = max(1, round(APART_SECONDS / max(step, 1e-6)))
    scores, echo = await _scores(context, caller, body, plan)
    found = await asyncio.to_thread(analysis.best, scores, valid, top=body.top, gap=gap)
    return SearchAnswer(
        encoder_id=plan.request.variant.encoder_id,
        query=echo,
        streams=[
            StreamMoments(
                stream=name,
                moments=[
                    FoundClip(
                        clip=int(clips.clip[i]),
                        start_time=float(clips.start_time[i]),
                        end_time=float(clips.end_time[i]),
                        score=score,
                    )
                    for i, score in best
                ],
            )
            for name, best in zip(names, found, strict=True)
            if name in chosen
        ],
    )


async def _scores(
    context: ApiContext, caller: Key, body: SearchBody, plan: FeaturePlan
) -> tuple[Any, dict[str, Any]]:
    """Cosines [clip, stream] to what is looked for, and what that was."""
    block = plan.block
    if body.moment is not None:
        names = plan.request.streams
        if body.moment.stream not in names:
            raise Unknown(
                f"take {plan.request.take.name} has no features of a stream "
                f"'{body.moment.stream}'; it has {', '.join(names)}"
            )
        check_within(plan.request.take, plan.clips, "moment.time", body.moment.time)
        row, at = _row_at(plan, body.moment.time), names.index(body.moment.stream)
        if row is None or not block.valid[row, at]:
            raise Problem(404, f"moment: no valid clip of {body.moment.stream} shows that time")
        scores = await asyncio.to_thread(
            analysis.cosines, block.features, block.valid, block.features[row, at]
        )
        return scores, {"moment": body.moment.model_dump(), "clip": int(plan.clips.clip[row])}
    if not caller.may("compute"):
        raise Problem(403, "text and images are encoded first, and this key may only read")
    recipe = plan.request.variant.recipe
    if recipe is None:
        raise Problem(404, f"{plan.request.variant.encoder_id}: its encoder is not on offer here")
    if not has_joint_space(recipe.target.encoder):
        raise Problem(
            422,
            f"{recipe.target.encoder.name} knows no text and compares no other images: search by "
            "moment, or with an encoder that `GET /v1/encoders` calls joint",
        )
    try:
        image = None if body.image is None else base64.b64decode(body.image, validate=True)
    except ValueError:
        raise Problem(422, "image: not base64") from None
    query = await context.engine.query(recipe, body.text, image)
    if query.vector is None:
        if query.asked:
            raise Problem(422, query.error, kind="model")
        raise Problem(503, query.error, kind="model", retry_after=60)
    n, streams, dim = block.features.shape
    flat = await asyncio.to_thread(
        joint_scores, block.features.reshape(-1, dim), query.vector, query.project
    )
    return flat.reshape(n, streams), {"text": body.text} if body.text else {"image": True}


@router.get("/v1/takes/{take}/timeline", summary="Get a take's timeline", responses=responses())
async def timeline(
    take: TakeName, query: Annotated[EncoderQuery, Query()], context: Context, caller: Reader
) -> Timeline:
    """Per stream: which clips are valid and why not, how like the other cameras, how far off."""
    plan = await _stored(context, take, query.encoder)
    clips, block = plan.clips, plan.block
    likeness = await asyncio.to_thread(mean_cosines, block.features, block.valid)
    facts = plan.attributes["provenance"]["streams"]
    ego = {stream.key: stream.is_ego for stream in plan.request.take.streams}
    sync = TakeSync.of(plan.attributes)
    measured = {} if sync is None else sync.streams
    return Timeline(
        encoder_id=plan.request.variant.encoder_id,
        clip=clips.clip.tolist(),
        start_time=clips.start_time.tolist(),
        end_time=clips.end_time.tolist(),
        streams=[
            StreamTimeline(
                stream=name,
                is_ego=ego[name],
                valid=block.valid[:, at].astype(int).tolist(),
                reason=block.reason[:, at].tolist(),
                similarity=[None if np.isnan(x) else round(x, 4) for x in likeness[:, at].tolist()],
                drift=facts.get(name, {}).get("drift"),
                sync=measured.get(name),
                problems=plan.attributes["problems"].get(name, []),
            )
            for at, name in enumerate(plan.request.streams)
        ],
        reasons={str(int(reason)): reason.words for reason in Reason},
    )


@router.get("/v1/takes/{take}/projection", summary="Get a take's map", responses=responses())
async def projection(
    take: TakeName, query: Annotated[EncoderQuery, Query()], context: Context, caller: Reader
) -> Projection:
    """All valid clips of a take in two dimensions, by principal components."""
    plan = await _stored(context, take, query.encoder)
    found = await asyncio.to_thread(
        analysis.project, plan.block.features, plan.block.valid, MAP_POINTS
    )
    return Projection(
        encoder_id=plan.request.variant.encoder_id,
        method="PCA",
        explained=list(found.explained),
        points=[
            MappedClip(
                clip=int(plan.clips.clip[row]),
                stream=plan.request.streams[column],
                x=round(float(x), 5),
                y=round(float(y), 5),
                start_time=float(plan.clips.start_time[row]),
                end_time=float(plan.clips.end_time[row]),
            )
            for row, column, x, y in zip(*found[:4], strict=True)
        ],
    )


@router.get(
    "/v1/takes/{take}/similarity", summary="Compare a take's cameras", responses=responses()
)
async def pair_similarity(
    take: TakeName, query: Annotated[SpanQuery, Query()], context: Context, caller: Reader
) -> PairSimilarity:
    """Each stream against each other, over the clips that show any of a span."""
    plan = await _stored(context, take, query.encoder)
    clips, block = plan.clips, plan.block
    if query.start is not None:
        check_within(plan.request.take, clips, "start", query.start)
    end = np.inf if query.end is None else query.end
    rows = (clips.end_time > (query.start or 0.0)) & (clips.start_time < end)
    found = await asyncio.to_thread(analysis.pairs, block.features[rows], block.valid[rows])
    return PairSimilarity(
        encoder_id=plan.request.variant.encoder_id,
        clips=int(rows.sum()),
        streams=list(plan.request.streams),
        similarity=[[None if np.isnan(x) else round(x, 4) for x in row] for row in found.tolist()],
    )


async def _stored(context: ApiContext, take: str, encoder: str | None) -> FeaturePlan:
    """All that the store of a take has. Raises Unknown."""
    wanted = await asyncio.to_thread(context.features.request, take, encoder, ())
    return await context.features.stored(wanted)


def _row_at(plan: FeaturePlan, time: float) -> int | None:
    middle = (plan.clips.start_time + plan.clips.end_time) / 2
    shown = (plan.clips.start_time <= time) & (plan.clips.end_time > time)
    if not shown.any():
        return None
    return int(np.where(shown, np.abs(middle - time), np.inf).argmin())
