"""The client against a server that answers as the service does, and as a hostile network does."""

import http.server
import io
import json
import logging
import multiprocessing
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import takestream
from takestream import errors
from takestream.client.client import Client
from takestream.client.jobs import Job, JobState
from takestream.schema import Reason
from tests.support.stores import make_store

NPZ, NDJSON, SSE = "application/x-npz", "application/x-ndjson", "text/event-stream"
PROBLEM = "application/problem+json"
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


def test_features_are_like_an_opened_store(server: Server, client: Client, tmp_path: Path) -> None:
    headers = {
        "Content-Type": NPZ,
        "X-Takestream-Clips": "cached=3; computed=1",
        "X-Takestream-Encoder-Id": "videomae-0123456789",
        "X-Request-ID": "r7",
    }
    server.answers = [(200, headers, npz(**clips_2_to_4()))]
    ds = client.features("cmu bike/01", start=1, end=2.5, streams="aria*", encoder="videomae")
    line, sent, _ = server.seen[0]
    assert line == (
        "GET /v1/takes/cmu%20bike%2F01/features?start=1&end=2.5&streams=aria%2A&encoder=videomae"
    )
    assert (sent["accept"], sent["authorization"]) == (NPZ, f"Bearer {KEY}")
    assert ds.encoding == {
        "clips_cached": 3,
        "clips_computed": 1,
        "encoder_id": "videomae-0123456789",
        "request_id": "r7",
    }
    opened = takestream.open(make_store(tmp_path, "e", "uid-1", "cmu_bike01_2"))
    there = opened.isel(clip=slice(1, 3)).load()
    there.attrs = {name: there.attrs[name] for name in ds.attrs}
    for values in (*there.variables.values(), *ds.variables.values()):
        for key, value in values.attrs.items():  # a store gives flag_values back as an array
            values.attrs[key] = np.asarray(value).tolist()
    assert ds.drop_vars("clip").identical(there)
    assert ds.sel(clip=2).start_time == 1


def test_what_is_no_npz_of_ours_is_refused(server: Server, client: Client) -> None:
    kind = {"Content-Type": NPZ}
    pickled = npz(**clips_2_to_4(stream=np.array(["aria01_rgb", {"a": 1}], dtype=object)))
    server.answers = [
        (200, kind, pickled),
        (200, kind, npz(features=np.ones(3))),
        (200, kind, npz(**clips_2_to_4(valid=np.ones((5, 2), bool)))),
        (200, {"Content-Type": "text/html"}, b"<h1>Welcome to the hotel's network</h1>"),
        (200, kind, npz(**clips_2_to_4())[:-30]),
        (302, {"Location": "https://elsewhere"}, b""),
    ]
    torn = "broke off"
    for words in ("plain arrays", "fit together", "fit together", "text/html", torn, "elsewhere"):
        with pytest.raises(errors.UnexpectedAnswer, match=words) as caught:
            client.features("t")
        assert isinstance(caught.value, errors.TornAnswer) == (words == torn)


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


def test_a_job_is_not_submitted_twice(server: Server, client: Client) -> None:
    for answer in ("drop", problem(503, "storage away", **{"Retry-After": "0"})):
        server.seen.clear()
        server.answers = [answer]
        with pytest.raises(errors.TakestreamError):
            client.submit()
        assert len(server.seen) == 1
    server.answers = [problem(429, "too many"), plain(job("queued"), 201)]
    started = client.submit({"encoder": "x", "select": {}}, encoder="y")
    assert (started.id, started.status, started.spec) == ("j1", "queued", {"encoder": "x"})
    assert json.loads(server.seen[-1][2]) == {"encoder": "y", "select": {}}


