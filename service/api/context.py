"""The state of one replica, and the dependencies by which routes get it and the caller."""

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
from service.features.compute import Features
from service.features.search import TakeSearch
from service.features.thumbnails import Thumbnails

TOKEN_SECONDS = 3600
ANYONE = Key("", frozenset(SCOPES))
# Requests that are counted apart from a key's others, and how many of them may be under way: a page
# plays many cameras at once, and a job is followed for as long as it runs.
Apart = Literal["videos", "events"]
APART: dict[Apart | None, int] = {"videos": 64, "events": 64}


class ApiContext:
    """The state of one replica.

    Attributes:
        spec: The service's settings.
        keys: The keys that are accepted, None when everybody on this machine is answered.
        engine: The engine, for jobs and queries.
        catalogue: Takes, encoders and stores.
        stored: The cache of stores.
        features: Features, read or computed.
        search: Searches over all takes.
        thumbnails: Small pictures of moments.
        metrics: The counters of this replica.
    """

    def __init__(
        self, spec: ServeSpec, keys: KeyRing | None, secret: bytes, engine: EngineClient
    ) -> None:
        self.spec, self.keys, self.engine = spec, keys, engine
        self.catalogue = Catalogue(spec)
        s3 = spec.job.reach_output
        self.stored = StoredFeatures(s3, spec.cache_bytes)
        self.features = Features(self.catalogue, self.stored, engine, spec.limits)
        self.search = TakeSearch(self.catalogue, self.features)
        self.thumbnails = Thumbnails(spec.job.output, s3)
        self.metrics = Metrics()
        self._secret = secret
        self._under_way: Counter[tuple[str, Apart | None]] = Counter()

    def authenticate(self, request: Request, *scopes: KeyScope) -> Key:
        """The key of a request; it needs any one of the scopes.

        Raises:
            Problem: 401 without a known key, 403 without any of the scopes.
        """
        if self.keys is None:
            return ANYONE
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
        """Count a request of this caller while it is under way.

        Raises:
            Problem: 429 when too many are under way already.
        """
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

    def link_token(self, caller: Key, what: str) -> str:
        """A token that lets a link be read for `TOKEN_SECONDS`, in the caller's name.

        Browsers send no headers of ours when they load videos.
        """
        until = int(time.time()) + TOKEN_SECONDS
        return f"{until}.{self._sign(until, caller.name, what)}.{caller.name}"

    def link_owner(self, token: str, what: str) -> Key | None:
        """The caller who got a token for `what`; None for a token that is wrong, old or revoked."""
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


def api_context(request: Request) -> ApiContext:
    """The context of the app that a request came to."""
    found: ApiContext = request.app.state.context
    return found


Context = Annotated[ApiContext, Depends(api_context)]


def _authenticated(*scopes: KeyScope, apart: Apart | None = None) -> Any:
    async def caller(request: Request, context: Context) -> AsyncIterator[Key]:
        found = context.authenticate(request, *scopes)
        request.state.caller = found.name
        with context.counted(found, apart):
            yield found

    return caller


Reader = Annotated[Key, Depends(_authenticated("read"))]
Submitter = Annotated[Key, Depends(_authenticated("jobs"))]
# A key that may launch jobs may see them.
JobReader = Annotated[Key, Depends(_authenticated("read", "jobs"))]
JobFollower = Annotated[Key, Depends(_authenticated("read", "jobs", apart="events"))]
