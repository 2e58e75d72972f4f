"""Jobs from the client: asked for, followed, waited for."""

import json
import socket
import sys
import time

import pytest

from takestream import errors
from takestream.client.client import Client
from takestream.client.jobs import Job
from takestream.protocol import EVENTS, NPZ, JobState
from tests.takestream.client.server import (
    Answer,
    Server,
    clips_2_to_4,
    event,
    job,
    npz,
    plain,
    problem,
)


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


def test_events_go_on_where_they_broke_off(server: Server, client: Client) -> None:
    half = {"clips": 10, "clips_done": 5}
    first = b": hello\r\n\r\n" + event(1, "progress", job()) + event(2, "progress", job())[:-9]
    second = event(2, "progress", job(progress=half)) + event(3, "end", job("succeeded"))
    server.answers = [
        plain(job("queued")),
        (200, {"Content-Type": EVENTS, "X-Cut": "1"}, first),
        "drop",
        (200, {"Content-Type": EVENTS}, second),
    ]
    found = client.job("j1")
    states = list(found.events())
    assert [state.status for state in states] == ["running", "running", "succeeded"]
    assert states[1].progress == half
    assert [headers.get("last-event-id") for _, headers, _ in server.seen[1:]] == [None, "1", "1"]
    assert found.status == "succeeded"
    server.answers = [(200, {"Content-Type": EVENTS}, b"")] * 5
    with pytest.raises(errors.ConnectionFailed, match="broke off 5 times"):
        list(found.events())
    server.answers = [plain(job())]
    with pytest.raises(errors.UnexpectedAnswer, match="no stream of events"):
        list(found.events())


def test_events_that_bring_nothing_new_end(server: Server, client: Client) -> None:
    same: Answer = (200, {"Content-Type": EVENTS}, event(1, "progress", job()))
    server.answers = [same] * 20
    found = Job(client._transport, JobState("j1", "queued"))
    states = []
    with pytest.raises(errors.ConnectionFailed, match="5 times in a row; the job goes on"):
        states.extend(found.events())
    assert (len(server.seen), len(states)) == (5, 1)
    # But a word now and then that the service is there is enough, however long it takes.
    server.answers = [
        (200, {"Content-Type": EVENTS}, event(1, "progress", job()) + b": here\n\n")
    ] * 9
    server.answers.append((200, {"Content-Type": EVENTS}, event(2, "end", job("succeeded"))))
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


def test_jobs_are_asked_for_page_by_page(server: Server, client: Client) -> None:
    server.answers = [
        plain({"jobs": [job()] * 500, "next": "older"}), plain({"jobs": [job()] * 3, "next": None})
    ]  # fmt: skip
    assert len(client.jobs(limit=700, status="failed")) == 503
    assert [line for line, _, _ in server.seen] == [
        "GET /v1/jobs?status=failed&limit=500",
        "GET /v1/jobs?status=failed&limit=200&cursor=older",
    ]


def test_a_job_in_one_line(server: Server, client: Client) -> None:
    far = {"clips": 200, "clips_done": 32, "clips_reached": 50, "clips_asked": 200,
           "clips_per_s": 12.34, "seconds_left": 3725.2}  # fmt: skip
    running = JobState.of(job(progress=far, spec={"encoder": "x"}))
    words = "job j1 running, 50 of 200 clips (25%), 12.3 clips/s, 1:02:05 left"
    assert str(running) == words
    server.answers = [plain(job(progress=far))]
    assert repr(client.job("j1")) == f"<takestream {words}>"
    failures = [{"take": "t", "stream": "cam01_0", "reason": "no video in it"}]
    failed = JobState.of(job("failed", failures=failures))
    assert str(failed) == "job j1 failed, 1 failures, first t cam01_0: no video in it"
    assert str(JobState.of(job("queued"))) == "job j1 queued"


def test_waiting_says_how_far_it_is(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Other tests run notebooks in this process.
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    far = {"clips": 10, "clips_reached": 5, "clips_asked": 10}
    done = plain(job("succeeded", progress={**far, "clips_reached": 10}))
    server.answers = [plain(job("queued")), plain(job(progress=far)), done]
    client.job("j1").wait(progress=True)
    lines = capsys.readouterr().err.splitlines()  # no terminal: now and then, and at the end
    assert lines == ["job j1 running, 5 of 10 clips (50%)", "job j1 succeeded, 10 of 10 clips"]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    server.answers = [plain(job()), plain(job(progress=far)), done]
    client.job("j1").wait(progress=True)
    shown = capsys.readouterr().err
    assert shown.count("\r") == 2
    assert shown.endswith("\rjob j1 succeeded, 10 of 10 clips   \n")
    server.answers = [plain(job()), done]
    client.job("j1").wait()
    assert capsys.readouterr().err == ""
