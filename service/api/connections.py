"""Bounds on what a connection may hold of the server before its request is complete.

Uvicorn bounds neither the size of a request's head nor the time that it takes to arrive, and its
parser's work grows with the square of a header's length. Ray Serve runs uvicorn in a process of its
own and passes it none of uvicorn's settings, but calls the function that the environment variable
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` names: `install`.
"""

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar, Literal

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = "service.api.connections.install"

# Bytes of a request's line and headers, or of a body's chunk sizes and trailers.
HEAD_BYTES = 64 * 1024
# Seconds until a request's head is complete, from its first byte or the connection's beginning.
HEAD_SECONDS = 20.0
# Seconds until a body is complete: so many, and as long as its bytes take at the slowest rate.
BODY_SECONDS, BODY_RATE = 30.0, 16 * 1024
# Connections that are idle or whose request is not complete. One more closes the oldest of them, so
# that a new request, of a health check for one, always gets in.
UNFINISHED = 512

# Bytes that are parsed between two looks at the bounds.
_STEP = 16 * 1024
# Framing for each byte of a body: `1\r\n` and `\r\n` around a chunk of one byte.
_FRAMING = 5


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 over httptools, with bounds on unfinished requests.

    A head that is too large is answered with 431, a head or body that takes too long with 408;
    then the connection is closed. One that is idle is closed without an answer.
    """

    # Connections without a complete request, the oldest first; of all servers in this process.
    unfinished: ClassVar[dict["BoundedProtocol", None]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase: Literal["idle", "head", "body", "complete"] = "idle"
        self._deadline: asyncio.TimerHandle | None = None
        self._began = 0.0
        # Bytes of this request, of its body, and of what is parsed just now.
        self._fed = self._body = self._step = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._enter("idle", HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for first in range(0, len(data), _STEP):
            if self.transport.is_closing():
                return
            piece = data[first : first + _STEP]
            self._step = len(piece)
            self._fed += len(piece)
            super().data_received(piece)
            if self._fed - self._body > HEAD_BYTES + _FRAMING * self._body:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._fed, self._body = self._step, 0
        self._enter("head", HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._enter("body", BODY_SECONDS)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._body += len(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = "complete"
        self._leave()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase == "complete" and not self.transport.is_closing():
            self._enter("idle", None)  # uvicorn has its own limit for this

    def _enter(self, phase: Literal["idle", "head", "body"], seconds: float | None) -> None:
        self._leave()
        self._phase, self._began = phase, self.loop.time()
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self._check)
        self.unfinished[self] = None
        if len(self.unfinished) > UNFINISHED:
            next(iter(self.unfinished))._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _leave(self) -> None:
        self.unfinished.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _check(self) -> None:
        """Refuse what is late. A body has more time while it keeps its rate, or must wait."""
        if self._phase == "body":
            left = self._began + BODY_SECONDS + self._body / BODY_RATE - self.loop.time()
            if self.flow.read_paused:
                left = max(left, 1.0)
            if left > 0:
                self._deadline = self.loop.call_later(left, self._check)
                return
        self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        """Close the connection, with an answer if a request has begun and its answer has not."""
        self._leave()
        if self.transport.is_closing():
            return
        answered = self._phase == "body" and self.cycle.response_started
        if self._phase != "idle" and not answered:
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                % (status, status.phrase.encode())
            )
        self.transport.close()


def install() -> list[Any]:
    """Have this process's uvicorn use `BoundedProtocol`; no further middleware."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
    return []
