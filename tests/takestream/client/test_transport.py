"""Requests on a hostile network: tries, waits, errors, keys and proxies."""

import logging
import multiprocessing

import pytest

from takestream import errors
from takestream.client.client import Client
from takestream.client.proxies import proxy_of
from tests.takestream.client.server import KEY, Server, plain, problem


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthorised),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (413, errors.TooLarge),
        (422, errors.InvalidRequest),
        (409, errors.InvalidRequest),
        (500, errors.ServiceFault),
    ],
)
def test_problems_are_typed_and_say_what_the_service_says(
    server: Server, client: Client, status: int, kind: type[errors.TakestreamError]
) -> None:
    server.answers = [problem(status, "no take 'x'; did you mean 'y'?"), problem(status)]
    with pytest.raises(kind, match="did you mean 'y'") as caught:
        client.take("x")
    assert (caught.value.status, caught.value.request_id) == (status, "r1")
    with pytest.raises(kind, match=rf"/v1/takes/x was answered by: {status} .*\(Title\)"):
        client.take("x")
    assert len(server.seen) == 2


def test_moments_of_failure_are_tried_again(
    server: Server, client: Client, waits: list[float]
) -> None:
    cut = (200, {"Content-Type": "application/json", "X-Cut": "1"}, b'{"encoders": [')
    page = (502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>")
    server.answers = [problem(429, "busy", **{"Retry-After": "7"}), page, "drop", cut]
    server.answers.append(plain({"encoders": [{"name": "clip", "dim": 512, "joint": True}]}))
    assert [(e.name, e.dim, e.joint) for e in client.encoders()] == [("clip", 512, True)]
    assert 7 <= waits[0] <= 10.5
    assert len(waits) == 4


def test_tries_are_bounded(server: Server, client: Client, waits: list[float]) -> None:
    server.answers = [problem(503, "queue full", **{"Retry-After": "1"})] * 5
    with pytest.raises(errors.Unavailable, match="queue full") as caught:
        client.encoders()
    assert (caught.value.retry_after, len(waits)) == (1, 4)
    waits.clear()
    far = {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}
    server.answers = [problem(503, "credentials expired", **far)]
    with pytest.raises(errors.Unavailable, match="expired"):
        client.encoders()
    server.answers = [(503, {"Content-Type": "text/html", "Retry-After": "x"}, b"<p>")] * 5
    with pytest.raises(errors.Unavailable, match="503 Service Unavailable"):
        client.encoders()
    server.answers = [(200, {"X-Cut": "1"}, b"{")] * 5
    with pytest.raises(errors.TornAnswer, match="broke off"):
        client.encoders()
    with Client("http://127.0.0.1:9", timeout=5) as nobody, pytest.raises(errors.ConnectionFailed):
        nobody.encoders()


def test_a_busy_key_is_patient(server: Server, client: Client, waits: list[float]) -> None:
    server.answers = [problem(429, "busy", **{"Retry-After": "0"})] * 6 + [plain({"encoders": []})]
    assert client.encoders() == []
    server.answers = [problem(429, "busy")] * 9
    with pytest.raises(errors.TooManyRequests):
        client.encoders()
    assert len(server.seen) == 7 + 5


def test_a_forked_process_has_its_own_connection(server: Server, client: Client) -> None:
    server.answers = [plain({"encoders": []})] * 4
    client.encoders()
    client.encoders()
    forked = multiprocessing.get_context("fork").Process(target=client.encoders)
    forked.start()
    forked.join(20)
    client.encoders()
    first, second, child, last = server.ports
    assert first == second == last != child


def test_proxies(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.answers = [plain({"encoders": []})]
    with Client(f"http://127.0.0.1:{server.server_port}") as client:
        assert client.encoders() == []
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    with pytest.raises(ValueError, match=r"proxy .* cannot be used: .*NO_PROXY=gpu\.lab"):
        Client("http://gpu.lab:8000")


NO_PROXY = (
    "localhost, ::1,[::1],fd00::/8,10.0.0.0/8,.lab,*.org,name.net:8000,[fe80::1]:80,http://x.y"
)


@pytest.mark.parametrize(
    ("host", "without"),
    [
        ("[::1]:8000", True),
        ("[fd00::7]:8000", True),
        ("[fc00::7]:8000", False),
        ("[fe80::1]:80", True),
        ("[fe80::1]:8000", False),
        ("10.1.2.3:8000", True),
        ("11.1.2.3:8000", False),
        ("gpu.lab:8000", True),
        ("gpulab:8000", False),
        ("a.b.org:8000", True),
        ("name.net:8000", True),
        ("name.net:8001", False),
        ("x.y:8000", True),
        ("127.0.0.1:8000", True),
    ],
)
def test_no_proxy_as_curl_reads_it(
    host: str, without: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "proxy.lab:3128")
    monkeypatch.setenv("no_proxy", NO_PROXY)
    assert proxy_of(f"http://{host}") == (None if without else "http://proxy.lab:3128")
    Client(f"http://{host}").close()
    monkeypatch.setenv("no_proxy", "*")
    assert proxy_of(f"http://{host}") is None


def test_what_goes_through_a_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "[::1],fd00::/8")
    server.answers = [plain({"encoders": []})]
    with Client("http://gpu.lab:8000") as client:
        assert client.encoders() == []
    assert server.seen[0][1]["host"] == "gpu.lab:8000"


def test_the_key_is_shown_nowhere(
    server: Server,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TAKESTREAM_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("TAKESTREAM_URL", client.url)
    server.answers = [problem(401, "unknown key")]
    with Client() as from_environment, pytest.raises(errors.Unauthorised) as caught:
        from_environment.encoders()
    assert server.seen[0][1]["authorization"] == f"Bearer {KEY}"
    shown = [repr(client), str(caught.value), repr(caught.value), caplog.text]
    with pytest.raises(ValueError, match="no API key") as wrong:
        Client(client.url, key=f"{KEY}\nX-Evil: 1")
    assert not [text for text in (*shown, str(wrong.value)) if KEY in text]
    for url in ("ftp://host", "host:8000", f"http://me:{KEY}@host", ""):
        monkeypatch.delenv("TAKESTREAM_URL", raising=False)
        with pytest.raises(ValueError) as refused:
            Client(url)
        assert KEY not in str(refused.value)
