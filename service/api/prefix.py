"""The path below which a proxy shows the service, such as `/features`.

Outside of everything else it is taken off where the proxy left it on; inside, the application gets
it as ASGI asks for it, so that the pages of /docs find their files.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class WithoutPrefix:
    """Takes the prefix off a request's path; proxies differ in whether they do.

    Args:
        app: What gets the request.
        prefix: Begins with a slash and does not end with one; may be empty.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._prefix:
            path = scope["path"]
            if path == self._prefix or path.startswith(f"{self._prefix}/"):
                scope = _at(scope, path.removeprefix(self._prefix) or "/", "")
        await self._app(scope, receive, send)


class WithPrefix:
    """Puts it on again, as the `root_path` with which a path begins.

    Args:
        app: What gets the request.
        prefix: As for `WithoutPrefix`.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._prefix:
            scope = _at(scope, self._prefix + scope["path"], self._prefix)
        await self._app(scope, receive, send)


def _at(scope: Scope, path: str, root: str) -> Scope:
    return {**scope, "path": path, "root_path": root}
