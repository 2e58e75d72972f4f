"""A job's driver and the sums that it is counted by, without Ray."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray

from configs.run import RunSpec
from workers.dataset.take import Stream, Take
from workers.media.counters import Counters
from workers.run.calls import Tally, pause, record_of
from workers.run.dispatch import Dispatch
from workers.run.job import _waiting
from workers.run.report import Losses, Progress, Report
from workers.run.tasks import (
    ClipRange,
    Failure,
    FinishedTake,
    PreparedTake,
    Record,
    Task,
    Unit,
    UnitRecord,
    Window,
)
from workers.run.worker import EARLIER, KEPT_OWNERS, Worker

OWNERS = [f"job-{number}" for number in range(50)]


def test_a_cancellation_that_comes_with_a_record_is_not_lost() -> None:
    async def test(ticks: int) -> None:
        records: asyncio.Queue[Any] = asyncio.Queue()

        async def job() -> None:
            while True:
                await _waiting(records, 5)

        running = asyncio.create_task(job())
        await asyncio.sleep(0.01)  # until it sleeps in the queue
        records.put_nowait("record")
        for _ in range(ticks):  # of the record on its way
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running}, timeout=1)
        assert running.cancelled(), ticks

    for ticks in range(5):
        asyncio.run(test(ticks))


def test_a_job_with_units_that_were_not_extracted_is_not_ok() -> None:
    take = Take("uid", "take", None, None, None, 1.0, (Stream("a_0", "a", "0", "x", False),))
    unit = Unit(take, 0, 144, (ClipRange(0, 0, 8, ("a_0",)),))
    tasks: list[Task] = []
    recipe: Any = None
    job = Dispatch(recipe, [(take, ("a_0",))], tasks.extend, "owner")
    job.advance(4)
    came: list[Record] = [
        PreparedTake(take, ("store",), (unit,), clips=8, frames=100),
        UnitRecord(take, unit.ranges, "stopped"),
        FinishedTake(take, False),
    ]
    for record in came:
        job.take_in(record)
    job.advance(4)
    assert job.over
    assert not job.report.ok
    assert Report(Progress(1)).ok


def test_clips_that_were_written_and_are_not_there_at_the_end_fail_the_job() -> None:
    streams = tuple(Stream(f"{n}_0", n, "0", "x", False) for n in "abc")
    take = Take("uid", "take", None, None, None, 1.0, streams)
    asked = ("a_0", "b_0")
    units = [Unit(take, 0, 144, (ClipRange(0, n, n + 8, asked),)) for n in (0, 8)]
    cases = [
        # The other streams of the store are not this job's.
        ("done", {"c_0": 16}, None),
        ("done", {}, None),
        ("done", {"a_0": 8, "b_0": 16, "c_0": 16}, "24 clips that were written are not in the "
         "store (8 of a_0, 16 of b_0)"),
        # What was given up was told when it was.
        ("failed", {"a_0": 8, "b_0": 8}, None),
        ("named", {"a_0": 16, "b_0": 8}, None),
        ("failed", {"a_0": 8, "b_0": 16}, "8 clips that were written are not in the store (8 of "
         "b_0)"),
    ]  # fmt: skip
    for outcome, missing, words in cases:
        recipe: Any = None
        tasks: list[Task] = []
        job = Dispatch(recipe, [(take, asked)], tasks.extend, "owner")
        job.advance(4)
        failed = () if outcome == "done" else (Failure("take", None, "503"),)
        if outcome == "named":  # a stream whose object cannot be read, or whose writing failed
            outcome, failed = "failed", (Failure("take", "a_0", "403"),)
        came: list[Record] = [
            PreparedTake(take, ("store",), tuple(units), clips=32, frames=100),
            UnitRecord(take, units[0].ranges, "done"),
            UnitRecord(take, units[1].ranges, outcome, failures=failed),  # type: ignore[arg-type]
            FinishedTake(take, not missing, missing=missing),
        ]
        for record in came:
            job.take_in(record)
        job.advance(4)
        assert job.over
        found = [f for f in job.report.failures if f not in failed]
        assert [f.kind for f in found] == ([] if words is None else ["incomplete"])
        assert job.report.ok == (words is None and not failed)
        if words is not None:
            assert words in found[0].reason
            assert found[0].stream == (None if outcome == "done" else "b_0")


def test_a_worker_counts_the_latest_owners_apart_and_all_others_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ray has no node to tell of here.
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_labels=dict))
    worker = Worker.__ray_metadata__.modified_class("cpu", 1)
    running = OWNERS[0]
    for owner in OWNERS:
        for name in (owner, running, "on-demand/a1b2", "on-demand/c3d4"):
            worker._counted(name).add(clips=1)
    counts = worker.counts()
    assert len(counts) == KEPT_OWNERS + 1
    assert sum(one["clips"] for one in counts.values()) == 4 * len(OWNERS)
    assert counts[running]["clips"] == len(OWNERS) + 1
    assert counts["on-demand"]["clips"] == 2 * len(OWNERS)
    assert counts[OWNERS[-1]]["clips"] == 1
    assert EARLIER in counts
    assert isinstance(worker._counted(running), Counters)


def test_what_lost_workers_did_is_kept_as_few_sums() -> None:
    before = Tally()
    for owner in OWNERS:
        before.add({owner: {"clips": 2.0}})
        before.add({OWNERS[0]: {"workers_lost": 1.0}})
    assert len(before._by) == KEPT_OWNERS + 1
    assert before.total((), None)["clips"] == 2 * len(OWNERS)
    assert before.total((), OWNERS[0])["workers_lost"] == len(OWNERS)
    assert before.total([{OWNERS[0]: {"clips": 5.0}}], OWNERS[0])["clips"] == 2 + 5


def test_streams_that_are_not_wholly_valid_are_counted_by_take() -> None:
    streams = tuple(Stream(f"{n}_0", n, "0", "x", False) for n in "abc")
    takes = [Take(f"uid-{n}", "same name", None, None, None, 1.0, streams) for n in range(4)]
    asked = ("a_0", "b_0")
    tasks: list[Task] = []
    recipe: Any = None
    job = Dispatch(recipe, [(take, asked) for take in takes], tasks.extend, "owner")
    job.advance(4)
    part = Unit(takes[1], 0, 144, (ClipRange(0, 0, 8, asked),))
    lost = Failure("same name", "b_0", "403")
    came: list[Record] = [
        # Complete before, with invalid clips; those of a stream that nobody asked for do not count.
        PreparedTake(takes[0], ("store",), (), clips=16, invalid={"a_0": 1, "c_0": 3}),
        PreparedTake(takes[1], ("store",), (part,), clips=16, frames=100),
        UnitRecord(takes[1], part.ranges, "done", failures=(lost,)),
        FinishedTake(takes[1], False, invalid={}, missing={"b_0": 8}),
        PreparedTake(takes[2], (), (), failures=(Failure("same name", None, "no take"),)),
        PreparedTake(takes[3], ("store",), (), clips=16),
    ]
    for record in came:
        job.take_in(record)
    losses = job.report.losses
    assert losses.by_take == {"uid-0": ["a_0"], "uid-1": ["b_0"], "uid-2": ["a_0", "b_0"]}
    assert losses.words is not None
    assert losses.words.startswith(
        "not wholly valid: 4 of 8 streams, in 3 of 4 takes: same name (uid-0) (a_0), "
    )
    assert {failure.take for failure in job.report.failures} == {
        "same name (uid-1)", "same name (uid-2)",
    }  # fmt: skip


def test_losses_fail_a_job_where_that_is_asked_for() -> None:
    take = Take("uid", "take", None, None, None, 1.0, (Stream("a_0", "a", "0", "x", False),))
    for strict in (False, True):
        for invalid in ({}, {"a_0": 2}):
            losses = Losses([(take, ["a_0"])], strict=strict)
            losses.count(take, invalid)
            report = Report(Progress(1), losses=losses)
            assert report.ok == (not strict or not invalid)


def test_many_workers_are_looked_at_less_often_but_in_time_to_see_that_one_hangs() -> None:
    assert pause(RunSpec(), 1) == 1.0
    assert pause(RunSpec(), 3000) == 30.0
    assert pause(RunSpec(stall_seconds=8), 3000) == 2.0


@pytest.mark.parametrize("whole", [True, False])
def test_a_windows_counts_come_with_its_record_and_its_parts_before(whole: bool) -> None:
    take = Take("uid", "take", None, None, None, 1.0, ())
    clips = ClipRange(0, 0, 8, ("a_0",))
    task = Window(cast(Any, None), take, "owner", clips=clips)
    counts = {"owner": {"clips": 8.0}}
    record = UnitRecord(take, (clips,), "done")
    items = ["first part", "second part", record, counts][: 4 if whole else 2]

    class Stream:
        """As Ray gives what a worker yields: references, to be waited for."""

        @staticmethod
        async def remote(task: Window) -> AsyncIterator[Any]:
            for item in items:
                yield asyncio.sleep(0, item)

    parts: list[Any] = []
    made = record_of(SimpleNamespace(window=Stream), task, parts.append, urgent=True)
    if whole:
        assert asyncio.run(made) == (record, counts)
    else:
        with pytest.raises(RuntimeError, match="ended without a record"):
            asyncio.run(made)
    assert parts == ["first part", "second part"]
