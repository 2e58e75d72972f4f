"""What every route needs: the catalogue, the stores, the engine, who asks, and the limits."""

import contextlib
import hashlib
import hmac
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

from configs.schema import ServeSpec
from service.api.keys import SCOPES, Key, KeyRing
from service.api.keys import Scope as KeyScope
from service.api.metrics import Metrics
from service.api.problems import Problem
from service.engine.client import EngineClient
from service.features.cache import StoredFeatures
from service.features.catalogue import Catalogue
from service.features.compute import Answering

TOKEN_SECONDS = 3600
NOBODY = Key("", frozenset(SCOPES))
# What is counted apart from a key's other requests, and how many of it may be under way: a page
# plays many cameras at once, and who follows a job does so for as long as it runs.
Apart = Literal["videos", "events"]
APART: dict[Apart | None, int] = {"videos": 64, "events": 64}


class Front:
    """One front door."""

    def __init__(
        self, spec: ServeSpec, keys: KeyRing | None, secret: bytes, engine: EngineClient
    ) -> None:
        self.spec, self.keys, self.engine = spec, keys, engine
        self.catalogue = Catalogue(spec)
        s3 = spec.job.reach_output
        self.stored = StoredFeatures(s3, spec.cache_bytes)
        self.answering = Answering(self.catalogue, self.stored, engine, spec.limits)
        self.metrics = Metrics()
        self._secret = secret
        self._under_way: Counter[tuple[str, Apart | None]] = Counter()

    def caller(self, request: Request, *scopes: KeyScope) -> Key:
        """Who asks. Raises Problem 401 without a known key, 403 without any of the scopes."""
        if self.keys is None:
            return NOBODY
        found = self.keys.find(request.headers.get("authorization"))
        if found is None:
            raise Problem(
                401,
                "this service asks for a key: send 'Authorization: Bearer <key>'"
                if request.headers.get("authorization") is None
                else "this key is not known here, or has expired",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not any(found.may(scope) for scope in scopes):
            has, wanted = ", ".join(sorted(found.scopes)), " or ".join(scopes)
            raise Problem(403, f"the key '{found.name}' has not the scope {wanted}, only {has}")
        return found

    @contextlib.contextmanager
    def counted(self, caller: Key, what: Apart | None = None) -> Iterator[None]:
        """One more request of this caller under way. Raises Problem 429 when it is one too many."""
        mine = (caller.name, what)
        if self._under_way[mine] >= APART.get(what, self.spec.limits.requests_per_key):
            raise Problem(
                429,
                f"{self._under_way[mine]} {what or 'requests'} of this key are under way already",
                retry_after=1,
            )
        self._under_way[mine] += 1
        try:
            yield
        finally:
            self._under_way[mine] -= 1

    def token(self, caller: Key, what: str) -> str:
        """What lets whoever has it read `what` for a while, in the caller's name: browsers send no
        headers for videos."""
        until = int(time.time()) + TOKEN_SECONDS
        return f"{until}.{self._sign(until, caller.name, what)}.{caller.name}"

    def bearer(self, token: str, what: str) -> Key | None:
        """In whose name `token` lets `what` be read; None when it is not ours, or not any more."""
        until, _, rest = token.partition(".")
        signature, _, name = rest.partition(".")
        if not until.isascii() or not until.isdigit() or len(until) > 12:
            return None
        good = self._sign(int(until), name, what)
        if not hmac.compare_digest(signature.encode(), good.encode()) or int(until) < time.time():
            return None
        if self.keys is not None and not self.keys.has(name):
            return None  # revoked, or expired, since the link was made
        return Key(name, frozenset())

    def _sign(self, until: int, name: str, what: str) -> str:
        # Neither a number nor the name of a key holds a blank.
        text = f"{until} {name} {what}".encode(errors="replace")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def front(request: Request) -> Front:
    """The front door that a request came in by."""
    found: Front = request.app.state.front
    return found


TheFront = Annotated[Front, Depends(front)]


def _asker(*scopes: KeyScope, apart: Apart | None = None) -> Any:
    async def caller(request: Request, door: TheFront) -> AsyncIterator[Key]:
        found = door.caller(request, *scopes)
        request.state.caller = found.name
        with door.counted(found, apart):
            yield found

    return caller


Reader = Annotated[Key, Depends(_asker("read"))]
Submitter = Annotated[Key, Depends(_asker("jobs"))]
# Who may launch jobs may see what becomes of them.
JobReader = Annotated[Key, Depends(_asker("read", "jobs"))]
JobFollower = Annotated[Key, Depends(_asker("read", "jobs", apart="events"))]
