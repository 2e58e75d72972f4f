"""Jobs over HTTP, with an engine that this test plays."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from configs.load import over_job, parse
from configs.schema import JobSpec, ServeSpec
from service.api.app import create_app
from service.api.context import ApiContext
from service.api.keys import KeyRing, new_key
from service.cli.flags import overrides
from service.cli.main import build_parser
from service.engine.client import EngineBusy, EngineClient
from service.jobs.claim import NotOwner
from service.jobs.listing import JobList, JobQuery
from service.jobs.records import JobRecord, Status, now
from service.report.summary import write_report
from tests.service.report.test_summary import make_recipe, make_report
from workers.store.errors import StoreError

ID = "20261124-000000-abcdef"
JOB = f"/v1/jobs/{ID}"


def record(status: Status = "running", **more: Any) -> JobRecord:
    return JobRecord(job_id=ID, kind="service", status=status, submitted_at=now(), spec={}, **more)


class Engine(EngineClient):
    """Has one job; `stopped` and `submitted` may be errors, `calls` are those of `job_events`."""

    def __init__(self) -> None:
        self.stopped: Any = record("stopping")
        self.submitted: Any = record("queued")
        self.calls: list[Sequence[JobRecord]] = [[record("succeeded")]]
        self.queries: list[JobQuery] = []
        self.jobs: list[JobSpec] = []
        self.next: str | None = None

    async def job(self, job_id: str) -> JobRecord | None:
        return record() if job_id == ID else None

    async def job_list(self, query: JobQuery) -> JobList:
        self.queries.append(query)
        return JobList([record()], self.next)

    async def job_log(self, job_id: str) -> str:
        return "a line\n"

    async def job_stop(self, job_id: str) -> JobRecord | None:
        return given(self.stopped)

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord:
        self.jobs.append(job)
        return given(self.submitted)

    async def job_events(self, job_id: str) -> AsyncGenerator[JobRecord, None]:
        for one in self.calls.pop(0):
            yield one


def given(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@pytest.fixture
def engine() -> Engine:
    return Engine()


def client_of(root: Path, engine: Engine, keys: KeyRing | None = None) -> TestClient:
    (root / "takes.json").write_text(json.dumps([{"take_uid": "u", "take_name": "one"}]))
    job = {"dataset": str(root), "output": str(root / "out")}
    context = ApiContext(parse(ServeSpec, {"job": job}, "test"), keys, b"secret", engine)
    return TestClient(create_app(context), "http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (record("stopping"), 202, None),
        (NotOwner("job x is run by another service, on there: stop it there"), 409, "on there"),
        (None, 404, "GET /v1/jobs"),
    ],
)
def test_a_job_is_stopped_where_it_runs(
    tmp_path: Path, engine: Engine, outcome: Any, status: int, words: str | None
) -> None:
    engine.stopped = outcome
    answer = client_of(tmp_path, engine).delete(JOB)
    assert answer.status_code == status
    if words:
        assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("flags", "name", "expected"),
    [
        (["--encoder", "efficientnet_lite"], "encoders.0.preset", "efficientnet_lite"),
        (["--frames", "4"], "encoders.0.frames", 4),
        (["--window", "16"], "grid.window", 16),
        (["--timeline", "pts", "--tolerance", "2"], "timeline.tolerance", 2.0),
        (["--sync", "measure"], "sync.measure", "all"),
        (["--segments", "{root}/steps.json"], "segments", "{root}/steps.json"),
        (["--best-exo"], "select.best_exo", True),
        (["--dtype", "float32"], "store.dtype", "float32"),
        (["--rotate", "cam05_0=90"], "rotate.cam05_0", 90),
    ],
)
def test_what_the_command_line_sends_is_taken(
    tmp_path: Path, engine: Engine, flags: list[str], name: str, expected: Any
) -> None:
    words = [flag.format(root=tmp_path) for flag in flags]
    body = over_job({}, overrides(build_parser().parse_args(["submit", *words])), "job")
    answer = client_of(tmp_path, engine).post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    found: Any = engine.jobs[0].model_dump(mode="json")
    for part in name.split("."):
        found = found[int(part) if part.isdigit() else part]
    assert found == (expected.format(root=tmp_path) if isinstance(expected, str) else expected)


def test_what_is_not_the_senders_to_say_is_named_as_it_was_given(
    tmp_path: Path, engine: Engine
) -> None:
    client = client_of(tmp_path, engine)
    for body, words in (
        ({"run": {"workers": 0}}, "'run.workers' is set by the service; leave it out"),
        ({"encoder": "a", "encoders": ["b"]}, "give encoder or encoders, not both"),
        ({"segments": "/etc/passwd"}, "segments is not below the service's own"),
        ({"encoders": []}, "encoders: must be at least 1 entry long"),
        ({"sync": "maybe"}, "sync"),
    ):
        answer = client.post("/v1/jobs", json=body)
        assert answer.status_code in (403, 422)
        assert words in answer.json()["detail"]
    assert not engine.jobs


@pytest.mark.parametrize(
    ("scope", "may"), [("jobs", (True, True)), ("read", (True, False)), ("compute", (False, False))]
)
def test_who_may_launch_jobs_may_see_them(
    tmp_path: Path, engine: Engine, scope: str, may: tuple[bool, bool]
) -> None:
    secret, entry = new_key("me", [scope])
    client = client_of(tmp_path, engine, KeyRing([entry]))
    headers = {"Authorization": f"Bearer {secret}"}
    for path in ("/v1/jobs", JOB, f"{JOB}/logs", f"{JOB}/events"):
        assert (client.get(path, headers=headers).status_code == 200) == may[0]
    assert (client.post("/v1/jobs", json={}, headers=headers).status_code == 201) == may[1]
    assert (client.delete(JOB, headers=headers).status_code == 202) == may[1]
    assert (client.get("/v1/takes", headers=headers).status_code == 200) == (scope == "read")


def test_a_full_queue_says_when_to_come_back(tmp_path: Path, engine: Engine) -> None:
    engine.submitted = EngineBusy("too many", 60)
    answer = client_of(tmp_path, engine).post("/v1/jobs", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")


def test_a_job_is_followed_to_its_end_by_several_calls(tmp_path: Path, engine: Engine) -> None:
    began, half, done = (
        record(progress={"units": 0}), record(progress={"units": 1}), record("succeeded")
    )  # fmt: skip
    engine.calls = [[began, half], [half], [half, done], [done]]
    lines = client_of(tmp_path, engine).get(f"{JOB}/events").text.split("\n\n")
    found = [dict(field.split(": ", 1) for field in event.split("\n")) for event in lines if event]
    assert [(event["id"], event["event"]) for event in found] == [
        ("1", "progress"), ("2", "progress"), ("3", "end")
    ]  # fmt: skip
    assert [json.loads(event["data"])["status"] for event in found] == [
        "running", "running", "succeeded"
    ]  # fmt: skip
    # An engine that goes down ends its calls at once: the client asks the next one.
    engine.calls = [[began], []]
    assert client_of(tmp_path, engine).get(f"{JOB}/events").text.count("event:") == 1


def test_a_silent_job_has_a_sign_of_life_and_ends_with_its_reader(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    closed: list[bool] = []

    async def silent(job_id: str) -> AsyncGenerator[JobRecord, None]:
        try:
            yield record()
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    engine.job_events = silent  # type: ignore[method-assign]
    app = client_of(tmp_path, engine).app
    sent: list[bytes] = []

    async def receive() -> Message:
        while not any(piece.startswith(b": ") for piece in sent):
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    scope = {"type": "http", "method": "GET", "path": f"{JOB}/events", "query_string": b"",
             "headers": [(b"host", b"localhost")], "client": None}  # fmt: skip
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 10))
    assert closed == [True]


def test_what_fails_while_a_job_is_followed_is_counted_as_what_it_is(
    tmp_path: Path, engine: Engine
) -> None:
    async def failing(job_id: str) -> AsyncGenerator[JobRecord, None]:
        yield record()
        raise StoreError("s3://b/x is gone")

    engine.job_events = failing  # type: ignore[method-assign]
    client = client_of(tmp_path, engine)
    client.get(f"{JOB}/events")
    assert 'takestream_errors_total{kind="store"} 1.0' in client.get("/metrics").text


def test_a_job_s_id_may_be_short_and_a_wrong_one_is_told_in_words(
    engine: Engine, tmp_path: Path
) -> None:
    client = client_of(tmp_path, engine)
    for short in ("abcdef", "abc", ID[:10]):
        assert client.get(f"/v1/jobs/{short}").json()["job_id"] == ID
        assert client.get(f"/v1/jobs/{short}/logs").text == "a line\n"
    for wrong in ("abd", "what-is-this", "x" * 150, ID.replace("a", "b")):
        answer = client.get(f"/v1/jobs/{wrong}")
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith(f"there is no job '{wrong[:100]}")
        assert "pattern" not in answer.text


def test_a_list_of_jobs_says_where_it_goes_on(tmp_path: Path, engine: Engine) -> None:
    client = client_of(tmp_path, engine)
    assert "link" not in client.get("/v1/jobs").headers
    engine.next = ID
    answer = client.get("/v1/jobs?limit=1&status=running&status=queued&encoder=enc&by=ann%20b")
    assert answer.json()["next"] == ID
    url = answer.links["next"]["url"]
    engine.next = None
    last = client.get(url)
    assert (last.status_code, last.json()["next"], last.links) == (200, None, {})
    assert engine.queries[-2:] == [
        JobQuery(1, None, ("running", "queued"), "enc", "ann b"),
        JobQuery(1, ID, ("running", "queued"), "enc", "ann b"),
    ]
    for wrong, words in (("cursor=x", "cursor: 'x' is none"), ("status=done", "status.0: must be")):
        refused = client.get(f"/v1/jobs?{wrong}")
        assert refused.status_code == 422
        assert words in refused.json()["detail"]


def test_the_report_of_a_job_is_a_page_or_its_facts(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    where = write_report(make_recipe(output), make_report())
    assert where is not None
    given_to: list[JobRecord] = []

    async def job(job_id: str) -> JobRecord | None:
        return given_to[-1]

    monkeypatch.setattr(engine, "job", job)
    client = client_of(tmp_path, engine)
    done = record("succeeded").model_copy(update={"spec": {"output": str(output)}})
    given_to.append(done)
    assert client.get(f"{JOB}/report").status_code == 404
    given_to.append(done.model_copy(update={"report": where}))
    page = client.get(f"{JOB}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.text == Path(where).with_suffix(".html").read_text()
    facts = client.get(f"{JOB}/report", params={"format": "json"}).json()
    assert facts == json.loads(Path(where).read_text())
    assert client.get(JOB).json()["report"] == where
    # Somebody who can write records cannot have other files shown by them.
    (tmp_path / "other.json").write_text(Path(where).read_text())
    given_to.append(done.model_copy(update={"report": str(tmp_path / "other.json")}))
    assert client.get(f"{JOB}/report").status_code == 404
    Path(where).unlink()
    given_to.append(done.model_copy(update={"report": where}))
    assert client.get(f"{JOB}/report").status_code in (404, 503)
