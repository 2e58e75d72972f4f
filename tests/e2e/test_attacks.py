"""Strangers at the door of a real service with keys: an attack costs its own caller alone."""

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.api.keyfile import add_to_file
from service.api.keys import new_key
from tests.support.attacks import FEATURES, SECONDS, answered, attacks
from tests.support.serving import Serving, service

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

UNFINISHED = 1_500


class Guarded:
    """A service with keys.

    Attributes:
        serving: The service.
        key: May do everything.
        weak: May read.
        log: What it said.
    """

    def __init__(self, serving: Serving, key: str, weak: str, log: Path) -> None:
        self.serving, self.key, self.weak, self.log = serving, key, weak, log

    def healthy(self) -> None:
        """It answers, and serves an honest caller."""
        began = time.monotonic()
        assert httpx.get(f"{self.serving.url}/healthz", timeout=5).status_code == 200
        assert time.monotonic() - began < 1
        headers = {"Authorization": f"Bearer {self.key}", "Accept": "application/x-npz"}
        answer = httpx.get(
            f"{self.serving.url}{FEATURES}?start=0&end=1&streams=cam01_0",
            headers=headers,
            timeout=60,
        )
        assert answer.status_code == 200, answer.text

    def memory(self) -> int:
        """Bytes of the processes that listen and answer."""
        pids = [p for t in ("ProxyActor", "ServeReplica") for p in self.serving.pids(t)]
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
        return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def guarded(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("attacked")
    keys = root / "keys.yaml"
    key, entry = new_key("operator", ("read", "compute", "jobs"))
    add_to_file(entry, str(keys))
    weak, entry = new_key("reader", ("read",))
    add_to_file(entry, str(keys))
    log = root / "log"
    arguments = ("--dataset", example, "--output", root / "out", "--keys-file", keys)
    with service(log, dict(os.environ), *arguments) as serving:
        found = Guarded(serving, key, weak, log)
        found.healthy()
        yield found


def test_every_attack_is_refused_and_nothing_else_is_hurt(guarded: Guarded) -> None:
    before, tried, wrong = guarded.memory(), 0, list[str]()
    for attack in attacks(guarded.key, guarded.weak):
        began = time.monotonic()
        try:
            status, got = answered(guarded.serving.url, attack)
        except TimeoutError:
            status, got = -1, b"no answer in time"
        tried += 1
        bad = status not in attack.allowed or time.monotonic() - began > SECONDS
        told = b"Traceback" in got or guarded.key.encode() in got or b'File "' in got
        if bad or told:
            wrong.append(f"{attack.name}: {status} {got[:300]!r}")
        health = httpx.get(f"{guarded.serving.url}/healthz", timeout=5)
        if health.status_code != 200:
            wrong.append(f"after {attack.name}: /healthz {health.status_code}")
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong)
    assert tried >= 60
    guarded.healthy()
    assert guarded.memory() - before < 300 * 2**20
    said = guarded.log.read_text()
    assert guarded.key not in said
    assert "Traceback" not in said


def test_unfinished_requests_take_nobody_s_place(guarded: Guarded) -> None:
    parts = urlsplit(guarded.serving.url)
    where = (parts.hostname, parts.port)
    before = guarded.memory()
    begun = f"POST /v1/features HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {guarded.key}"
    starts = [
        b"",
        b"GET / HT",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\r\n",
        f"{begun}\r\nContent-Length: 8000000\r\n\r\n{{".encode(),
    ]
    held: list[socket.socket] = []
    try:
        for number in range(UNFINISHED):
            try:
                connection = socket.create_connection(where, timeout=5)  # type: ignore[arg-type]
                connection.sendall(starts[number % len(starts)])
            except OSError:
                continue
            held.append(connection)
            if number % 250 == 0:
                guarded.healthy()
        assert len(held) > UNFINISHED // 2  # most got as far as being unfinished
        guarded.healthy()
        assert guarded.memory() - before < 300 * 2**20
    finally:
        for connection in held:
            connection.close()
    guarded.healthy()


def test_streams_that_nobody_reads_are_let_go(guarded: Guarded) -> None:
    parts = urlsplit(guarded.serving.url)
    asked = (
        f"GET {FEATURES} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/x-ndjson\r\n"
        f"Authorization: Bearer {guarded.key}\r\n\r\n"
    ).encode()

    def hold(number: int) -> socket.socket:
        connection = socket.create_connection((str(parts.hostname), parts.port or 0), timeout=30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(asked)
        return connection

    with ThreadPoolExecutor(32) as pool:
        held = list(pool.map(hold, range(60)))
    try:
        began = time.monotonic()
        assert httpx.get(f"{guarded.serving.url}/healthz", timeout=5).status_code == 200
        assert time.monotonic() - began < 1
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + 60
    while True:  # the key's own requests under way end with their readers
        try:
            guarded.healthy()
            return
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(1)


def test_the_table_holds_each_attack_once() -> None:
    names = [attack.name for attack in attacks("k", "w")]
    assert len(set(names)) == len(names) >= 60