def test_what_takes_long_becomes_a_job(server: Server, client: Client) -> None:
    later = plain({"job_id": "j1", "url": "/v1/jobs/j1", "detail": "2 are missing"}, 202)
    ready = (200, {"Content-Type": NPZ}, npz(**clips_2_to_4()))
    server.answers = [later, plain(job()), plain(job()), plain(job("succeeded")), ready]
    assert client.features("t").sizes["clip"] == 2
    server.answers = [later, plain(job())]
    with pytest.raises(errors.StillComputing, match="2 are missing") as caught:
        client.features("t", wait=False)
    assert caught.value.job.id == "j1"
    failures = [{"take": "t", "stream": "cam01_0", "reason": "no video in it"}]
    server.answers = [later, plain(job()), plain(job("failed", failures=failures))]
    server.answers += [later, plain(job())]
    with pytest.raises(errors.JobFailed, match="failed: t cam01_0: no video") as failed:
        client.features("t")
    assert failed.value.job.failures[0].stream == "cam01_0"
    # It failed elsewhere: what is asked for is there. And the service was away for a while.
    away = problem(503, "starts", **{"Retry-After": "60"})
    server.answers = [later, plain(job()), away, "drop", plain(job("failed")), ready]
    assert client.features("t").sizes["clip"] == 2
    server.answers = [later, plain(job("succeeded")), plain(job("succeeded"))] * 4
    with pytest.raises(errors.ServiceFault, match="3 jobs in a row"):
        client.features("t")


def of_take(number: int, status: str) -> list[Answer]:
    """A job of one take, from the answer that names it to its end."""
    name = f"j{number}"
    now = plain(job(status, spec={"select": {"uids": [f"uid-{number}"]}}) | {"job_id": name})
    return [plain({"job_id": name}, 202), now, now]


def test_each_take_of_a_request_may_need_its_own_job(server: Server, client: Client) -> None:
    ready: Answer = (200, {"Content-Type": NPZ}, npz(**clips_2_to_4()))
    one_each = [answer for number in range(6) for answer in of_take(number, "succeeded")]
    server.answers = [*one_each, ready]
    segments = [(f"uid-{number}", 0, 1) for number in range(6)]
    assert client.segments(segments).sizes["segment"] == 2
    # What failed for one take is no reason to leave another.
    server.answers = [*of_take(1, "failed"), *of_take(2, "succeeded"), ready]
    assert client.segments(segments).sizes["segment"] == 2
    server.answers = [*of_take(1, "failed"), *of_take(2, "succeeded"), *of_take(1, "running")[:2]]
    with pytest.raises(errors.JobFailed, match="job j1 failed"):
        client.segments(segments)


def stream_lines() -> list[bytes]:
    head = {"attributes": {"task": "a\u2028b"}, "stream": ["a", "b"], "clip": [4, 5]}
    head |= {"start_time": [2.0, 2.5], "end_time": [3.0, 3.5]}
    rows = [
        {"clip": c, "stream": s, "valid": s == "a", "reason": 0 if s == "a" else 4,
         "frame_time": 2.0 if s == "a" else None, "features": [1, 2] if s == "a" else None}
        for s in "ab" for c in (5, 4)
    ]  # fmt: skip
    end = {"end": True, "clips": 4, "cached": 3, "computed": 1}
    return [json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in (head, *rows, end)]


