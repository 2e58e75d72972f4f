"""`/v1/encoders`, `/v1/takes` and the videos: what there is to ask for."""

import asyncio
import re
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from configs.load import encoder_presets
from models.joint import has_joint_space
from service.api.features import ShortName
from service.api.front import Front, Reader, TheFront
from service.api.problems import Problem, responses
from service.catalogue import Unknown
from service.stored import OpenStore
from takestream.schema import COMPLETE
from workers.dataset import Stream, Take
from workers.source import Source

router = APIRouter(tags=["takes"])
PIECE = 2**18
LONGEST_PIECE = 2**20


class TakesQuery(BaseModel):
    """Which takes to list."""

    model_config = ConfigDict(extra="forbid")

    q: ShortName | None = Field(None, description="part of a name, uid, task or university")
    task: ShortName | None = None
    university: ShortName | None = None
    extracted: ShortName | None = Field(None, description="with a store of this encoder")
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0


@router.get("/v1/encoders", responses=responses())
async def encoders(door: TheFront, caller: Reader) -> dict[str, Any]:
    """The encoders on offer, the default first."""
    presets = encoder_presets()
    return {
        "encoders": [
            {
                "name": name,
                "dim": presets[name].dim,
                "frames": presets[name].frames,
                "window": presets[name].grid.window,
                "stride": presets[name].grid.stride,
                "fps": presets[name].grid.fps,
                "licence": presets[name].licence,
                "family": presets[name].family,
                "joint": has_joint_space(presets[name]),
                "default": name == door.catalogue.default,
            }
            for name in door.catalogue.presets
        ]
    }


@router.get("/v1/takes", responses=responses())
async def takes(
    asked: Annotated[TakesQuery, Query()], door: TheFront, caller: Reader
) -> dict[str, Any]:
    """The takes of the data set, and which encoders' features there are."""
    found = await asyncio.to_thread(door.catalogue.takes)
    stores = await asyncio.to_thread(door.catalogue.stores)
    ids = {take.uid: [e for e, uids in stores.items() if take.uid in uids] for take in found}
    kept = [take for take in found if _matches(take, ids[take.uid], asked)]
    page = kept[asked.offset : asked.offset + asked.limit]
    return {
        "total": len(kept),
        "takes": [
            {
                **_facts(take),
                "streams": [stream.key for stream in take.streams],
                "encoders": ids[take.uid],
            }
            for take in page
        ],
    }


@router.get("/v1/takes/{take}", responses=responses())
async def take_detail(take: ShortName, door: TheFront, caller: Reader) -> dict[str, Any]:
    """One take: its streams with their videos, and its stores."""
    found = await asyncio.to_thread(door.catalogue.take, take)
    stores = await asyncio.to_thread(_stores, door, found)
    streams = [
        {
            "key": stream.key,
            "cam_id": stream.cam_id,
            "is_ego": stream.is_ego,
            "video": _video_url(door, found, stream),
        }
        for stream in found.streams
    ]
    return {**_facts(found), "streams": streams, "stores": stores}


@router.head("/v1/takes/{take}/streams/{stream}/video", include_in_schema=False)
@router.get(
    "/v1/takes/{take}/streams/{stream}/video",
    responses={
        200: {"description": "The video", "content": {"video/mp4": {}}},
        206: {"description": "A range of it", "content": {"video/mp4": {}}},
        **responses(416),
    },
)
async def video(
    take: ShortName,
    stream: ShortName,
    request: Request,
    door: TheFront,
    token: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """A stream's video by range, as the data set has it; `token` as the take's detail gave it."""
    if door.keys is not None and not (token and door.allows(token, f"{take}/{stream}")):
        door.caller(request, "read")
    found = await asyncio.to_thread(door.catalogue.take, take)
    one = next((s for s in found.streams if s.key == stream), None)
    if one is None or one.uri is None:
        raise Unknown(f"take {found.name} has no video of a stream '{stream[:100]}'")
    source = Source(one.uri, door.catalogue.source_s3)
    try:
        identity = await asyncio.to_thread(source.identity)
    except FileNotFoundError:
        raise Unknown(f"take {found.name} {stream}: the video's object is absent") from None
    size = identity.size
    first, last, partial = _range(request.headers.get("range"), size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(last - first),
        "Cache-Control": "private, max-age=600",
        "ETag": f'"{identity.etag.strip(chr(34))}"',
    }
    if partial:
        headers["Content-Range"] = f"bytes {first}-{last - 1}/{size}"
    status = 206 if partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="video/mp4")

    def pieces() -> Iterator[bytes]:
        for at in range(first, last, PIECE):
            yield source.read(at, min(at + PIECE, last))

    return StreamingResponse(pieces(), status, headers, media_type="video/mp4")


def _range(header: str | None, size: int) -> tuple[int, int, bool]:
    """First byte, the one after the last, and whether it is a part."""
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header or "")
    if not found or found[0] == "bytes=-":
        return 0, size, False  # as RFC 9110 has it for what is not understood
    if not found[1]:
        return max(0, size - int(found[2])), size, True
    first = int(found[1])
    last = min(int(found[2]) + 1, size) if found[2] else size
    if first >= size or last <= first:
        raise Problem(
            416, f"the video has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    # Browsers ask for "all from here" and then hang up: long answers would be read for nothing.
    return first, min(last, first + LONGEST_PIECE), True


def _video_url(door: Front, take: Take, stream: Stream) -> str | None:
    if stream.uri is None:
        return None
    url = f"/v1/takes/{take.uid}/streams/{stream.key}/video"
    return url if door.keys is None else f"{url}?token={door.token(f'{take.uid}/{stream.key}')}"


def _facts(take: Take) -> dict[str, Any]:
    return {
        "take_uid": take.uid,
        "take_name": take.name,
        "task_name": take.task,
        "university_name": take.university,
        "capture_name": take.capture,
        "duration_sec": take.duration,
    }


def _matches(take: Take, encoder_ids: list[str], asked: TakesQuery) -> bool:
    words = " ".join(filter(None, (take.name, take.uid, take.task, take.university))).lower()
    presets = {name.rpartition("-")[0] for name in encoder_ids}
    return (
        (not asked.q or asked.q.lower() in words)
        and (not asked.task or asked.task == take.task)
        and (not asked.university or asked.university == take.university)
        and (not asked.extracted or asked.extracted in presets | set(encoder_ids))
    )


def _stores(door: Front, take: Take) -> list[dict[str, Any]]:
    found = []
    for encoder_id, uids in door.catalogue.stores().items():
        if take.uid in uids:
            opened = door.stored.open(door.catalogue.store_uri(encoder_id, take.uid))
            if opened is not None:
                found.append(_store_facts(encoder_id, opened))
    return found


def _store_facts(encoder_id: str, opened: OpenStore) -> dict[str, Any]:
    store = opened.store
    total = store.clips * len(store.streams)
    gaps = [] if store.status == COMPLETE else store.missing()
    return {
        "encoder_id": encoder_id,
        "encoder": encoder_id.rpartition("-")[0],
        "uri": store.uri,
        "status": store.status,
        "streams": list(store.streams),
        "clips": store.clips,
        "clips_done": total - sum((gap.stop - gap.start) * len(gap.streams) for gap in gaps),
        "problems": opened.attributes.get("problems", {}),
    }
