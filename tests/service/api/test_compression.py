"""What is compressed on its way, and what is not."""

import asyncio
import zlib
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from service.api.features import KINDS
from service.api.operation import PAGE
from tests.service.api.test_api import FEATURES, client, root
from tests.service.api.test_jobs import JOB, Engine, client_of, record

__all__ = ["client", "root"]

GZIP = {"Accept-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("kind", "compressed"), list(zip(KINDS, (True, False, False, True), strict=True))
)
def test_features_as_text_are_compressed_and_as_numbers_not(
    client: TestClient, kind: str, compressed: bool
) -> None:
    plain = client.get(FEATURES, headers={"Accept": kind, "Accept-Encoding": "identity"})
    packed = client.get(FEATURES, headers={"Accept": kind, **GZIP})
    assert packed.content == plain.content
    assert packed.headers["etag"] == plain.headers["etag"]
    assert "content-encoding" not in plain.headers
    assert packed.headers.get("content-encoding") == ("gzip" if compressed else None)
    assert ("Accept-Encoding" in packed.headers["vary"]) == compressed
    if compressed and "content-length" in packed.headers:
        assert int(packed.headers["content-length"]) < len(plain.content) / 2


def test_the_page_is_compressed_and_a_small_answer_stays_as_it_is(client: TestClient) -> None:
    found = client.get("/", headers=GZIP)
    assert found.headers["content-encoding"] == "gzip"
    assert found.text == (PAGE / "index.html").read_text()
    assert "content-encoding" not in client.get("/healthz", headers=GZIP).headers


def test_events_are_sent_as_they_are(tmp_path: Path) -> None:
    engine = Engine()
    engine.calls = [[record(error="x" * 2000), record("succeeded")]]
    events = client_of(tmp_path, engine).get(f"{JOB}/events", headers=GZIP)
    assert events.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in events.headers


def test_lines_come_when_they_are_ready_though_compressed(client: TestClient) -> None:
    """Each piece of the answer can be read before the next one is made."""
    app: Any = client.app
    sent: list[bytes] = []

    async def receive() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    headers = [
        (b"host", b"localhost"),
        (b"accept", KINDS[3].encode()),
        (b"accept-encoding", b"gzip"),
    ]
    scope = {"type": "http", "method": "GET", "path": FEATURES, "query_string": b"",
             "headers": headers, "client": None}  # fmt: skip
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 10))
    unpacking = zlib.decompressobj(wbits=31)
    pieces = [unpacking.decompress(body) for body in sent if body]
    assert len(pieces) > 2
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
