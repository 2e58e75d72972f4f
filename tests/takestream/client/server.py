"""A server that answers as the service does, and as a hostile network does."""

import http.server
import io
import json
from typing import Any

import numpy as np

from takestream.protocol import PROBLEM

KEY = "ts_verysecret"
Answer = tuple[int, dict[str, str], bytes] | str


class Server(http.server.ThreadingHTTPServer):
    """Gives the `answers` in their order; `seen` is what was asked: (line, headers, body).

    `ports` are those that asked.

    An answer is (status, headers, body) or one of: "drop", the connection closes without a word.
    A header `X-Cut` makes it promise more than it sends.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.ports: list[int] = []

    def handle_error(self, *_: object) -> None:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((f"{self.command} {self.path}", headers, body))
        self.server.ports.append(self.client_address[1])
        given = self.server.answers.pop(0)
        if isinstance(given, str):
            self.close_connection = True
            return
        status, extra, data = given
        self.send_response(status)
        extra = dict(extra)
        cut = extra.pop("X-Cut", None)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) + (100 if cut else 0)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = cut is not None

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


def plain(value: Any, status: int = 200, **headers: str) -> Answer:
    return status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()


def problem(status: int, detail: str | None = None, **headers: str) -> Answer:
    body = {"type": "about:blank", "title": "Title", "status": status, "request_id": "r1"}
    body |= {"detail": detail} if detail else {}
    return status, {"Content-Type": PROBLEM, **headers}, json.dumps(body).encode()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def clips_2_to_4(**changes: Any) -> dict[str, Any]:
    """What the service answers for the last clips of test_reader's store."""
    clip = np.arange(1, 3)
    attributes = {"take": {"take_uid": "uid-1", "take_name": "cmu_bike01_2"}, "problems": {}}
    return {
        "features": np.ones((2, 2, 4), np.float16),
        "valid": np.ones((2, 2), bool),
        "reason": np.zeros((2, 2), np.uint8),
        "frame_time": np.zeros((2, 2)),
        "clip": clip,
        "start_frame": clip * 16,
        "stop_frame": clip * 16 + 32,
        "start_time": clip * 0.5,
        "end_time": clip * 0.5 + 1,
        "stream": np.array(["aria01_rgb", "cam01_0"]),
        "attributes": np.array(json.dumps(attributes)),
    } | changes


def job(status: str = "running", **more: Any) -> dict[str, Any]:
    return {"job_id": "j1", "status": status, "spec": {"encoder": "x"}, "later": 1, **more}


def event(number: int, name: str, value: dict[str, Any]) -> bytes:
    return f"event: {name}\r\nid: {number}\r\ndata: {json.dumps(value)}\r\n\r\n".encode()
