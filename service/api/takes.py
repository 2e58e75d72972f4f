"""`/v1/encoders` and `/v1/takes`: what there is to ask for."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from configs.load import encoder_presets
from models.search.joint import has_joint_space
from service.api.answers import (
    AnnotationLane,
    EncoderList,
    OutputOverview,
    TakeAnnotations,
    TakesPage,
)
from service.api.context import ApiContext, Context, Reader
from service.api.fields import ShortName, TakeName
from service.api.keys import Key
from service.api.paging import next_page
from service.api.problems import headers, responses
from service.api.videos import media_url
from takestream.client.records import Encoder, Store, TakeDetails, TakeSummary
from takestream.client.records import Stream as StreamFacts
from takestream.errors import StorageError
from takestream.facts import fits, notes_of, parse_condition
from takestream.licence import Licences
from takestream.protocol import TAKES_PER_PAGE
from takestream.schema import COMPLETE, PARTIAL
from takestream.stores import preset_of
from takestream.sync import TakeSync
from workers.dataset.layouts import licence_of
from workers.dataset.take import Take

router = APIRouter(tags=["takes"])
# Beside the store's own `status`: it is there and cannot be read.
DAMAGED = "damaged"


Sort = Literal[
    "name", "task", "university", "streams", "duration",
    "-name", "-task", "-university", "-streams", "-duration",
]  # fmt: skip


class TakesQuery(BaseModel):
    """Which takes to list."""

    model_config = ConfigDict(extra="forbid")

    q: ShortName | None = Field(None, description="part of a name, uid, task or university")
    task: ShortName | None = Field(None, description="the name of a task")
    university: ShortName | None = Field(None, description="the name of a university")
    extracted: ShortName | None = Field(None, description="with a store of this encoder")
    where: Annotated[list[ShortName], Field(max_length=20)] = Field(
        [], description="`FACT=VALUE` by what the data set says: `split=train`, `task=Cook*`"
    )
    sort: Sort | None = Field(None, description="`-` before it: the last ones first")
    limit: Annotated[int, Field(ge=1, le=TAKES_PER_PAGE, description="takes on a page")] = 50
    offset: Annotated[int, Field(ge=0, le=10**9, description="takes before this page")] = 0

    @field_validator("where")
    @classmethod
    def _facts(cls, where: list[str]) -> list[str]:
        for text in where:
            parse_condition(text)
        return where


@router.head("/v1/encoders", include_in_schema=False)
@router.get("/v1/encoders", summary="List encoders", responses=responses())
async def encoders(context: Context, caller: Reader) -> EncoderList:
    """The encoders on offer, the default first."""
    presets = encoder_presets()
    return EncoderList(
        encoders=[
            Encoder(
                name=name,
                dim=presets[name].dim,
                frames=presets[name].frames,
                window=presets[name].grid.window,
                stride=presets[name].grid.stride,
                fps=presets[name].grid.fps,
                licence=presets[name].licence,
                family=presets[name].family,
                joint=has_joint_space(presets[name]),
                default=name == context.catalogue.default,
            )
            for name in context.catalogue.presets
        ]
    )


@router.head("/v1/overview", include_in_schema=False)
@router.get("/v1/overview", summary="Look over the output", responses=responses())
async def output_overview(context: Context, caller: Reader) -> OutputOverview:
    """By encoder, how many takes are whole, partial, damaged or not there, and what is wrong."""
    found = await asyncio.to_thread(context.catalogue.overview)
    listed = await asyncio.to_thread(context.catalogue.takes)
    return OutputOverview(takes=len(listed), encoders=found)


@router.head("/v1/takes", include_in_schema=False)
@router.get(
    "/v1/takes",
    summary="List takes",
    responses={
        200: {"description": "A page of the list", "headers": headers("Link")},
        **responses(),
    },
)
async def takes(
    query: Annotated[TakesQuery, Query()], response: Response, context: Context, caller: Reader
) -> TakesPage:
    """The takes of the data set, and which encoders' features there are."""
    found = await asyncio.to_thread(context.catalogue.takes)
    stores = await asyncio.to_thread(context.catalogue.stores)
    ids = {take.uid: [e for e, uids in stores.items() if take.uid in uids] for take in found}
    where = [parse_condition(text) for text in query.where]
    kept = [
        take
        for take in found
        if _matches(take, ids[take.uid], query) and (not where or fits(take.facts(), where))
    ]
    if query.sort:
        kept = _sorted(kept, query.sort)
    page = kept[query.offset : query.offset + query.limit]
    after = query.offset + len(page)
    if page and after < len(kept):
        response.headers.update(next_page(context, "/v1/takes", query, offset=after))
    summaries = [
        TakeSummary(
            **_facts(take),
            streams=[stream.key for stream in take.streams],
            encoders=ids[take.uid],
            thumbnail=_thumbnail(context, caller, take),
        )
        for take in page
    ]
    return TakesPage(total=len(kept), takes=summaries)


