"""`/healthz`, `/readyz`, `/metrics`, and the page."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse

from service.api.answers import Health, Readiness
from service.api.context import Context
from service.api.problems import documented, headers
from service.engine.client import EngineUnavailable
from takestream.errors import TakestreamError
from takestream.protocol import RETRY_AFTER_HEADER, page_facts

router = APIRouter(tags=["operation"])
PAGE = Path(__file__).parent.parent / "page"
MODULE_PATH = "/static/protocol.js"
ENGINE_SECONDS = 5.0
NO_KEY: dict[str, Any] = {"security": []}
POLICY = (
    "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@router.head("/healthz", include_in_schema=False)
@router.get(
    "/healthz", summary="See whether it answers", responses=documented(500), openapi_extra=NO_KEY
)
async def healthz() -> Health:
    """Whether this replica answers."""
    return Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="See whether work can be done",
    response_model=Readiness,
    responses={
        503: {
            "description": "Not ready",
            "headers": headers(RETRY_AFTER_HEADER),
            "model": Readiness,
        },
        **documented(403, 500),
    },
    openapi_extra=NO_KEY,
)
async def readyz(context: Context) -> JSONResponse:
    """Whether work can be done: encoder loaded, output writable, data set there."""
    try:
        checks = await asyncio.wait_for(context.engine.ready(), ENGINE_SECONDS)
    except (TimeoutError, EngineUnavailable):
        checks = {"engine": "does not answer"}
    try:
        await asyncio.to_thread(context.catalogue.check_dataset)
    except TakestreamError as error:
        checks["dataset"] = str(error)
    words: dict[str, Any] = dict.fromkeys(("model", "output", "dataset"), "ok")
    if "engine" in checks:
        words = {}
    # The reasons name storage and keys: they are for the logs' readers, not for everybody.
    words |= {name: "failing" if context.keys else why for name, why in checks.items()}
    if context.keys is not None and context.keys.problem:
        words["keys"] = "failing"  # shown, but a typo in the file takes no service away
    sent = {"Cache-Control": "no-store"} | ({RETRY_AFTER_HEADER: "2"} if checks else {})
    return JSONResponse({"ready": not checks, "checks": words}, 503 if checks else 200, sent)


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    summary="Get metrics",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "Prometheus",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **documented(403, 500),
    },
    openapi_extra=NO_KEY,
)
async def metrics(context: Context) -> Response:
    """Metrics of this replica and of the engine."""
    status = None
    with suppress(TimeoutError, EngineUnavailable):
        status = await asyncio.wait_for(context.engine.status(), ENGINE_SECONDS)
    return Response(context.metrics.text(status), media_type="text/plain; version=0.0.4")


@router.head(MODULE_PATH, include_in_schema=False)
@router.get(MODULE_PATH, include_in_schema=False)
async def protocol_module() -> Response:
    """`takestream.protocol` for the page: an ES module beside the page's own files."""
    lines = [f"export const {name} = {json.dumps(v)};" for name, v in page_facts().items()]
    return Response("\n".join([*lines, ""]), media_type="text/javascript")


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page."""
    sent = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return FileResponse(PAGE / "index.html", headers=sent)
