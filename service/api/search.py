"""`/v1/search`: moments like another one, like a text or like an image."""

import asyncio
import base64
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from models.search.joint import has_joint_space
from models.search.joint import scores as joint_scores
from service.api.answers import (
    FoundClip,
    FoundMoment,
    SearchAnswer,
    StreamMoments,
    TakesSearchAnswer,
)
from service.api.context import ApiContext, Context, Reader
from service.api.fields import LongText, Names, Seconds, ShortName
from service.api.keys import Key
from service.api.moments import stored_of
from service.api.problems import Problem, responses
from service.api.videos import media_url
from service.errors import Unknown
from service.features import analysis
from service.features.catalogue import Variant
from service.features.request import FeaturePlan, check_within, chosen_streams
from service.features.search import Sought, TakeMoment, gap_of

router = APIRouter(tags=["moments"])
# Takes whose clips one search reads at most.
MOST_TAKES = 100


class Moment(BaseModel):
    """A clip, named by its stream and a time in seconds."""

    model_config = ConfigDict(extra="forbid")

    stream: ShortName
    time: Seconds


class TakeMomentBody(Moment):
    """A clip of a take."""

    take: ShortName


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    encoder: ShortName | None = None
    streams: Names = Field(default_factory=list, description="names or patterns")
    text: LongText | None = None
    image: Annotated[str, Field(min_length=1)] | None = Field(None, description="base64")


class SearchBody(_Query):
    """What to look for in one take: exactly one of text, image (base64) and moment."""

    take: ShortName
    top: Annotated[int, Field(ge=1, le=100)] = 5
    moment: Moment | None = None


class TakesSearchBody(_Query):
    """What to look for in all takes: exactly one of text, image (base64) and moment."""

    top: Annotated[int, Field(ge=1, le=100)] = 20
    takes: Annotated[int, Field(ge=1, le=MOST_TAKES)] = Field(
        24, description="takes whose clips are looked at, at most"
    )
    moment: TakeMomentBody | None = Field(
        None, description="its own take is left out of what is found"
    )


@router.post("/v1/search", summary="Search a take", responses=responses(413))
async def search(body: SearchBody, context: Context, caller: Reader) -> SearchAnswer:
    """The moments of each stream most like the query."""
    plan = await stored_of(context, body.take, body.encoder)
    _check_one(body.text, body.image, body.moment)
    names, clips, valid = plan.request.streams, plan.clips, plan.block.valid
    chosen = chosen_streams(plan.request.take, body.streams)
    if body.moment is not None:
        sought, echo = _like(plan, body.moment)
    else:
        sought, echo = await _encoded(context, caller, body, plan.request.variant)
    n, streams, dim = plan.block.features.shape
    flat = await asyncio.to_thread(sought.score, plan.block.features.reshape(-1, dim))
    gap = gap_of(clips)
    found = await asyncio.to_thread(
        analysis.best, flat.reshape(n, streams), valid, top=body.top, gap=gap
    )
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


@router.post("/v1/search/takes", summary="Search all takes", responses=responses(413))
async def search_takes(
    body: TakesSearchBody, context: Context, caller: Reader
) -> TakesSearchAnswer:
    """The moments of all takes of an encoder most like the query, three of a take at most.

    The means of all takes are compared first, then the clips of those that come nearest; `exact`
    says whether a clip that was not looked at could be better than what was found. Cameras of a
    take show the same moments, so each moment is told once, of the camera that shows it best.
    """
    _check_one(body.text, body.image, body.moment)
    own = None
    if body.moment is not None:
        plan = await stored_of(context, body.moment.take, body.encoder)
        variant, own = plan.request.variant, plan.request.take.uid
        sought, echo = _like(plan, body.moment)
    else:
        variant = await asyncio.to_thread(context.catalogue.variant, body.encoder)
        sought, echo = await _encoded(context, caller, body, variant)
    found = await context.search.search(
        variant, sought, streams=body.streams, top=body.top, most=body.takes, without=own
    )
    return TakesSearchAnswer(
        encoder_id=variant.encoder_id,
        query=echo,
        moments=[_moment(context, caller, one) for one in found.moments],
        compared=found.compared,
        looked_at=found.looked_at,
        lacking=found.lacking,
        exact=found.exact,
    )


def _check_one(*given: object) -> None:
    if sum(part is not None for part in given) != 1:
        raise Problem(422, "give exactly one of text, image and moment")


def _like(plan: FeaturePlan, moment: Moment) -> tuple[Sought, dict[str, Any]]:
    """What is like a moment of the take of a plan, and the moment as the service took it."""
    block, names = plan.block, plan.request.streams
    if moment.stream not in names:
        raise Unknown(
            f"take {plan.request.take.name} has no features of a stream "
            f"'{moment.stream}'; it has {', '.join(names)}"
        )
    check_within(plan.request.take, plan.clips, "moment.time", moment.time)
    row, at = _row_at(plan, moment.time), names.index(moment.stream)
    if row is None or not block.valid[row, at]:
        raise Problem(404, f"moment: no valid clip of {moment.stream} shows that time")
    vector = block.features[row, at]

    def score(features: Any) -> Any:
        return analysis.cosines(features, np.ones(len(features), dtype=bool), vector)

    echo = {"moment": moment.model_dump(), "clip": int(plan.clips.clip[row])}
    return Sought(score, bounded=True), echo


async def _encoded(
    context: ApiContext, caller: Key, body: _Query, variant: Variant
) -> tuple[Sought, dict[str, Any]]:
    """What is like a text or an image, and which of them it was."""
    if not caller.may("compute"):
        raise Problem(403, "text and images are encoded first, and this key may only read")
    recipe = variant.recipe
    if recipe is None:
        raise Problem(404, f"{variant.encoder_id}: its encoder is not on offer here")
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
    vector, project = query.vector, query.project
    sought = Sought(
        lambda features: joint_scores(features, vector, project), bounded=project is None
    )
    return sought, {"text": body.text} if body.text else {"image": True}


def _moment(context: ApiContext, caller: Key, found: TakeMoment) -> FoundMoment:
    stream = next(one for one in found.take.streams if one.key == found.stream)
    middle = round((found.start + found.end) / 2, 2)
    return FoundMoment(
        take_uid=found.take.uid,
        take_name=found.take.name,
        stream=found.stream,
        thumbnail=media_url(context, caller, found.take, stream, "thumbnail", time=middle),
        clip=found.clip,
        start_time=found.start,
        end_time=found.end,
        score=found.score,
    )


def _row_at(plan: FeaturePlan, time: float) -> int | None:
    middle = (plan.clips.start_time + plan.clips.end_time) / 2
    shown = (plan.clips.start_time <= time) & (plan.clips.end_time > time)
    if not shown.any():
        return None
    return int(np.where(shown, np.abs(middle - time), np.inf).argmin())
