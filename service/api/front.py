"""What every route needs: the catalogue, the stores, the engine, who asks, and the limits."""

import contextlib
import hashlib
import hmac
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.schema import ServeSpec
from service.answering import Answering
from service.api.metrics import Metrics
from service.api.problems import Problem
from service.catalogue import Catalogue
from service.keys import SCOPES, Key, KeyRing
from service.keys import Scope as KeyScope
from service.stored import StoredFeatures
from takestream.storage import S3Options

TOKEN_SECONDS = 3600
# The request's id is not among them: Ray Serve answers with the one it gave or was given.
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]
NOBODY = Key("", frozenset(SCOPES))


class Front:
    """One front door. `engine` is a Serve handle of `service.engine.Engine`."""

    def __init__(self, spec: ServeSpec, keys: KeyRing | None, secret: bytes, engine: Any) -> None:
        self.spec, self.keys, self.engine = spec, keys, engine
        self.catalogue = Catalogue(spec)
        s3 = S3Options(**(spec.job.output_s3 or spec.job.s3).model_dump())
        self.stored = StoredFeatures(s3, spec.cache_bytes)
        self.answering = Answering(self.catalogue, self.stored, engine, spec.limits)
        self.metrics = Metrics()
        self._secret = secret
        self._under_way: Counter[str] = Counter()

    def caller(self, request: Request, scope: KeyScope) -> Key:
        """Who asks. Raises Problem 401 without a known key, 403 without the scope."""
        if self.keys is None:
            return NOBODY
        found = self.keys.find(request.headers.get("authorization"))
        if found is None:
            raise Problem(
                401,
                "this service asks for a key: send 'Authorization: Bearer <key>'",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not found.may(scope):
            has = ", ".join(sorted(found.scopes))
            raise Problem(403, f"the key '{found.name}' has not the scope {scope}, only {has}")
        return found

    @contextlib.contextmanager
    def counted(self, caller: Key) -> Iterator[None]:
        """One more request of this caller under way. Raises Problem 429 when it is one too many."""
        if self._under_way[caller.name] >= self.spec.limits.requests_per_key:
            raise Problem(
                429,
                f"{self._under_way[caller.name]} requests of this key are under way already",
                retry_after=1,
            )
        self._under_way[caller.name] += 1
        try:
            yield
        finally:
            self._under_way[caller.name] -= 1

    def token(self, what: str) -> str:
        """A signature that lets whoever has it read `what` for a while: browsers send no headers
        for videos."""
        until = int(time.time()) + TOKEN_SECONDS
        return f"{until}.{self._sign(what, until)}"

    def allows(self, token: str, what: str) -> bool:
        """Whether `token` is one of ours for `what`, and still good."""
        until, _, signature = token.partition(".")
        if not until.isascii() or not until.isdigit() or len(until) > 12:
            return False
        good = hmac.compare_digest(signature.encode(), self._sign(what, int(until)).encode())
        return good and int(until) >= time.time()

    def _sign(self, what: str, until: int) -> str:
        return hmac.new(self._secret, f"{until} {what}".encode(), hashlib.sha256).hexdigest()


def front(request: Request) -> Front:
    """The front door that a request came in by."""
    found: Front = request.app.state.front
    return found


TheFront = Annotated[Front, Depends(front)]


def _asker(scope: KeyScope) -> Any:
    async def caller(request: Request, door: TheFront) -> AsyncIterator[Key]:
        found = door.caller(request, scope)
        request.state.caller = found.name
        with door.counted(found):
            yield found

    return caller


Reader = Annotated[Key, Depends(_asker("read"))]
Submitter = Annotated[Key, Depends(_asker("jobs"))]


class Edge:
    """The outermost layer: request ids, size of bodies, headers, metrics and one log line each."""

    def __init__(self, app: ASGIApp, door: Front) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        plain = 0 < len(given) <= 80 and all(c.isalnum() or c in "-_." for c in given)
        request_id = given if plain and given.isascii() else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        began, status, size, seen = time.perf_counter(), 0, 0, 0
        limit = self._door.spec.limits.body_bytes

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # FastAPI makes 400 of everything else that is raised while it reads a body.
                raise HTTPException(413, f"the body is larger than {limit} bytes")
            return message

        async def outgoing(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
                if scope["path"].startswith("/static/"):  # a new page never meets old modules
                    message["headers"].append((b"cache-control", b"no-cache"))
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, bounded, outgoing)
        finally:
            self._door.metrics.request(
                scope, state, status or 499, time.perf_counter() - began, size
            )
