"""The FastAPI app of one replica."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.staticfiles import StaticFiles

from service.api import (
    features,
    jobs,
    moments,
    openapi,
    operation,
    plan,
    problems,
    search,
    takes,
    thumbnails,
    videos,
)
from service.api.context import ApiContext
from service.api.middleware import RequestMiddleware
from service.api.prefix import WithoutPrefix, WithPrefix
from takestream.protocol import (
    ARROW,
    CACHE_STATUS_HEADER,
    CLIPS_HEADER,
    ENCODER_ID_HEADER,
    NPZ,
    REQUEST_ID_HEADER,
    RETRY_AFTER_HEADER,
)
from takestream.version import own_version

ABOUT = """Synchronised per-camera video features, read from stores or computed on demand.

Send `Authorization: Bearer <key>` where the service asks for one."""

# Headers that scripts of other origins may read.
EXPOSED = [
    "ETag", "Link", "Location", RETRY_AFTER_HEADER, CACHE_STATUS_HEADER, REQUEST_ID_HEADER,
    CLIPS_HEADER, ENCODER_ID_HEADER,
]  # fmt: skip


# Calls that wait for storage at a time. asyncio's own pool has a few threads for each core, so some
# slow reads would delay answers from memory.
THREADS = 32


# 2 MB of features as JSON become 0.6 MB in 0.04 s; level 6 makes 0.45 MB of them in 0.15 s.
GZIP_LEVEL = 1
# Events have to come at once, and features as floats hardly get smaller.
NEVER_COMPRESSED = (*DEFAULT_EXCLUDED_CONTENT_TYPES, NPZ, ARROW)


def create_app(context: ApiContext) -> FastAPI:
    """The app with all routes. Its state holds the context."""
    prefix = context.spec.root_path
    middleware = [
        Middleware(WithoutPrefix, prefix=prefix),
        # Outside of the compression: it counts the bytes that are sent, and bounds their time.
        Middleware(RequestMiddleware, context),
        Middleware(
            GZipMiddleware, compresslevel=GZIP_LEVEL, exclude_content_types=NEVER_COMPRESSED
        ),
    ]
    if context.spec.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(context.spec.cors_origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Accept", "Content-Type", "If-None-Match"],
                expose_headers=EXPOSED,
            )
        )
    middleware.append(Middleware(WithPrefix, prefix=prefix))
    # As FastAPI, with the files of /docs from here and not from a CDN.
    app = FastAPIOffline(
        title="takestream",
        version=own_version(),
        description=ABOUT,
        middleware=middleware,
        separate_input_output_schemas=False,
        generate_unique_id_function=openapi.operation_id,
        lifespan=_lifespan,
    )
    app.state.context = context
    for module in (takes, videos, thumbnails, features, moments, search, jobs, plan):
        app.include_router(module.router, dependencies=[Depends(problems.known_parameters)])
    app.include_router(operation.router)
    if operation.PAGE.is_dir():
        app.mount("/static", StaticFiles(directory=operation.PAGE), name="static")
    problems.install(app)
    openapi.describe(app, with_keys=context.keys is not None)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    yield