def test_clips_as_they_are_ready(server: Server, client: Client) -> None:
    server.answers = [(200, {"Content-Type": NDJSON}, b"".join(stream_lines()))]
    with client.iter_features("t", streams=["a", "b"]) as stream:
        assert (stream.streams, stream.clips) == (["a", "b"], [4, 5])
        assert stream.attributes == {"task": "a\u2028b"}
        found = list(stream)
    assert server.seen[0][0].endswith("features?streams=a&streams=b")
    assert [(f.clip, f.stream, f.start_time) for f in found[:2]] == [(5, "a", 2.5), (4, "a", 2.0)]
    assert found[0].features is not None
    assert found[0].features.tolist() == [1, 2]
    assert (found[2].features, found[2].reason, found[2].frame_time) == (
        None,
        Reason.PAST_END,
        None,
    )
    assert (stream.cached, stream.computed) == (3, 1)
    server.answers = [(200, {"Content-Type": NDJSON}, b"".join(stream_lines()))]
    with client.iter_features("t") as stream:
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda lines: b"".join(lines[:-1]), errors.TornAnswer),
        (lambda lines: b"".join(lines)[:-5], errors.TornAnswer),
        (lambda lines: b"".join([*lines[:3], lines[-1]]), errors.TornAnswer),
        (lambda lines: lines[0] + lines[1][:20], errors.TornAnswer),
        (lambda lines: b"", errors.TornAnswer),
        (lambda lines: lines[0] + b'{"clip": 99}\n', errors.UnexpectedAnswer),
        (lambda lines: b"[]\n", errors.UnexpectedAnswer),
        (lambda lines: lines[0] + b'{"error": {"status": 503, "detail": "d"}}\n',
         errors.Unavailable),
        (lambda lines: lines[0] + b'{"error": "d"}\n', errors.ServiceFault),
    ],
)  # fmt: skip
def test_a_torn_stream_is_an_error(
    server: Server,
    client: Client,
    damage: Callable[[list[bytes]], bytes],
    kind: type[errors.TakestreamError],
) -> None:
    server.answers = [(200, {"Content-Type": NDJSON}, damage(stream_lines()))]
    with pytest.raises(kind):
        list(client.iter_features("t"))
    server.answers = [(200, {"Content-Type": NDJSON, "X-Cut": "1"}, b"".join(stream_lines()[:-1]))]
    with pytest.raises(errors.TornAnswer, match="broke off"):
        list(client.iter_features("t"))


def test_segments(server: Server, client: Client, tmp_path: Path) -> None:
    arrays = {
        "features": np.ones((2, 1, 4), np.float32),
        "valid": np.array([[True], [False]]),
        "take": np.array(["t", "u"]),
        "start_time": np.array([0.0, 1.0]),
        "end_time": np.array([2.0, 3.0]),
        "stream": np.array(["a"]),
        "step_id": np.array([7, 9]),
        "attributes": np.array("{}"),
    }
    server.answers = [(200, {"Content-Type": NPZ}, npz(**arrays))] * 2
    ds = client.segments([("t", 0, 2), {"take": "u", "start": 1, "end": 3}], encoder="x")
    assert json.loads(server.seen[0][2]) == {
        "segments": [{"take": "t", "start": 0, "end": 2}, {"take": "u", "start": 1, "end": 3}],
        "encoder": "x",
    }
    assert dict(ds.sizes) == {"segment": 2, "stream": 1, "feature": 4}
    assert set(ds.coords) == {"take", "start_time", "end_time", "stream", "step_id"}
    assert ds.take.values.tolist() == ["t", "u"]
    annotation = {"annotations": {"t": {"segments": [{"start_time": 0, "end_time": 2}]}}}
    path = tmp_path / "keystep.json"
    path.write_text(json.dumps(annotation))
    client.segments(path, streams="a")
    assert json.loads(server.seen[1][2]) == {**annotation, "streams": ["a"]}


def test_search(server: Server, client: Client) -> None:
    moments = [
        {"clip": 3, "start_time": 1.5, "end_time": 2.5, "score": 0.4},
        {"clip": 1, "start_time": 0.5, "end_time": 1.5, "score": 0.1, "more": 1},
    ]
    streams = [{"stream": "a", "moments": moments}, {"stream": "b", "moments": moments[:1]}]
    answer = {"encoder_id": "clip-1", "query": {"text": "a wheel"}, "streams": streams}
    server.answers = [plain(answer), plain(answer), plain(answer), plain({"streams": []})]
    found = client.search("t", text="a wheel", top=2)
    assert [(m.stream, m.clip) for m in found.best] == [("a", 3), ("b", 3), ("a", 1)]
    client.search("t", image=b"jpeg")
    client.search("t", moment=("a", 1.5))
    bodies = [json.loads(body) for _, _, body in server.seen]
    assert bodies[0] == {"take": "t", "top": 2, "text": "a wheel"}
    assert (bodies[1]["image"], bodies[2]["moment"]) == ("anBlZw==", {"stream": "a", "time": 1.5})
    with pytest.raises(errors.UnexpectedAnswer):
        client.search("t", text="a")
    with pytest.raises(ValueError, match="one of them"):
        client.search("t", text="a", image=b"b")


