"""Records of jobs in the output."""

import itertools
import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import takestream
from service.jobs.records import LOG_BYTES, JobRecord, Records, is_job_id, new_job_id
from takestream.stores import find_stores
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

_numbers = itertools.count()
ID = "20261124-054233-{:06x}"


def make_record(number: int, **changes: Any) -> JobRecord:
    facts = {
        "job_id": ID.format(number), "kind": "service", "status": "succeeded",
        "submitted_at": "2026-11-24T05:42:33+00:00", "spec": {"dataset": "/data", "output": "/o"},
    }  # fmt: skip
    return JobRecord.model_validate({**facts, **changes})


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    memory = f"memory://records-{next(_numbers)}/My Out"
    return memory if request.param == "memory" else str(tmp_path / "My Out")


def put(output: str, name: str, data: bytes) -> None:
    with fsspec.open(f"{output}/jobs/{name}", "wb", auto_mkdir=True) as file:
        file.write(data)


def test_saved_loaded_and_listed_newest_first(output: str) -> None:
    records = Records(output)
    assert list(records.list(5)) == list(records.unfinished()) == []
    assert records.load(ID.format(1)) is None
    queued = make_record(2, status="queued", kind="ray", ray_address="http://head:8265")
    for record in (make_record(1), make_record(3, status="running"), queued):
        records.save(record)
    assert [r.job_id for r in records.list(2)] == [ID.format(3), ID.format(2)]
    assert [r.job_id for r in records.unfinished()] == [ID.format(2), ID.format(3)]
    assert list(records.list(0)) == []
    assert Records(output).load(queued.job_id) == queued
    done = queued.model_copy(update={"status": "failed", "failures": [{"take": "t"}]})
    records.save(done)
    assert records.load(queued.job_id) == done
    assert set(done.facts()) == {
        "job_id", "status", "submitted_at", "started_at", "finished_at", "submitted_by", "spec",
        "encoder_ids", "encoder_id", "progress", "failures", "error",
        "report",
    }  # fmt: skip


def test_what_is_no_record_is_passed_over(output: str, caplog: pytest.LogCaptureFixture) -> None:
    records = Records(output)
    good = make_record(1)
    records.save(good)
    text = good.model_dump_json()
    for number, data in enumerate(
        [
            text[:40], "", "[]", "null", '{"job_id": 3}', "\xff\xfe",
            text.replace('"record_version":1', '"record_version":2'),
            text.replace('"succeeded"', '"exploded"'),
            text,  # of another job
        ]
    ):  # fmt: skip
        put(output, f"{ID.format(number + 2)}.json", data.encode("latin-1"))
    put(output, "notes.json", b"{}")
    put(output, "deeper/20261124-054233-00000f.json", text.encode())
    assert list(records.list(20)) == [good]
    assert list(records.list(1)) == [good]
    assert list(records.unfinished()) == []
    assert records.load(ID.format(2)) is None
    assert "no job record of this version" in caplog.text


def test_ids_sort_by_time_and_are_checked_before_they_touch_a_path(tmp_path: Path) -> None:
    ids = {new_job_id() for _ in range(10)}
    assert len(ids) == 10
    assert all(map(is_job_id, ids))
    records = Records(str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    (tmp_path / "secret.json").write_text(make_record(1).model_dump_json())
    for bad in ("../../secret", ID.format(1) + "\n", "", "x", ID.format(1) + "/..", "٢" * 8):
        assert records.load(bad) is None
        assert records.log(bad) == ""
        with pytest.raises(ValueError, match="no job id"):
            records.append_log(bad, ["x"])
        with pytest.raises(ValueError, match="job_id"):
            make_record(1, job_id=bad)


def test_the_end_of_a_log_is_kept(output: str) -> None:
    records, job_id = Records(output), ID.format(1)
    records.append_log(job_id, ["first é", "second\n"])
    assert records.log(job_id) == "first é\nsecond\n"
    for start in range(0, 9000, 3000):
        records.append_log(job_id, [f"line {n:05} {'é' * 20}" for n in range(start, start + 3000)])
    lines = records.log(job_id).splitlines()
    assert lines[0] == "… (what came before was dropped)"
    assert [line.split()[1] for line in lines[1:]] == [
        f"{n:05}" for n in range(9001 - len(lines), 9000)
    ]
    size = len(records.log(job_id).encode())
    assert LOG_BYTES - 100 < size <= LOG_BYTES
    records.append_log(job_id, ["x" * LOG_BYTES * 2, "end"])
    assert records.log(job_id).endswith(f"\n{'x' * 10_000}\nend\n")
    assert len(records.log(job_id).encode()) <= LOG_BYTES


def test_stores_are_found_as_if_there_were_no_records(output: str) -> None:
    none = np.zeros(1)
    layout = StoreLayout(("cam01_0",), 2, "float16", 4, none, none + 1, none, none + 1)
    store = TakeStore.create(f"{output}/enc-0123456789/uid-1.zarr", layout)
    records = Records(output)
    records.save(make_record(1))
    records.append_log(ID.format(1), ["done"])
    assert find_stores(output) == [store.uri]
    assert takestream.open(output, "uid-1").sizes["clip"] == 1


def test_what_has_ended_is_not_read_again(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(output)
    for number, status in enumerate(("succeeded", "running", "failed")):
        records.save(make_record(number, status=status))
    put(output, f"{ID.format(9)}.json", b"{}")
    assert [record.job_id for record in records.unfinished()] == [ID.format(1)]
    records.save(make_record(4, status="queued"))
    read: list[str] = []
    get_many = records._objects.get_many
    monkeypatch.setattr(
        records._objects, "get_many", lambda keys: get_many(read.extend(k := [*keys]) or k)
    )
    assert [record.job_id for record in records.unfinished()] == [ID.format(1), ID.format(4)]
    assert sorted(read) == [f"{ID.format(n)}.json" for n in (1, 4)]
    assert len(records.list(9)) == 4


def test_records_of_before_there_were_owners_are_read_and_odd_bytes_written(output: str) -> None:
    records = Records(output)
    old = make_record(1, status="running").model_dump(mode="json", exclude={"owner", "alive_at"})
    put(output, f"{ID.format(1)}.json", json.dumps(old).encode())
    [found] = records.unfinished()
    assert (found.owner, found.alive_at) == (None, None)
    records.save(make_record(2, error="a file name: \udc80"))
    assert records.load(ID.format(2)).error == "a file name: ?"
