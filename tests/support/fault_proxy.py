"""An HTTP proxy in front of an S3 server that fails on purpose, request by request.

A `Fault` says which requests it meets, how often, and what happens to them. What a fault does to an
answer is done to the real answer of the real server, so that everything else about it is true.
"""

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Act = Callable[["Exchange"], None]
ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'


@dataclass
class Exchange:
    """One request and its way to the server and back."""

    handler: "_Handler"
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    upstream: tuple[str, int]

    def forward(self, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """The server's own answer."""
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        sent = self.body if body is None else body
        headers = {**self.headers, "content-length": str(len(sent))}
        connection.putrequest(self.method, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(sent)
        answer = connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send an answer; a Content-Length that is among the headers may lie."""
        lines = [f"HTTP/1.1 {status} X"]
        headers = {
            "content-length": str(len(body)),
            **{k: v for k, v in headers.items() if k not in ("transfer-encoding", "connection")},
        }
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self.handler.wfile.write(head + (b"" if self.method == "HEAD" else body))
        self.handler.wfile.flush()

    def hang_up(self) -> None:
        """Reset the connection."""
        linger = struct.pack("ii", 1, 0)
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.handler.connection.close()
        self.handler.close_connection = True


@dataclass
class Fault:
    """What happens to some requests.

    Attributes:
        act: What is done instead of passing the request on and the answer back.
        method: Of the requests that it meets, any when empty.
        path: A regular expression that is searched for in the decoded path.
        times: How many requests it meets, None for all.
        after: How many of them pass before the first that it meets.
        met: How many it has met.
    """

    act: Act
    method: str = ""
    path: str = ""
    times: int | None = None
    after: int = 0
    met: int = 0

    def meets(self, method: str, path: str) -> bool:
        """Whether this request is one of them; counts it."""
        spent = self.times is not None and self.met >= self.times
        if spent or (self.method and method != self.method) or not re.search(self.path, path):
            return False
        if self.after:
            self.after -= 1
            return False
        self.met += 1
        return True


@dataclass
class FaultProxy:
    """A running proxy.

    Attributes:
        endpoint_url: To be given to clients in place of the server's.
        faults: The first that meets a request decides.
        seen: Method and decoded path of every request.
    """

    endpoint_url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, act: Act, **which: Any) -> Fault:
        """Let something happen from now on."""
        made = Fault(act, **which)
        self.faults.append(made)
        return made

    def heal(self) -> None:
        """Let everything pass from now on."""
        self.faults.clear()
        self.seen.clear()


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy in front of the server at `upstream`, as long as the block lasts."""
    parts = urlsplit(upstream)
    server = _Server(("127.0.0.1", 0), _Handler)
    proxy = FaultProxy(f"http://127.0.0.1:{server.server_address[1]}")
    server.proxy, server.upstream = proxy, (parts.hostname or "", parts.port or 80)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy
    upstream: tuple[str, int]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up, and connections that a fault has reset, are meant."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        if self.headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {
            name.lower(): value
            for name, value in self.headers.items()
            if name.lower() not in ("connection", "expect", "content-length")
        }
        exchange = Exchange(self, self.command, self.path, headers, body, self.server.upstream)
        path, proxy = unquote(self.path), self.server.proxy
        with proxy.lock:
            proxy.seen.append((self.command, path))
            met = next((f for f in proxy.faults if f.meets(self.command, path)), None)
        if met is None:
            exchange.answer(*exchange.forward())
        else:
            met.act(exchange)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def refused(status: int, code: str, **headers: str) -> Act:
    """An S3 error instead of an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["content-type"] = "application/xml"
    return lambda exchange: exchange.answer(status, named, ERROR.format(code=code).encode())


def in_region(region: str) -> Act:
    """As of a bucket in that region: requests signed for another are redirected, as S3 does it."""

    def act(exchange: Exchange) -> None:
        signed = re.search(r"/\d{8}/([^/]+)/s3/", exchange.headers.get("authorization", ""))
        if signed is not None and signed[1] == region:
            status, headers, body = exchange.forward()
            exchange.answer(status, {**headers, "x-amz-bucket-region": region}, body)
        else:
            refused(301, "PermanentRedirect", x_amz_bucket_region=region)(exchange)

    return act


def sent_on(location: str, region: str) -> Act:
    """As `in_region`, with the redirection of new buckets: 307, and an address to follow."""
    right = in_region(region)

    def act(exchange: Exchange) -> None:
        if f"/{region}/s3/" in exchange.headers.get("authorization", ""):
            right(exchange)
        else:
            named = {"location": location, "x_amz_bucket_region": region}
            refused(307, "TemporaryRedirect", **named)(exchange)

    return act


def reset(exchange: Exchange) -> None:
    """The connection is reset before an answer."""
    exchange.hang_up()


def lost_answer(exchange: Exchange) -> None:
    """The request is carried out, its answer never arrives."""
    exchange.forward()
    exchange.hang_up()


def lost_put(exchange: Exchange) -> None:
    """A PUT is answered as done, and nothing is stored."""
    exchange.answer(200, {"etag": '"d41d8cd98f00b204e9800998ecf8427e"'}, b"")


def short_body(exchange: Exchange) -> None:
    """Half of the body, then the connection is reset."""
    status, headers, body = exchange.forward()
    exchange.answer(status, headers | {"content-length": str(len(body))}, body[: len(body) // 2])
    exchange.hang_up()


def stalled(seconds: float) -> Act:
    """Half of the body, then nothing for so long."""

    def act(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        half = body[: len(body) // 2]
        exchange.answer(status, headers | {"content-length": str(len(body))}, half)
        time.sleep(seconds)
        exchange.hang_up()

    return act


def unanswered(seconds: float) -> Act:
    """No answer for so long, then the connection is reset."""

    def act(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.hang_up()

    return act


def slow(seconds: float) -> Act:
    """The right answer, late."""

    def act(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer(*exchange.forward())

    return act


def flipped(exchange: Exchange) -> None:
    """The body with every 97th byte inverted."""
    status, headers, body = exchange.forward()
    damaged = bytearray(body)
    damaged[::97] = bytes(byte ^ 0xFF for byte in damaged[::97])
    exchange.answer(status, headers, bytes(damaged))


def moved_range(data: bytes, *, honest: bool) -> Act:
    """Other bytes of `data`, the object, than those asked for.

    honest: whether the answer's Content-Range says so.
    """

    def act(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("content-range", ""))
        if given is None or len(body) >= len(data):
            exchange.answer(status, headers, body)
            return
        first = int(given[1]) + (1 if int(given[2]) + 1 < len(data) else -1)
        told = f"bytes {first}-{first + len(body) - 1}/{len(data)}"
        moved = headers | ({"content-range": told} if honest else {})
        exchange.answer(status, moved, data[first : first + len(body)])

    return act


def other_etag(exchange: Exchange) -> None:
    """The right bytes as of another version of the object."""
    status, headers, body = exchange.forward()
    exchange.answer(status, headers | {"etag": '"00000000000000000000000000000000"'}, body)