def test_numbers_of_numpy_and_xarray(server: Server, client: Client) -> None:
    ready: Answer = (200, {"Content-Type": NPZ}, npz(**clips_2_to_4()))
    server.answers = [ready, ready, plain(job())]
    client.features("t", start=xarray.DataArray(3.0), end=np.float32(4))  # type: ignore[arg-type]
    assert server.seen[-1][0].endswith("features?start=3.0&end=4.0")
    client.segments([{"take": "t", "start": np.int64(1), "end": xarray.DataArray(2.5)}])
    assert json.loads(server.seen[-1][2]) == {"segments": [{"take": "t", "start": 1, "end": 2.5}]}
    client.submit(grid={"stride": np.int64(3)})
    assert json.loads(server.seen[-1][2]) == {"grid": {"stride": 3}}
    for wrong in ({"grid": {"fps": float("nan")}}, {"select": {"uids": {"a"}}}):
        with pytest.raises(ValueError, match="cannot be sent as JSON"):
            client.submit(wrong)
    with pytest.raises(ValueError, match="chooses none"):
        client.features("t", streams=[])
    assert len(server.seen) == 3


def test_takes_come_page_by_page(server: Server, client: Client) -> None:
    names = [f"take{number}" for number in range(5)]
    records = [{"take_uid": f"u-{name}", "take_name": name, "streams": ["a"]} for name in names]
    server.answers = [plain({"total": 5, "takes": records[:3]})]
    server.answers += [plain({"total": 5, "takes": records[3:]})]
    takes = client.takes(task="bike")
    assert next(takes).take_uid == "u-take0"
    assert [line for line, _, _ in server.seen] == ["GET /v1/takes?task=bike&limit=200&offset=0"]
    assert [take.take_name for take in takes] == names[1:]
    assert server.seen[-1][0].endswith("offset=3")
    store = {"encoder_id": "x-1", "uri": "s3://b/x", "status": "partial", "clips": 3}
    details = records[0] | {"streams": [{"key": "a", "is_ego": True}], "stores": [store]}
    server.answers = [plain(details), plain({"detail": "not a take"})]
    take = client.take("take0")
    assert (take.streams[0].is_ego, take.stores[0].status) == (True, "partial")
    with pytest.raises(errors.UnexpectedAnswer):
        client.take("take0")


def test_events_go_on_where_they_broke_off(server: Server, client: Client) -> None:
    half = {"clips": 10, "clips_done": 5}
    first = b": hello\r\n\r\n" + event(1, "progress", job()) + event(2, "progress", job())[:-9]
    second = event(2, "progress", job(progress=half)) + event(3, "end", job("succeeded"))
    server.answers = [
        plain(job("queued")),
        (200, {"Content-Type": SSE, "X-Cut": "1"}, first),
        "drop",
        (200, {"Content-Type": SSE}, second),
    ]
    found = client.job("j1")
    states = list(found.events())
    assert [state.status for state in states] == ["running", "running", "succeeded"]
    assert states[1].progress == half
    assert [headers.get("last-event-id") for _, headers, _ in server.seen[1:]] == [None, "1", "1"]
    assert found.status == "succeeded"
    server.answers = [(200, {"Content-Type": SSE}, b"")] * 5
    with pytest.raises(errors.ConnectionFailed, match="broke off 5 times"):
        list(found.events())
    server.answers = [plain(job())]
    with pytest.raises(errors.UnexpectedAnswer, match="no stream of events"):
        list(found.events())


def test_events_that_bring_nothing_new_end(server: Server, client: Client) -> None:
    same: Answer = (200, {"Content-Type": SSE}, event(1, "progress", job()))
    server.answers = [same] * 20
    found = Job(client._transport, JobState("j1", "queued"))
    states = []
    with pytest.raises(errors.ConnectionFailed, match="5 times in a row; the job goes on"):
        states.extend(found.events())
    assert (len(server.seen), len(states)) == (5, 1)
    # But a word now and then that the service is there is enough, however long it takes.
    server.answers = [(200, {"Content-Type": SSE}, event(1, "progress", job()) + b": here\n\n")] * 9
    server.answers.append((200, {"Content-Type": SSE}, event(2, "end", job("succeeded"))))
    assert [state.status for state in found.events()] == ["running", "succeeded"]