@router.head("/v1/takes/{take}", include_in_schema=False)
@router.get("/v1/takes/{take}", summary="Get a take", responses=responses())
async def take_detail(take: TakeName, context: Context, caller: Reader) -> TakeDetails:
    """One take: its streams with their videos, its stores, and what was measured of its clocks."""
    found = await asyncio.to_thread(context.catalogue.take, take)
    stores = await asyncio.to_thread(_stores, context, found)
    streams = [
        StreamFacts(
            key=stream.key,
            cam_id=stream.cam_id,
            is_ego=stream.is_ego,
            video=media_url(context, caller, found, stream, "video"),
            thumbnail=media_url(context, caller, found, stream, "thumbnail"),
        )
        for stream in found.streams
    ]
    # Stores of one take are measured alike; an older one may not have been.
    sync = next((store.sync for store in stores if store.sync), None)
    return TakeDetails(
        **_facts(found),
        streams=streams,
        videos=context.spec.videos,
        dataset_licence=licence_of(context.spec.job, found),
        stores=stores,
        sync=sync,
    )


def _facts(take: Take) -> dict[str, Any]:
    facts = take.facts()
    return {**facts, "notes": notes_of(facts)}


def _sorted(takes: list[Take], sort: Sort) -> list[Take]:
    """By one thing, those alike in the data set's order; those that do not say it come last."""
    by, down = sort.removeprefix("-"), sort.startswith("-")

    def value(take: Take) -> Any:
        found = {
            "name": take.name, "task": take.task, "university": take.university,
            "streams": len(take.streams), "duration": take.duration,
        }[by]  # fmt: skip
        return found.casefold() if isinstance(found, str) else found

    said = [take for take in takes if value(take) is not None]
    rest = [take for take in takes if value(take) is None]
    return [*sorted(said, key=value, reverse=down), *rest]


@router.head("/v1/takes/{take}/annotations", include_in_schema=False)
@router.get(
    "/v1/takes/{take}/annotations", summary="Get a take's annotations", responses=responses()
)
async def take_annotations(take: TakeName, context: Context, caller: Reader) -> TakeAnnotations:
    """Keysteps and descriptions, where the data set has `annotations/` of them."""
    found = await asyncio.to_thread(context.catalogue.take, take)
    read = await asyncio.to_thread(context.catalogue.annotations)
    lanes = await asyncio.to_thread(read.of, found.uid)
    return TakeAnnotations(
        lanes=[AnnotationLane(kind=kind, annotations=said) for kind, said in lanes.items()],  # type: ignore[arg-type]
        notes=list(read.odd),
    )


def _thumbnail(context: ApiContext, caller: Key, take: Take) -> str | None:
    """The worn camera, or the first one, in the middle of the task or of the take."""
    there = [stream for stream in take.streams if stream.uri is not None]
    shown = min(there, key=lambda stream: not stream.is_ego, default=None)
    if shown is None:
        return None
    start, end = take.task_span or (0.0, take.duration or 0.0)
    return media_url(context, caller, take, shown, "thumbnail", time=round((start + end) / 2, 1))


def _matches(take: Take, encoder_ids: list[str], query: TakesQuery) -> bool:
    words = " ".join(filter(None, (take.name, take.uid, take.task, take.university))).lower()
    presets = {preset_of(name) for name in encoder_ids}
    return (
        (not query.q or query.q.lower() in words)
        and (not query.task or query.task == take.task)
        and (not query.university or query.university == take.university)
        and (not query.extracted or query.extracted in presets | set(encoder_ids))
    )


def _stores(context: ApiContext, take: Take) -> list[Store]:
    """What there is of the take now, those that cannot be read last."""
    ids = context.catalogue.encoder_ids()
    with ThreadPoolExecutor(8) as pool:
        found = [store for store in pool.map(partial(_store, context, take), ids) if store]
    # A store without a clip is what a request or a job began with, and nothing to look at.
    begun = [store for store in found if store.clips_done or store.status != PARTIAL]
    return sorted(begun, key=lambda store: store.status == DAMAGED)


def _store(context: ApiContext, take: Take, encoder_id: str) -> Store | None:
    uri = context.catalogue.store_uri(encoder_id, take.uid)
    named = partial(Store, encoder_id=encoder_id, encoder=preset_of(encoder_id), uri=uri)
    try:
        opened = context.stored.open(uri)
        if opened is None:
            return None
        store = opened.store
        gaps = [] if store.status == COMPLETE else store.missing()
    except StorageError as error:
        # Other folders in the output may be damaged or foreign; the take is listed all the same.
        return named(status=DAMAGED, clips=0, clips_done=0, problems={"store": [str(error)]})
    total = store.clips * len(store.streams)
    licences, grid = Licences.of(opened.attributes), opened.attributes.get("grid", {})
    fps = grid.get("fps")
    return named(
        status=store.status,
        streams=list(store.streams),
        clips=store.clips,
        clips_done=total - sum((gap.stop - gap.start) * len(gap.streams) for gap in gaps),
        window=grid.get("window"),
        stride=grid.get("stride"),
        fps=float(fps) if isinstance(fps, int | float) else None,
        problems=opened.attributes.get("problems", {}),
        sync=TakeSync.of(opened.attributes),
        dataset_licence=licences.dataset,
        encoder_licence=licences.encoder,
    )
