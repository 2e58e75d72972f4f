"""Objects of a plain web server: how fsspec reads them, and what its errors mean."""

from collections.abc import Sequence
from typing import Any

from takestream.errors import ErrorKind

# Seconds until a connection is given up.
_CONNECT_SECONDS = 5
_BUSY = frozenset({408, 425, 429})


def is_web(uri: str) -> bool:
    """Whether `uri` is of a web server."""
    return uri.startswith(("http://", "https://"))


def web_options(silent: float) -> dict[str, Any]:
    """The keyword arguments with which fsspec reads from a web server.

    Args:
        silent: seconds until a connection that brings nothing is given up.
    """
    from aiohttp import ClientTimeout

    return {
        "client_kwargs": {
            "timeout": ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silent)
        }
    }


def web_kind(chain: Sequence[BaseException]) -> ErrorKind | None:
    """What an error of a web server's client means; None for any other error.

    fsspec calls whatever it could not look at "not found", with the reason as its cause: a server
    that is away must not look like an object that is.

    Args:
        chain: the error, and its cause.
    """
    for error in reversed(chain):
        if type(error).__module__.partition(".")[0] != "aiohttp":
            continue
        status = getattr(error, "status", None)
        if status in (404, 410):
            return ErrorKind.ABSENT
        if isinstance(status, int) and 400 <= status < 500 and status not in _BUSY:
            return ErrorKind.DENIED
        return ErrorKind.UNAVAILABLE
    absent, cause = isinstance(chain[0], FileNotFoundError), chain[-1]
    return ErrorKind.UNAVAILABLE if absent and isinstance(cause, TimeoutError) else None
