"""A client of a server of our own, whose waits are noted instead of waited."""

import threading
from collections.abc import Iterator

import pytest

from takestream.client.client import Client
from tests.takestream.client.server import KEY, Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client meant to wait."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


@pytest.fixture
def client(server: Server, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.delenv("TAKESTREAM_URL", raising=False)
    with Client(f"http://127.0.0.1:{server.server_port}/", KEY, timeout=20) as client:
        yield client