def test_events_of_a_service_that_stays_silent_end(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("takestream.client.jobs.SILENCE", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1000) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}") as client,
    ):
        found = Job(client._transport, JobState("j1", "queued"))
        with pytest.raises(errors.ConnectionFailed, match="5 times in a row"):
            list(found.events())
    assert len(waits) == 4


def test_wait_outlives_a_restart(
    server: Server, client: Client, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy: Answer = (404, {"Content-Type": "text/plain"}, b"Path '/v1/jobs/j1' not found.")
    cut: Answer = (200, {"Content-Type": "application/json", "X-Cut": "1"}, b'{"job_id": ')
    server.answers = ["drop", proxy, problem(500), cut, problem(503, "x", **{"Retry-After": "12"})]
    server.answers.append(plain(job("succeeded")))
    found = Job(client._transport, JobState("j1", "running"))
    assert found.wait().status == "succeeded"
    assert (len(server.seen), waits[-1]) == (6, 12)
    server.answers = [problem(404, "there is no job 'j1'")]
    with pytest.raises(errors.NotFound):
        found.wait()
    monkeypatch.setattr("takestream.client.jobs.AWAY", -1)
    server.answers = [proxy]
    with pytest.raises(errors.Unavailable, match="does the service start just now"):
        found.wait()


def test_wait_ends_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("takestream.client.jobs._LEAST", 0.1)
    later = problem(503, "queue full", **{"Retry-After": "12"})
    server.answers = [later] * 9
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{server.server_port}") as busy,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}") as dead,
        Client("http://127.0.0.1:9") as nobody,
    ):
        for client, why in ((busy, "queue full"), (dead, "no answer"), (nobody, "refused")):
            begun = time.monotonic()
            with pytest.raises(errors.JobTimeout, match=rf"is running after 0.3 s \(.*{why}"):
                Job(client._transport, JobState("j1", "running")).wait(timeout=0.3)
            assert 0.3 <= time.monotonic() - begun < 2


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


def test_client_jobs_and_errors_are_pickled(server: Server, client: Client) -> None:
    server.answers = [plain(job()), plain({"encoders": []})]
    found = client.job("j1")
    for error in (
        errors.JobFailed("failed", found, status=202),
        errors.Unavailable("away", status=503, retry_after=3, errors=("a",)),
    ):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(again), str(again), again.status) == (type(error), str(error), error.status)
    again = pickle.loads(pickle.dumps(errors.StillComputing("later", found)))  # noqa: S301
    assert (again.job.id, again.job.state) == ("j1", found.state)
    unpickled = pickle.loads(pickle.dumps(client))  # noqa: S301
    assert unpickled.encoders() == []
    assert server.seen[-1][1]["authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{client!r} {vars(client)} {again.job!r}"


def test_proxies(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.answers = [plain({"encoders": []})]
    with Client(f"http://127.0.0.1:{server.server_port}") as client:
        assert client.encoders() == []
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    with pytest.raises(ValueError, match=r"proxy .* cannot be used: .*NO_PROXY=gpu\.lab"):
        Client("http://gpu.lab:8000")


def test_jobs(server: Server, client: Client) -> None:
    server.answers = [plain({"jobs": [job(), job("failed")]}), plain(job("stopping"), 202)]
    server.answers += [(200, {"Content-Type": "text/plain"}, b"one line\n")]
    running, _ = client.jobs(limit=2)
    assert running.stop().status == "stopping"
    assert running.logs() == "one line\n"
    lines = [line for line, _, _ in server.seen]
    assert lines == ["GET /v1/jobs?limit=2", "DELETE /v1/jobs/j1", "GET /v1/jobs/j1/logs"]
    server.answers = [plain(job())] * 3
    with pytest.raises(TimeoutError, match="is running after 0"):
        running.wait(timeout=0)


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
