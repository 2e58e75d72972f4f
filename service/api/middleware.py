"""The outermost layer of the app: every request and answer passes it, errors too."""

import asyncio
import ipaddress
import re
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.context import ApiContext
from service.api.keys import SCOPES
from service.api.problems import Problem, respond
from takestream.protocol import REQUEST_ID_HEADER, RETRY_AFTER_HEADER
from workers.run.tracing import span

# Seconds to wait for a client that reads nothing of an answer before giving it up.
STALLED_SECONDS = 60.0
# The request's id is not among them: Ray Serve answers with the one it gave or was given.
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]
# Operators ask for these without a key; they say nothing of anybody's data.
OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
GONE = 499  # nginx's status for a client that left before it was answered


class RequestMiddleware:
    """Request ids, checks of client, site and key, bounds on bodies, headers, metrics, the log."""

    def __init__(self, app: ASGIApp, context: ApiContext) -> None:
        self._app, self._context = app, context
        limits = context.spec.limits
        self._bodies = _Bodies(limits.body_bytes, limits.bodies_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = _request_id(scope)
        exchange = _Exchange(scope, receive, send, self._bodies)
        began = time.perf_counter()
        try:
            self._check_client(scope)
            self._check_site(scope)
            self._check_key(scope)
            with span("takestream request", _trace_of(scope), method=scope["method"]) as traced:
                traced["request_id"] = state["request_id"]
                await self._app(scope, exchange.receive, exchange.send)
                traced |= {"route": getattr(scope.get("route"), "path", "other")}
        except ClientDisconnect:
            pass  # counted below
        except Exception as error:
            if exchange.status:  # an answer that has begun can only be torn
                state["problem"] = Problem.of(_cause(error)).kind
                raise
            response = respond(Request(scope), Problem.of(error))
            await response(scope, exchange.receive, exchange.send)
        finally:
            exchange.close()
            if not exchange.ended:
                state.setdefault("problem", "client_gone")
            seconds = time.perf_counter() - began
            status = exchange.status or GONE
            self._context.metrics.request(scope, state, status, seconds, exchange.size)

    def _check_client(self, scope: Scope) -> None:
        """Raise Problem 403 for a client that is not on this machine, when there are no keys.

        Ray Serve may listen on any address. A `Host` that is not loopback's comes from a page whose
        own name was made to resolve to this machine (DNS rebinding).
        """
        if (
            self._context.keys is not None
            or self._context.spec.insecure
            or scope["path"] == "/healthz"
        ):
            return  # /healthz holds no data, and supervisors ask for it from other machines
        # A Unix socket has none, and a server may not say.
        client = str((scope.get("client") or ("",))[0])
        host = dict(scope["headers"]).get(b"host", b"localhost").decode("latin-1")
        if _is_loopback(client, unknown=True) and _is_loopback(_without_port(host), unknown=False):
            return
        raise Problem(
            403,
            "this service has no keys, so it answers only programs on its own machine that ask for "
            "localhost or 127.0.0.1: start it with a keys file (`takestream keys new NAME` makes "
            "keys), or with `insecure` to answer everybody",
        )

    def _check_site(self, scope: Scope) -> None:
        """Raise Problem 403 for requests that another site's page makes, when there are no keys.

        A browser sends them without asking, for an image for one, and they could compute and write.
        Links to the page may be followed from anywhere.
        """
        headers = Headers(scope=scope)
        if self._context.keys is not None or headers.get("sec-fetch-site") != "cross-site":
            return
        origins = self._context.spec.cors_origins
        if headers.get("origin") in origins or "*" in origins:
            return
        if scope["path"] in OPEN or (scope["path"] == "/" and scope["method"] in ("GET", "HEAD")):
            return
        raise Problem(
            403,
            "a page of another site asks, and this service has no keys: start it with a keys file "
            "(`takestream keys new NAME` makes keys), or with that site in --cors-origins",
        )

    def _check_key(self, scope: Scope) -> None:
        """Raise Problem 401 for a body without a known key, before any of it is read.

        Routes check the key and its scopes themselves, but FastAPI reads the body first.
        """
        headers = Headers(scope=scope)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        if has_body and self._context.keys is not None and scope["path"] not in OPEN:
            try:
                self._context.authenticate(Request(scope), *SCOPES)
            except Problem as problem:
                # Or the server would go on reading the body, to find the next request after it.
                problem.headers["Connection"] = "close"
                raise


class _Bodies:
    """The bytes of request bodies that are held in memory, of all requests together."""

    def __init__(self, each: int, together: int) -> None:
        self.each, self.together = each, together
        self.held = 0


class _Exchange:
    """One request and its answer as they pass: measured and bounded.

    Attributes:
        status: HTTP status, 0 until an answer begins.
        size: Bytes of the answer's body so far.
        ended: Whether the answer is complete.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, bodies: _Bodies) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._bodies, self._seen = bodies, 0
        self._announced = Headers(scope=scope).get("content-length", "")
        self.status, self.size, self.ended = 0, 0, False

    async def receive(self) -> Message:
        # FastAPI makes 400 of everything else than HTTPException while it reads a body.
        bodies = self._bodies
        if self._announced.isdecimal() and int(self._announced) > bodies.each:
            raise self._too_large()
        message = await self._receive()
        size = len(message.get("body", b""))
        self._seen += size
        bodies.held += size
        if self._seen > bodies.each:
            raise self._too_large()
        if bodies.held > bodies.together:
            raise HTTPException(
                503,
                f"requests with {bodies.together} bytes of bodies are under way already",
                {RETRY_AFTER_HEADER: "1", "Connection": "close"},
            )
        return message

    def close(self) -> None:
        """Count the body as no longer held."""
        self._bodies.held -= self._seen
        self._seen = 0

    def _too_large(self) -> HTTPException:
        words = f"the body is larger than {self._bodies.each} bytes"
        return HTTPException(413, words, {"Connection": "close"})

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [_relative(header) for header in message.get("headers", [])]
            message["headers"] = [*headers, *HEADERS]
            if self._scope["path"].startswith("/static/"):  # a new page never meets old modules
                message["headers"].append((b"cache-control", b"no-cache"))
        elif self._scope["method"] == "HEAD":
            message["body"] = b""
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._send(message)
        except TimeoutError:
            self._scope["state"]["problem"] = "stalled"
            raise ClientDisconnect from None
        self.size += len(message.get("body", b""))
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")


def _cause(error: Exception) -> Exception:
    """The error itself, of one that Starlette or a task group of FastAPI has wrapped."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


def _relative(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A Location without scheme and host: the client's Host header is not repeated to it."""
    name, value = header
    if name.lower() != b"location" or b"://" not in value:
        return header
    return name, urlsplit(value)._replace(scheme=b"", netloc=b"").geturl()


def _trace_of(scope: Scope) -> dict[str, str]:
    """The caller's span, where the request names one."""
    names = {b"traceparent", b"tracestate"}
    headers = {k.decode(): v.decode("latin-1") for k, v in scope["headers"] if k in names}
    return headers if "traceparent" in headers else {}


def _request_id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(REQUEST_ID_HEADER.lower().encode(), b"").decode("latin-1")
    return given if re.fullmatch(r"[A-Za-z0-9._-]{1,80}", given) else secrets.token_hex(8)


def _without_port(host: str) -> str:
    """The name or address of a Host header."""
    found = re.fullmatch(r"\[([^\]]*)\](?::\d*)?|([^:]*)(?::\d*)?", host)
    return (found[1] or found[2] or "") if found else ""


def _is_loopback(name: str, *, unknown: bool) -> bool:
    """Whether a name or address means this machine; `unknown` for what is neither."""
    if name.lower() == "localhost":
        return True
    try:
        address: Any = ipaddress.ip_address(name)
    except ValueError:
        return unknown
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)
