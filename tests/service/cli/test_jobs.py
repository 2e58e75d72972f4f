"""`submit`, `jobs`, `logs`, `stop` against a service, and against an output's records."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from service.cli.main import run
from service.jobs.backends import RayBackend
from service.jobs.records import JobRecord, Records

ID = "20261124-054233-a1b2c3"
SECRET = "ts_a-key"
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """say(*arguments) → exit code, stdout, stderr."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "TAKESTREAM_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TAKESTREAM_API_KEY", SECRET)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def make_record(**changes: Any) -> JobRecord:
    facts = {
        "job_id": ID, "kind": "service", "status": "queued", "submitted_by": "alice",
        "submitted_at": "2026-11-24T05:42:33+00:00", "encoder_id": "enc-0123456789",
        "spec": {"dataset": "s3://b/ego [1]", "output": "s3://b/out", "encoder": {"preset": "enc"}},
    }  # fmt: skip
    return JobRecord.model_validate({**facts, **changes})


class Service(http.server.BaseHTTPRequestHandler):
    """One job, a step nearer to its end each time that somebody looks at it."""

    steps: ClassVar[list[JobRecord]] = []
    bodies: ClassVar[list[Any]] = []
    # So many looks at the job from the second on are answered as by a service that starts anew.
    away: ClassVar[list[int]] = []
    looks: ClassVar[list[str]] = []

    def answer(self, status: int, value: Any) -> None:
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header(
            "Content-Type", "text/plain" if isinstance(value, str) else "application/json"
        )
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def go(self) -> None:
        job = self.steps[0].facts()
        if self.command == "GET":
            self.looks.append(self.path)
        if self.away and len(self.looks) > 1:
            self.answer(self.away.pop(0), "Path not found. Ping /-/routes")
        elif self.headers["Authorization"] != f"Bearer {SECRET}":
            self.answer(401, {"detail": "this service asks for a key", "status": 401})
        elif self.command == "POST":
            length = int(self.headers["Content-Length"])
            self.bodies.append(json.loads(self.rfile.read(length)))
            self.answer(201, job)
        elif self.path.startswith("/v1/jobs?"):
            self.answer(200, {"jobs": [job]})
        elif self.path == f"/v1/jobs/{ID}/logs":
            self.answer(200, "".join(f"line {n}\n" for n in range(3 - len(self.steps) + 1)))
        elif self.path == f"/v1/jobs/{ID}":
            if len(self.steps) > 1:
                self.steps.pop(0)
            self.answer(202 if self.command == "DELETE" else 200, self.steps[0].facts())
        else:
            self.answer(404, {"detail": f"there is no job; did you mean {ID}?", "status": 404})

    do_GET = do_POST = do_DELETE = go

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    counts = {"takes": 2, "takes_done": 1, "clips": 40, "clips_skipped": 10, "clips_done": 12}
    Service.steps = [
        make_record(),
        make_record(status="running", progress=counts),
        make_record(
            status="failed", error="1 failures; first: absent", progress=counts,
            failures=[{"take": "t", "stream": None, "reason": "absent"}],
        ),
    ]  # fmt: skip
    Service.bodies, Service.away, Service.looks = [], [], []
    monkeypatch.setattr("service.jobs.backends.POLL_SECONDS", 0.0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_service_by_its_url(url: str, say: Say, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("encoder: enc\nselect: {tasks: [a]}\n")
    code, out, err = say("submit", "--job", file, "--streams", "aria*", "--url", url)
    assert (code, out) == (0, f"{ID}\n")
    assert f"takestream stop {ID} --url {url}" in err
    # Only what was said: the rest is the service's to choose.
    assert Service.bodies == [
        {"encoders": [{"preset": "enc"}], "select": {"tasks": ["a"], "streams": ["aria*"]}}
    ]
    code, out, err = say("jobs", "--url", url)
    assert (code, err) == (0, "")
    assert f"{ID}  queued" in out
    assert "s3://b/ego [1]" in out
    code, out, err = say("submit", "--url", url, "--wait")
    assert (code, out) == (1, f"{ID}\n")
    assert f"{ID} running takes=1/2 clips=22/40" in err
    assert "failed: 1 failures; first: absent" in err


def test_what_is_new_in_a_log_is_shown_until_the_job_ends(url: str, say: Say) -> None:
    code, out, _ = say("logs", ID, "--follow", "--url", url)
    assert (code, out) == (0, "line 0\nline 1\nline 2\n")
    code, out, err = say("jobs", ID, "--url", url)
    assert code == 0
    assert "failed" in out
    assert "t: absent" in out
    assert "submit the job again" in err


@pytest.mark.parametrize("command", ["submit", "logs"])
def test_a_restart_is_waited_for(
    url: str, say: Say, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("submit", "--wait") if command == "submit" else ("logs", ID, "--follow")
    monkeypatch.setattr("takestream.client.transport.TRIES", 1)
    Service.away = [404, 500, 503]
    code, out, err = say(*more, "--url", url)
    assert Service.away == []
    assert (code, err.count("trying again")) == (1 if command == "submit" else 0, 1)
    assert out.endswith(f"{ID}\n" if command == "submit" else "line 2\n")
    Service.steps, Service.looks, Service.away = [make_record(status="running")], [], [500] * 9
    monkeypatch.setattr("service.jobs.backends.AWAY_SECONDS", 0.0)
    code, _, err = say(*more, "--url", url)
    assert code == 1
    assert f"job {ID} goes on" in err


def test_a_cluster_knows_better_than_a_record_that_has_not_ended(tmp_path: Path) -> None:
    class Cluster:
        asked = 0

        def job(self, job_id: str) -> JobRecord:
            self.asked += 1
            return make_record(status="stopped")

    records, backend = Records(str(tmp_path)), RayBackend.__new__(RayBackend)
    backend._cluster, backend._records = Cluster(), records  # type: ignore[assignment]
    records.save(make_record(status="running"))
    assert backend.job(ID)["status"] == "stopped"
    records.save(make_record(status="failed"))
    assert (backend.job(ID)["status"], backend._cluster.asked) == ("failed", 1)


def test_stop_waits(url: str, say: Say) -> None:
    assert say("stop", ID, "--url", url, "--json")[0] == 0
    assert len(Service.steps) == 1
    # That one came to its end by itself.
    assert say("stop", ID, "--url", url)[:2] == (
        0, "nothing to stop: it had ended already, failed\n"
    )  # fmt: skip
    Service.steps = [make_record(status="stopping"), make_record(status="stopped")]
    assert say("stop", ID, "--url", url)[:2] == (0, "stopped\n")


def test_a_service_that_refuses(url: str, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = say("jobs", "20261124-054233-000000", "--url", url)
    assert (code, err.count("\n")) == (2, 1)
    assert f"did you mean {ID}" in err
    monkeypatch.setenv("TAKESTREAM_URL", url)
    monkeypatch.setenv("TAKESTREAM_API_KEY", "ts_wrong")
    code, _, err = say("jobs")
    assert code == 2
    assert "this service asks for a key" in err
    assert "set TAKESTREAM_API_KEY" in err
    assert "ts_wrong" not in err
    code, _, err = say("jobs", "--url", url, "--address", "http://head:8265")
    assert code == 2
    assert "give one" in err


def test_the_records_of_an_output(say: Say, tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    assert say("jobs", "--output", tmp_path)[2] == "no jobs\n"
    records.save(make_record(status="running"))
    records.append_log(ID, ["a line"])
    (facts,) = json.loads(say("jobs", "--output", tmp_path, "--json")[1])
    assert facts == make_record(status="running").facts()
    assert say("logs", ID, "--output", tmp_path)[1] == "a line\n"
    as_json = json.loads(say("logs", ID, "--output", tmp_path, "--json")[1])
    assert as_json == {"job_id": ID, "log": "a line\n"}
    code, _, err = say("stop", ID, "--output", tmp_path)
    assert code == 2
    assert "where it runs" in err
    code, _, err = say("jobs", f"x{ID[1:]}", "--output", tmp_path)
    assert code == 2
    assert f"did you mean '{ID}'" in err


def test_a_job_s_id_may_be_short(say: Say, tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    other = f"{ID[:15]}-fedcba"
    for one in (ID, other):
        records.save(make_record(status="succeeded").model_copy(update={"job_id": one}))
        records.append_log(one, [one])
    for short in ("fedcba", "fed", f"{other[:-2]}"):
        assert say("logs", short, "--output", tmp_path)[1] == f"{other}\n"
        assert json.loads(say("jobs", short, "--output", tmp_path, "--json")[1])["job_id"] == other
    code, out, _ = say("stop", "fedc", "--output", tmp_path)
    assert (code, out) == (0, "nothing to stop: it had ended already, succeeded\n")
    code, _, err = say("jobs", ID[:15], "--output", tmp_path)
    assert code == 2
    assert f"'{ID[:15]}' is short for 2 jobs: {other}, {ID}" in err
    assert "there is no job '123'" in say("jobs", "123", "--output", tmp_path)[2]
