"""Jobs over HTTP, with an engine that this test plays."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from configs.load import parse
from configs.schema import ServeSpec
from service.api.app import create_app
from service.api.context import Front
from service.api.keys import KeyRing, new_key
from service.engine.engine import Elsewhere, Refusal
from service.jobs.records import JobRecord, Status, now

ID = "20261124-000000-abcdef"
JOB = f"/v1/jobs/{ID}"


class Call:
    """What a Serve handle's method is to the routes."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def options(self, **_: object) -> "Call":
        return self

    def remote(self, *_: object) -> Any:
        return _later(self.outcome)


async def _later(outcome: Any) -> Any:
    return outcome


class Follow(Call):
    """Each call gives the next of the sequences."""

    def __init__(self, *calls: Sequence[JobRecord]) -> None:
        self.calls = list(calls)

    def remote(self, *_: object) -> Any:
        return Records(self.calls.pop(0))


class Records:
    def __init__(self, records: Sequence[JobRecord]) -> None:
        self._records = records

    async def __aiter__(self) -> AsyncIterator[JobRecord]:
        for record in self._records:
            yield record

    def cancel(self) -> None: ...


def record(status: Status = "running", **more: Any) -> JobRecord:
    return JobRecord(job_id=ID, kind="service", status=status, submitted_at=now(), spec={}, **more)


class Engine:
    job = Call(record())
    job_list = Call([record()])
    job_log = Call("a line\n")
    job_stop = Call(record("stopping"))
    submit = Call(record("queued"))
    job_events: Any = Follow([record("succeeded")])


@pytest.fixture
def engine() -> Engine:
    return Engine()


def client_of(root: Path, engine: Engine, keys: KeyRing | None = None) -> TestClient:
    (root / "takes.json").write_text(json.dumps([{"take_uid": "u", "take_name": "one"}]))
    job = {"dataset": str(root), "output": str(root / "out")}
    door = Front(parse(ServeSpec, {"job": job}, "test"), keys, b"secret", engine)
    return TestClient(create_app(door), "http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (record("stopping"), 202, None),
        (Elsewhere("job x is run by another service, on there: stop it there"), 409, "on there"),
        (None, 404, "GET /v1/jobs"),
    ],
)
def test_a_job_is_stopped_where_it_runs(
    tmp_path: Path, engine: Engine, outcome: Any, status: int, words: str | None
) -> None:
    engine.job_stop = Call(outcome)
    answer = client_of(tmp_path, engine).delete(JOB)
    assert answer.status_code == status
    if words:
        assert words in answer.json()["detail"]


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
    engine.submit = Call(Refusal("too many", 60))
    answer = client_of(tmp_path, engine).post("/v1/jobs", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")


def test_a_job_is_followed_to_its_end_by_several_calls(tmp_path: Path, engine: Engine) -> None:
    began, half, done = (
        record(progress={"units": 0}), record(progress={"units": 1}), record("succeeded")
    )  # fmt: skip
    engine.job_events = Follow([began, half], [half], [half, done], [done])
    lines = client_of(tmp_path, engine).get(f"{JOB}/events").text.split("\n\n")
    heads = [line.split("\n")[:2] for line in lines if line]
    assert heads == [
        ["id: 1", "event: progress"], ["id: 2", "event: progress"], ["id: 3", "event: end"]
    ]  # fmt: skip
    # An engine that goes down ends its calls at once: the client asks the next one.
    engine.job_events = Follow([began], [])
    assert client_of(tmp_path, engine).get(f"{JOB}/events").text.count("event:") == 1
