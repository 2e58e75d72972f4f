"""Connections that send too much, too slowly or nothing, against a real server on loopback."""

import asyncio
import socket
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import uvicorn

from service.api import connections
from service.api.connections import BoundedProtocol, install


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Says how many bytes the body has; `/early` answers before it reads any."""
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    text = f"{size} {len(scope['headers'])}".encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.6)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.6)
    monkeypatch.setattr(connections, "UNFINISHED", 20)
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "")
    assert install() == []
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=75)
    )
    thread = Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    BoundedProtocol.unfinished.clear()


class Connection:
    def __init__(self, port: int, data: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.send(data)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, bytes] | None:
        """Status and body of the next answer; None when the connection is closed without one."""
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                data += (piece := self.socket.recv(65536))
                if not piece:
                    return None
            head, _, body = data.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split()[0])
            while len(body) < size:
                body += self.socket.recv(65536)
        except ConnectionResetError:
            return None
        return int(head.split()[1]), body

    def status(self) -> int | None:
        answer = self.answer()
        return answer and answer[0]

    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def post(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def test_ordinary_requests_pass(port: int) -> None:
    connection = Connection(port)
    for head in (GET, GET.replace(b"Host", b"X-Long: " + b"a" * 40_000 + b"\r\nHost")):
        connection.send(head)
        assert connection.status() == 200
    connection.send(post("/", "Content-Length: 1000000") + b"x" * 1_000_000)
    assert connection.answer() == (200, b"1000000 2")
    connection.send(post("/", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
    assert connection.answer() == (200, b"50000 2")


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nX: ",
        b"GET /",
        post("/", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\nX: ",
        post("/", "Transfer-Encoding: chunked") + b"1;",
    ],
    ids=["header", "line", "trailer", "chunk-extension"],
)
def test_an_endless_head_is_431_at_once(port: int, begin: bytes) -> None:
    connection = Connection(port, begin)
    began = time.perf_counter()
    sent = 0
    try:
        while sent < 64 * 2**20:
            connection.send(b"a" * 2**16)
            sent += 2**16
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert sent < 2**22
    assert time.perf_counter() - began < 5
    assert Connection(port, GET).status() == 200


def test_many_small_headers_are_431(port: int) -> None:
    connection = Connection(port, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 14_000)
    assert connection.status() == 431
    assert connection.is_closed()


def test_what_takes_too_long_is_408_and_what_never_began_is_closed(port: int) -> None:
    slow = [
        Connection(port, b"GET / HTTP/1.1\r\nHost: x\r\n"),
        Connection(port, post("/", "Content-Length: 10") + b"12345"),
    ]
    silent, early = Connection(port), Connection(port, post("/early", "Content-Length: 10"))
    assert early.status() == 200
    for connection in slow:
        assert connection.status() == 408
        assert connection.is_closed()
    assert silent.status() is None
    assert early.is_closed()


def test_a_body_that_keeps_coming_has_time(port: int) -> None:
    connection = Connection(port, post("/", "Content-Length: 60000"))
    for _ in range(12):
        connection.send(b"x" * 5000)
        time.sleep(0.1)
    assert connection.status() == 200


def test_one_unfinished_too_many_closes_the_oldest(port: int) -> None:
    held = [Connection(port, b"GET / HTTP/1.1\r\n") for _ in range(20)]
    time.sleep(0.1)
    assert Connection(port, GET).status() == 200
    assert held[0].status() == 408
    held[-1].send(b"Host: x\r\n\r\n")
    assert held[-1].status() == 200
