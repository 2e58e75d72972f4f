"""Claims on jobs by processes that race for them, and what they do with records that are torn."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.demo.run import in_environment
from service.demo.s3server import ObjectStore
from service.jobs.claim import Claim, NotOwner, new_owner
from service.jobs.records import JobRecord, Records, now
from workers.store.errors import StoreError

CHECKOUT = Path(__file__).parents[3]
PROCESSES, JOBS = 6, 20

# Claims every job as soon as it is told to; prints the ids of those that it got.
RACER = """
import sys
from service.jobs.claim import Claim, NotOwner, new_owner
from service.jobs.records import Records
records, owner = Records(sys.argv[1]), new_owner()
jobs = [records.read(job_id) for job_id in sys.argv[2:]]
assert records.exact
print("ready", flush=True)
sys.stdin.readline()
for record, version in jobs:
    claim = Claim(records, record, version, owner)
    try:
        claim.save()
        claim.update(submitted_by=owner)
        claim.save()
    except NotOwner:
        continue
    print(record.job_id, owner, flush=True)
"""


def make_record(number: int, **changes: object) -> JobRecord:
    facts = {
        "job_id": f"20261124-054233-{number:06x}", "kind": "service", "status": "running",
        "submitted_at": now(), "spec": {},
    }  # fmt: skip
    return JobRecord.model_validate({**facts, **changes})


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("s3")) as server, in_environment(server):
        yield server


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "My Out")
    return f"{request.getfixturevalue('s3').make_bucket('claims')}/{tmp_path.name}"


def test_of_many_processes_one_gets_each_job(output: str) -> None:
    records = Records(output)
    jobs = [make_record(number) for number in range(JOBS)]
    for record in jobs:
        records.save(record)
    ids = [record.job_id for record in jobs]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, output, *ids],
            cwd=CHECKOUT, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n", racer.communicate()[1]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * PROCESSES, said
    won = dict(line.split() for out, _ in said for line in out.splitlines())
    assert sum(out.count("\n") for out, _ in said) == JOBS
    assert sorted(won) == ids
    for job_id, owner in won.items():
        record = records.load(job_id)
        assert record is not None
        # The second save of the winner is there, and none of a process that lost.
        assert (record.owner, record.submitted_by) == (owner, owner)


def test_a_claim_is_lost_to_another_owner_and_to_an_end(output: str) -> None:
    records, lost = Records(output), []
    first = Claim(records, make_record(1), None, "a/1/1/1", on_lost=lambda: lost.append(1))
    first.save()
    record, version = records.read(first.job_id)
    assert record is not None
    second = Claim(records, record, version, "b/2/2/2")
    second.save()
    for _ in range(2):
        with pytest.raises(NotOwner, match=first.job_id):
            first.save(heartbeat=True)
    assert lost == [1]
    second.update(status="succeeded")
    second.save()
    assert records.load(first.job_id).status == "succeeded"
    # An end that another wrote, as `takestream jobs` does for a driver that was killed.
    third = Claim(records, make_record(2), None, "c/3/3/3")
    third.save()
    record, version = records.read(third.job_id)
    assert record is not None
    assert records.replace(record.model_copy(update={"status": "failed"}), version)
    with pytest.raises(NotOwner):
        third.save(heartbeat=True)
    assert records.load(third.job_id).status == "failed"


@pytest.mark.parametrize("torn", [b"", b'{"job_id": "2026', b"\xff\xfe", b"[]"])
def test_a_torn_record_is_replaced_and_that_is_said_once(
    output: str, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records(output)
    claim = Claim(records, make_record(1), None, new_owner())
    claim.save()
    records._objects.put(f"{claim.job_id}.json", torn)
    for _ in range(3):
        assert records.load(claim.job_id) is None
    claim.update(status="succeeded")
    claim.save()
    claim.save(heartbeat=True)
    assert records.load(claim.job_id).status == "succeeded"
    assert caplog.text.count("was torn and is replaced") == 1
    assert caplog.text.count("is no job record of this version") == 1
    # Deleted by hand: it is written anew.
    records._objects.delete_many([f"{claim.job_id}.json"])
    claim.save(heartbeat=True)
    assert records.load(claim.job_id).status == "succeeded"


def test_an_answer_that_was_lost_costs_nothing(output: str) -> None:
    """The write landed, its writer does not know: the record still is its own."""
    records = Records(output)
    replace = records.replace

    def loses_the_answer(record: JobRecord, version: str | None) -> str | None:
        replace(record, version)
        raise StoreError("no answer")

    claim = Claim(records, make_record(1), None, new_owner())
    records.replace = loses_the_answer  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        claim.save()
    records.replace = replace  # type: ignore[method-assign]
    claim.update(status="succeeded")
    claim.save()
    assert records.load(claim.job_id).status == "succeeded"


def test_where_writes_have_no_conditions_that_is_said(
    s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    memory = Records(f"memory://{tmp_path.name}")
    assert not memory.exact
    ignoring = Records(f"{s3.make_bucket('claims')}/ignoring-{time.monotonic_ns()}")
    put = ignoring._objects._put
    monkeypatch.setattr(ignoring._objects, "_put", lambda key, data, **condition: put(key, data))
    for records in (memory, ignoring):
        first = Claim(records, make_record(1), None, "a/1/1/1")
        first.save()
        record, version = records.read(first.job_id)
        assert record is not None
        Claim(records, record, version, "b/2/2/2").save()
        # Compared before each write all the same: who comes later finds out.
        with pytest.raises(NotOwner):
            first.save(heartbeat=True)
    assert not ignoring.exact
    assert caplog.text.count("has no conditional writes") == 1
    assert json.loads(ignoring._objects.get(f"{first.job_id}.json") or b"")["owner"] == "b/2/2/2"
    assert not [key for key in ignoring._objects.listing() if "probe" in key]
