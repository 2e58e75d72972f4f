"""`/v1/takes/{take}/streams/{stream}/video`: a stream's video by range, for browsers to play."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from service.api.context import ApiContext, Context
from service.api.fields import StreamName, TakeName
from service.api.keys import Key
from service.api.negotiation import matches
from service.api.problems import Problem, headers, responses
from service.errors import Unknown
from workers.dataset.base import source_of
from workers.dataset.take import Stream, Take
from workers.media.source import ObjectIdentity, Source, SourceChanged

router = APIRouter(tags=["takes"])
# For OpenAPI.
VIDEO = {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}}
PIECE = 2**18
LONGEST_ANSWER = 2**20
# Threads of their own: many slow videos must not keep what else reads the storage waiting.
_threads = ThreadPoolExecutor(32, thread_name_prefix="video")
Token = Annotated[str | None, Query(max_length=200, description="as the take's detail gave it")]
T = TypeVar("T")


async def _viewer(request: Request, context: Context, token: Token = None) -> AsyncIterator[Key]:
    """Who asks, by the link's token or by a key."""
    what = "{take}/{stream}".format(**request.path_params)
    found = context.link_owner(token, what) if token and context.keys is not None else None
    found = found or context.authenticate(request, "read")
    request.state.caller = found.name
    with context.counted(found, "videos"):
        yield found


Viewer = Annotated[Key, Depends(_viewer)]


@router.head("/v1/takes/{take}/streams/{stream}/video", include_in_schema=False)
@router.get(
    "/v1/takes/{take}/streams/{stream}/video",
    summary="Play the video of a stream",
    response_class=Response,
    responses={
        200: {"description": "The video", "headers": headers("ETag", "Accept-Ranges"), **VIDEO},
        206: {
            "description": "A range of it",
            "headers": headers("ETag", "Accept-Ranges", "Content-Range"),
            **VIDEO,
        },
        304: {"description": "Not changed", "headers": headers("ETag")},
        **responses(416),
    },
)
async def video(
    take: TakeName, stream: StreamName, request: Request, context: Context, viewer: Viewer
) -> Response:
    """A stream's video by range, as the data set has it; 403 where videos are switched off."""
    found, one = await stream_with_video(context, take, stream)
    source = source_of(context.catalogue.dataset, one)
    try:
        return await _answer(source, request)
    except FileNotFoundError:
        raise Unknown(f"take {found.name} {stream}: the video's object is absent") from None


async def _answer(source: Source, request: Request) -> Response:
    identity = await _threaded(source.identity)
    size, etag = identity.size, f'"{identity.size:x}-{quote(identity.etag, safe="")}"'
    sent = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=600", "ETag": etag}
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=sent)
    wanted = request.headers.get("range")
    if request.headers.get("if-range", etag) != etag:
        wanted = None  # a range of another version is of no use
    first, last, ranged = byte_range(wanted, size)
    sent["Content-Length"] = str(last - first)
    if ranged:
        sent["Content-Range"] = f"bytes {first}-{last - 1}/{size}"
    status = 206 if ranged else 200
    if request.method == "HEAD" or first == last:
        return Response(status_code=status, headers=sent, media_type="video/mp4")
    pieces = _pieces(source, identity, first, last)
    begun = await anext(pieces)  # what stands against it is told properly, before the answer begins
    return StreamingResponse(_all(begun, pieces), status, sent, media_type="video/mp4")


def media_url(
    context: ApiContext, caller: Key, take: Take, stream: Stream, what: str, **more: float
) -> str | None:
    """Where a stream's `video` or `thumbnail` is, with what a browser needs to be let in.

    None when none can be shown.
    """
    if stream.uri is None or not context.spec.videos:
        return None
    url = f"/v1/takes/{quote(take.uid)}/streams/{quote(stream.key)}/{what}"
    query: dict[str, Any] = dict(more)
    if context.keys is not None:
        query["token"] = context.link_token(caller, f"{take.uid}/{stream.key}")
    return f"{url}?{urlencode(query)}" if query else url


async def stream_with_video(context: ApiContext, take: str, stream: str) -> tuple[Take, Stream]:
    """A stream whose video may be looked at.

    Raises:
        Problem: 403 where videos are switched off.
        Unknown: There is no such take or stream, or it has no object.
    """
    if not context.spec.videos:
        raise Problem(403, "videos are switched off at this service (serve --no-video)")
    found = await asyncio.to_thread(context.catalogue.take, take)
    one = next((s for s in found.streams if s.key == stream), None)
    if one is None or one.uri is None:
        raise Unknown(f"take {found.name} has no video of a stream '{stream[:100]}'")
    return found, one


def byte_range(header: str | None, size: int) -> tuple[int, int, bool]:
    """First byte, the one after the last, and whether it is a part. Raises Problem 416.

    All of it for what is not understood, as RFC 9110 has it, several ranges among that.
    """
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", header or "")
    if not found or found[0] == "bytes=-":
        return 0, size, False
    if not found[1]:
        first, last = max(0, size - int(found[2])), size
    else:
        first, last = int(found[1]), size
        if found[2]:
            if int(found[2]) < first:
                return 0, size, False
            last = min(int(found[2]) + 1, size)
    if first >= size:
        raise Problem(
            416, f"the video has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    # Browsers ask for "all from here" and then hang up: long answers would be read for nothing.
    return first, min(last, first + LONGEST_ANSWER), True


async def _pieces(
    source: Source, identity: ObjectIdentity, first: int, last: int
) -> AsyncIterator[bytes]:
    """The bytes `[first, last)`. Raises SourceChanged, before the last of them, when the object
    was another one by then."""
    for at in range(first, last, PIECE):
        stop = min(at + PIECE, last)
        piece = await _threaded(partial(source.read, at, stop))
        if stop == last and await _threaded(source.identity) != identity:
            raise SourceChanged(f"{source.uri}: the object changed while it was read")
        yield piece


async def _all(begun: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begun
    async for piece in rest:
        yield piece


async def _threaded(act: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, act)
