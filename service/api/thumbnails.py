"""`/v1/takes/{take}/streams/{stream}/thumbnail`: a small picture of a moment."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.context import Context
from service.api.fields import Seconds, StreamName, TakeName
from service.api.negotiation import matches
from service.api.problems import headers, responses
from service.api.videos import Viewer, stream_with_video

router = APIRouter(tags=["takes"])
JPEG = "image/jpeg"
# For OpenAPI.
PICTURE = {"content": {JPEG: {"schema": {"type": "string", "format": "binary"}}}}
# A list of takes needs fifty pictures at once; more threads would delay other requests.
_threads = ThreadPoolExecutor(2, thread_name_prefix="thumbnail")


@router.head("/v1/takes/{take}/streams/{stream}/thumbnail", include_in_schema=False)
@router.get(
    "/v1/takes/{take}/streams/{stream}/thumbnail",
    summary="Get a small picture of a moment",
    response_class=Response,
    responses={
        200: {"description": "The picture", "headers": headers("ETag"), **PICTURE},
        304: {"description": "Not changed", "headers": headers("ETag")},
        **responses(),
    },
)
async def thumbnail(
    take: TakeName,
    stream: StreamName,
    request: Request,
    context: Context,
    viewer: Viewer,
    time: Annotated[Seconds, Query(description="seconds on the take's clock")] = 0.0,
) -> Response:
    """What a stream shows at a moment, as JPEG of at most 320 x 240; 403 where videos are off."""
    found, one = await stream_with_video(context, take, stream)
    made = partial(context.thumbnails.picture, context.catalogue.dataset, found, one, time)
    picture = await asyncio.get_running_loop().run_in_executor(_threads, made)
    etag = f'"{picture.name}"'
    sent = {"Cache-Control": "private, max-age=3600", "ETag": etag}
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=sent)
    return Response(picture.jpeg, headers=sent, media_type=JPEG)
