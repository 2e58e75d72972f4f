"""Errors over HTTP, as RFC 9457 `application/problem+json`."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from configs.faults import did_you_mean, fault_line, fault_lines
from service.api.fields import PLAIN
from service.api.metrics import METHODS
from service.engine.client import EngineBusy
from takestream.errors import ErrorKind, TakestreamError
from takestream.protocol import (
    CACHE_STATUS_HEADER,
    CLIPS_HEADER,
    ENCODER_ID_HEADER,
    JSON,
    PROBLEM,
    PROBLEM_TYPE,
    RETRY_AFTER_HEADER,
    STATUS_KINDS,
    ProblemBody,
)

log = logging.getLogger("takestream.service")
KINDS = sorted({*ErrorKind, *STATUS_KINDS.values()})
"""Every `kind` that a problem may have."""
# Faults of one request: of a body with thousands the first will do.
LOOKED_AT = 100


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: The HTTP status.
        detail: What is wrong and what to do, for the person who reads it.
        retry_after: Seconds after which the same request may succeed.
        headers: Further headers of the answer.
        errors: One line for each value that is wrong.
        kind: One word for programs and metrics; by default that of the status.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
        errors: list[str] | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, _sendable(detail)
        self.errors = None if errors is None else [_sendable(line) for line in errors]
        phrase = HTTPStatus(status).phrase.lower().replace(" ", "_")
        self.kind = str(kind or STATUS_KINDS.get(status, phrase))
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers[RETRY_AFTER_HEADER] = str(retry_after)

    @classmethod
    def of(cls, error: Exception) -> "Problem":
        """What an error of the layers below means over HTTP."""
        if isinstance(error, Problem):
            return error
        if isinstance(error, TakestreamError):
            problem = cls.of_kind(error.kind, str(error))
            if isinstance(error, EngineBusy):
                problem.headers["Retry-After"] = str(error.retry_after)
            return problem
        log.exception("unexpected error", exc_info=error)
        words = "a fault of takestream; its log says more under this request's id"
        return cls.of_kind(ErrorKind.FAULT, words)

    @classmethod
    def of_kind(cls, kind: ErrorKind, detail: str) -> "Problem":
        """With the status and the time to wait of a kind of error."""
        return cls(kind.status, detail, retry_after=kind.retry_after, kind=kind)

    def body(self, request_id: str | None) -> dict[str, Any]:
        """The JSON."""
        return ProblemBody(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            type=f"{PROBLEM_TYPE}{self.kind}",
            kind=self.kind,
            request_id=request_id,
            errors=self.errors,
        ).body()


def install(app: FastAPI) -> None:
    """Have `app` answer errors as problems; unexpected ones are left to the middleware."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return respond(request, Problem.of(error))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        lines = _lines(request, error)
        return respond(request, Problem(422, "; ".join(lines), errors=lines))

    async def plain(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        detail = error.detail
        if error.status_code == 404:
            detail = f"there is nothing at {request.url.path[:200]}; /docs lists what there is"
        headers = {k.title(): v for k, v in (error.headers or {}).items()}
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(request))
            detail = f"{request.url.path[:200]} knows {headers['Allow'] or 'no method'}"
        return respond(request, Problem(error.status_code, detail, headers=headers))

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Problem, answer)
    app.add_exception_handler(TakestreamError, answer)


def respond(request: Request, problem: Problem) -> JSONResponse:
    """The problem as a response; its kind is noted for the metrics."""
    request.state.problem = problem.kind
    body = problem.body(getattr(request.state, "request_id", None))
    headers = {"Cache-Control": "no-store", **problem.headers}
    return JSONResponse(body, problem.status, headers, media_type=PROBLEM)


def _sendable(words: str) -> str:
    """Without halves of surrogate pairs, which JSON can name and UTF-8 cannot carry."""
    return words.encode(errors="replace").decode()


def _methods(request: Request) -> list[str]:
    """The methods of the routes at the request's path."""
    scope = request.scope
    # A mount that took the request has changed the scope.
    root = scope.get("app_root_path", scope.get("root_path", ""))
    probe = {"type": "http", "path": scope["path"], "root_path": root, "headers": []}
    found: set[str] = set()
    for route in request.app.routes:
        for method in METHODS:
            if route.matches({**probe, "method": method})[0] == Match.FULL:
                # What is mounted are files.
                found |= {"GET", "HEAD"} if isinstance(route, Mount) else {method}
    return [method for method in METHODS if method in found]


