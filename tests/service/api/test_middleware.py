"""What every request meets, whatever it asks for: who is answered, errors, methods, limits."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from ray.exceptions import RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from starlette.types import Message

from configs.load import parse
from configs.schema import ServeSpec
from service.api import middleware as edge
from service.api.app import create_app
from service.api.context import ApiContext
from service.api.keys import KeyEntry, KeyRing
from service.engine.client import ServeEngineClient
from workers.store.errors import StoreError


class Engine:
    """A Serve handle that answers every call by raising, or with, `outcome`."""

    def __init__(self, outcome: Any = None) -> None:
        self.outcome = outcome

    def __getattr__(self, name: str) -> Any:
        return self

    async def remote(self, *_: object) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Served:
    """An app with a data set of one take, seen from a client and from within."""

    def __init__(self, root: Path, keys: KeyRing | None = None, **more: object) -> None:
        (root / "data").mkdir(exist_ok=True)
        videos = {"cam01": {"0": {"relative_path": "cam.mp4"}}}
        entry = {"take_uid": "uid-1", "take_name": "one", "frame_aligned_videos": videos}
        (root / "data" / "takes.json").write_text(json.dumps([entry]))
        job = {"dataset": str(root / "data"), "output": str(root / "out")}
        self.engine = Engine()
        self.context = ApiContext(
            parse(ServeSpec, {"job": job, **more}, "test"),
            keys,
            b"secret",
            ServeEngineClient(self.engine),
        )
        self.app = create_app(self.context)
        self.client = self.client_at()

    def client_at(self, url: str = "http://localhost", address: str = "127.0.0.1") -> TestClient:
        return TestClient(self.app, url, client=(address, 1234), raise_server_exceptions=False)

    def count(self, name: str, **labels: str) -> float:
        return self.context.metrics.registry.get_sample_value(name, labels) or 0

    def errors(self, kind: str) -> float:
        return self.count("takestream_errors_total", kind=kind)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def raising(error: Exception) -> Callable[..., Any]:
    def act(*_: object) -> Any:
        raise error

    return act


@pytest.mark.parametrize(
    "error",
    [
        RayServeException("x"),
        BackPressureError(1, 1),
        ReplicaUnavailableError("Engine#abc"),
        DeploymentUnavailableError.__new__(DeploymentUnavailableError),
        ConnectionResetError(),
    ],
)
def test_an_engine_that_is_away_is_worth_another_try(served: Served, error: Exception) -> None:
    served.engine.outcome = error
    answer = served.client.get("/v1/jobs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    ready = served.client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]) == (503, {"engine": "does not answer"})
    assert "takestream_engine_up 0.0" in served.client.get("/metrics").text


def test_what_the_engine_raised_is_told_without_ray_s_account_of_it(served: Served) -> None:
    for cause, words in ((StoreError("cannot list s3://b/x"), "cannot list s3://b/x"),
                         (ValueError("secret"), "a fault of takestream")):  # fmt: skip
        task = RayTaskError("Engine.job_list", 'File "/srv/x.py", line 1', cause)
        served.engine.outcome = task.as_instanceof_cause()
        answer = served.client.get("/v1/jobs")
        assert answer.status_code == (503 if isinstance(cause, StoreError) else 500)
        assert answer.json()["detail"].startswith(words)
        for leak in ("/srv", "pid=", "\x1b", "secret"):
            assert leak not in answer.text


def test_a_fault_is_answered_and_counted_as_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.context.catalogue, "take", raising(RuntimeError("/srv/secret")))
    answer = served.client.get("/v1/takes/one", headers={"X-Request-ID": "mine-1"})
    assert (answer.status_code, answer.json()["request_id"]) == (500, "mine-1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in answer.text
    labels = {"route": "/v1/takes/{take}", "method": "GET", "status": "500"}
    assert served.count("takestream_requests_total", **labels) == 1
    assert (served.errors("fault"), served.errors("client_gone")) == (1, 0)


@pytest.mark.parametrize(
    ("error", "kind"), [(StoreError("gone"), "store"), (RuntimeError("x"), "fault")]
)
def test_what_fails_in_the_middle_of_an_answer_is_counted(
    served: Served, error: Exception, kind: str
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"some"
        raise error

    served.app.add_route("/half", lambda _: StreamingResponse(body()))
    assert served.client.get("/half").status_code in (200, 500)  # torn, which this client hides
    assert served.errors(kind) == 1


def test_half_a_character_is_no_fault(served: Served) -> None:
    headers = {"Content-Type": "application/json"}
    for path, text in (("/v1/jobs", '{"\\ud800": 1}'), ("/v1/jobs", '{"rotate": {"\\ud800": 90}}'),
                       ("/v1/search", '{"take": "\\ud800", "text": "a"}')):  # fmt: skip
        assert served.client.post(path, content=text, headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/takes/one/streams/cam01_0/video", "GET, HEAD"),
        ("POST", "/v1/takes/one", "GET, HEAD"),
        ("PATCH", "/v1/jobs", "GET, HEAD, POST"),
        ("GET", "/v1/search", "POST"),
        ("OPTIONS", "/v1/jobs/20261124-000000-abcdef", "GET, HEAD, DELETE"),
        ("POST", "/", "GET, HEAD"),
        ("PUT", "/static/app.js", "GET, HEAD"),
        ("MADEUP", "/healthz", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    served: Served, method: str, path: str, allowed: str
) -> None:
    answer = served.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert "MADEUP" not in served.client.get("/metrics").text


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/metrics", "/v1/encoders", "/v1/takes", "/v1/takes/one"]
)
def test_head_is_get_without_the_body(served: Served, path: str) -> None:
    served.engine.outcome = ConnectionResetError()
    found, head = served.client.get(path), served.client.head(path)
    assert head.status_code == found.status_code
    assert head.headers["content-type"] == found.headers["content-type"]
    assert head.content == b""


@pytest.mark.parametrize(
    ("host", "address", "let_in"),
    [
        ("localhost", "127.0.0.1", True),
        ("LOCALHOST:8000", "127.0.0.53", True),
        ("127.0.0.1:8000", "::1", True),
        ("[::1]:8000", "::ffff:127.0.0.1", True),
        ("localhost", "10.0.0.7", False),
        ("localhost", "fe80::1", False),
        ("evil.example", "127.0.0.1", False),
        ("evil.example:8000", "127.0.0.1", False),
        ("10.0.0.7", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("[::2]", "127.0.0.1", False),
        ("127.0.0.1@evil.example", "127.0.0.1", False),
    ],
)
def test_without_keys_only_this_machine_is_answered(
    tmp_path: Path, served: Served, host: str, address: str, let_in: bool
) -> None:
    client = served.client_at(address=address)
    answer = client.get("/v1/takes", headers={"Host": host})
    assert answer.status_code == (200 if let_in else 403)
    if not let_in:
        assert "takestream keys new" in answer.json()["detail"]
    assert client.get("/healthz", headers={"Host": host}).status_code == 200
    entry = KeyEntry(name="ann", sha256="0" * 64, scopes=("read",))
    for context, status in ((Served(tmp_path, insecure=True), 200),
                         (Served(tmp_path, KeyRing([entry])), 401)):  # fmt: skip
        client = context.client_at(address=address)
        assert client.get("/v1/takes", headers={"Host": host}).status_code == status


def test_a_reader_that_stops_reading_is_let_go(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "STALLED_SECONDS", 0.05)
    sent: list[str] = []

    async def receive() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    for spec_version in ("2.0", "2.4"):
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": spec_version},
            "http_version": "1.1", "method": "GET", "path": "/v1/takes", "raw_path": b"/v1/takes",
            "query_string": b"", "root_path": "", "scheme": "http", "client": None,
            "server": ("localhost", 80), "headers": [(b"host", b"localhost")],
        }  # fmt: skip
        asyncio.run(asyncio.wait_for(served.app(scope, receive, send), 10))
    assert sent == ["http.response.start", "http.response.body"] * 2
    assert served.errors("stalled") == 2
    assert not any(served.context._under_way.values())


def test_what_lasts_is_counted_apart(served: Served) -> None:
    context, client = served.context, served.client
    nobody = context.authenticate(None, "read")  # type: ignore[arg-type]
    held = [context.counted(nobody, "videos") for _ in range(64)]
    for one in held:
        one.__enter__()
    url = "/v1/takes/one/streams/cam01_0/video"
    refused = client.get(url)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert client.get("/v1/takes").status_code == 200
    for one in held:
        one.__exit__(None, None, None)
    assert client.get(url).status_code == 404  # past the context: there is no such file


def test_other_origins_may_read_what_scripts_need(tmp_path: Path) -> None:
    client = Served(tmp_path, cors_origins=["https://lab.example"]).client
    answer = client.get("/v1/takes", headers={"Origin": "https://lab.example"})
    shown = answer.headers["access-control-expose-headers"]
    for name in ("Cache-Status", "X-Takestream-Encoder-Id", "Retry-After", "ETag"):
        assert name in shown
