"""A take's timeline, map and comparison of cameras: over the features that its store has."""

import asyncio
from typing import Annotated, Self

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.answers import (
    MappedClip,
    PairSimilarity,
    Projection,
    StreamTimeline,
    Timeline,
)
from service.api.context import ApiContext, Context, Reader
from service.api.fields import Seconds, ShortName, TakeName
from service.api.problems import responses
from service.features import analysis
from service.features.request import FeaturePlan, check_within
from takestream.likeness import mean_cosines
from takestream.schema import Reason
from takestream.sync import TakeSync

router = APIRouter(tags=["moments"])
MAP_POINTS = 4000


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


@router.get("/v1/takes/{take}/timeline", summary="Get a take's timeline", responses=responses())
async def timeline(
    take: TakeName, query: Annotated[EncoderQuery, Query()], context: Context, caller: Reader
) -> Timeline:
    """Per stream: which clips are valid and why not, how like the other cameras, how far off."""
    plan = await stored_of(context, take, query.encoder)
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
    plan = await stored_of(context, take, query.encoder)
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
    plan = await stored_of(context, take, query.encoder)
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


async def stored_of(context: ApiContext, take: str, encoder: str | None) -> FeaturePlan:
    """All that the store of a take has. Raises Unknown."""
    wanted = await asyncio.to_thread(context.features.request, take, encoder, ())
    return await context.features.stored(wanted)