def known_parameters(request: Request) -> None:
    """A dependency of all routes: refuse query parameters that the route does not take.

    Raises:
        Problem: 422.
    """
    known = _parameters(request)
    lines = [
        f"unknown parameter '{name[:100]}'"
        + (did_you_mean(name[:100], known) or f"; {request.url.path[:200]} takes none")
        for name in dict.fromkeys(request.query_params)
        if name not in known
    ][:20]
    if lines:
        raise Problem(422, "; ".join(lines), errors=lines)


def _lines(request: Request, error: RequestValidationError) -> list[str]:
    """A line for each fault of a request, twenty at most."""
    faults = error.errors()[:LOOKED_AT]
    in_body = [fault for fault in faults if fault["loc"][0] == "body"]
    if _form(request) and any(fault["loc"] == ("body",) for fault in in_body):
        return [f"the body is not read as JSON: send it with Content-Type: {JSON}"]
    lines = [_line(request, one) for one in faults if one["loc"][0] != "body" or _unfit(one)]
    inside = []
    for fault in in_body:
        if fault["type"] == "json_invalid":
            lines.append(
                f"the body is no JSON: {fault['ctx']['error']} at character {fault['loc'][1]}"
            )
        elif not _unfit(fault):
            inside.append({**fault, "loc": fault["loc"][1:]})
    route = request.scope.get("route")
    if inside and isinstance(route, APIRoute) and route.body_field is not None:
        model = route.body_field.field_info.annotation
        lines += fault_lines(model, inside, {}, error.body, "body")
    return list(dict.fromkeys(lines))[:20]


def _form(request: Request) -> bool:
    """Whether the body came as something else than JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind != JSON and not kind.endswith("+json")


def _line(request: Request, fault: Any) -> str:
    place, *names = fault["loc"]
    path = ".".join(str(part) for part in names)[:100] or str(place)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown parameter '{path}'{did_you_mean(path, _parameters(request))}"
    if _unfit(fault):
        return f"{path}: {fault['input'][:50]!a} holds a control character or a line end"
    return fault_line(path, fault)


def _unfit(fault: Any) -> bool:
    return bool(fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] == PLAIN)


def _parameters(request: Request) -> list[str]:
    """The query parameters that the route of the request takes."""
    route = request.scope.get("route")
    return _query_names(route.dependant) if isinstance(route, APIRoute) else []


def _query_names(dependant: Dependant) -> list[str]:
    names = [name for below in dependant.dependencies for name in _query_names(below)]
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names += [given.alias or name for name, given in annotation.model_fields.items()]
        else:
            names.append(field.alias)
    return names


# By status, the headers that come with a problem.
_PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: (RETRY_AFTER_HEADER,),
    503: (RETRY_AFTER_HEADER,),
}
_HEADERS = {
    "Accept-Ranges": "`bytes`: the video may be asked for by range",
    CACHE_STATUS_HEADER: "whether the store had all of it, some (`partial`) or nothing (`miss`)",
    CLIPS_HEADER: "clips × streams from the store and computed now: `cached=12; computed=0`",
    "Content-Range": "which bytes of how many",
    ENCODER_ID_HEADER: "the encoder_id whose features these are",
    "ETag": "a tag for If-None-Match; absent while something is to be computed",
    "Link": 'the next page, as `<path>; rel="next"`; absent on the last',
    "Location": "path of the job",
    RETRY_AFTER_HEADER: "seconds after which the same request may succeed",
    "WWW-Authenticate": "`Bearer`",
}


def headers(*names: str) -> dict[str, Any]:
    """For OpenAPI: headers that an answer may have."""
    return {n: {"description": _HEADERS[n], "schema": {"type": "string"}} for n in names}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the problems that a route with keys may answer with, these besides."""
    return documented(400, 401, 403, 404, 422, 429, 500, 503, *statuses)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the problems that a route may answer with."""
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "headers": headers(*_PROBLEM_HEADERS.get(status, ())),
            "content": {PROBLEM: {"schema": schema}},
        }
        for status in sorted(set(statuses))
    }
