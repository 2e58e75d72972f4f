"""Jobs of a service: submitted, stopped, handed over, with work that is only pretended."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from configs.load import parse
from configs.schema import ServeSpec
from service.engine import engine
from service.engine.engine import Engine
from service.engine.ondemand import Busy, OnDemand
from service.engine.refusal import Refusal
from service.jobs import manager as jobs
from service.jobs import ownership as ledger
from service.jobs.manager import Jobs, TooManyJobs
from service.jobs.ownership import Ledger, NotOwner, has_ended, host_of
from service.jobs.policy import resumed_job
from service.jobs.records import JobRecord, Records, new_job_id, now
from workers.run.job import Progress, Report
from workers.store.errors import StoreError


class FakePool:
    """Stands in for the workers."""

    workers = alive = 1
    waiting = 0

    def __init__(self, run: object = None) -> None:
        self.cancelled: list[str] = []

    async def __aenter__(self) -> "FakePool":
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def load(self, recipe: object) -> str:
        return ""

    def submit(self, tasks: Any, sink: Any, *, urgent: bool = False) -> None:
        pass

    def cancel(self, owner: str) -> None:
        self.cancelled.append(owner)


class Work:
    """What jobs do instead of extracting: wait for `go`. runs: the owners they ran under."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.go = asyncio.Event()
        self.progress = Progress(1, clips_done=3)
        self.error: Exception | None = None

    async def __call__(self, pool: Any, recipe: Any, takes: Any, news: Any, **more: Any) -> Report:
        self.runs.append(more["owner"])
        news(self.progress, [])
        await self.go.wait()
        if self.error:
            raise self.error
        return Report(self.progress)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    class Recipe:
        encoder_id = "enc-0123456789"

    work = Work()
    monkeypatch.setattr(jobs, "make_recipe", lambda job: Recipe())
    monkeypatch.setattr(jobs, "choose_takes", lambda job: [])
    monkeypatch.setattr(jobs, "write_report", lambda recipe, report: "report.json")
    monkeypatch.setattr(jobs, "run_job", work)
    monkeypatch.setattr(ledger, "RETRY_SECONDS", 0.02)
    return work


@pytest.fixture
def spec(tmp_path: Path) -> ServeSpec:
    return spec_of(tmp_path)


def spec_of(root: Path, **more: Any) -> ServeSpec:
    places = {"dataset": str(root / "data"), "output": str(root / "out")}
    return parse(ServeSpec, {"job": places, **more}, "test")


def jobs_of(spec: ServeSpec, records: Records | None = None) -> Jobs:
    return Jobs(spec, FakePool(), records or records_of(spec))


def records_of(spec: ServeSpec) -> Records:
    return Records(spec.job.output)


def left_behind(serve: ServeSpec, **changes: Any) -> JobRecord:
    """A record as a service that is gone left it."""
    facts = {
        "job_id": new_job_id(), "kind": "service", "status": "running", "submitted_at": now(),
        "spec": serve.job.model_dump(mode="json"),
    }  # fmt: skip
    record = JobRecord.model_validate({**facts, **changes})
    records_of(serve).save(record)
    return record


async def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def other_owner() -> str:
    """An owner that lives on another machine, as far as anybody can tell."""
    return "far~boot~pid:[1]/7/1/abc"


def gone_owner() -> str:
    """An owner whose process has ended on this machine."""
    process = subprocess.Popen(["sleep", "60"])
    mine = ledger._place()
    owner = f"{mine}/{process.pid}/{ledger._start(process.pid)}/abc"
    assert not has_ended(owner)
    process.kill()
    deadline = time.monotonic() + 5
    while not has_ended(owner):  # a zombie has ended too
        assert time.monotonic() < deadline
    process.wait()
    assert has_ended(owner)
    return owner


# Submitting


def test_the_same_job_twice_is_one_job_until_it_ends_or_stops(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        mine = jobs_of(spec)
        first, twin = await asyncio.gather(*(mine.submit(spec.job, by) for by in ("a", "b")))
        assert first.job_id == twin.job_id
        other = spec.job.model_copy(update={"rotate": {"cam01": 90}})
        assert (await mine.submit(other, None)).job_id != first.job_id
        await mine.stop(first.job_id)
        assert (await mine.submit(spec.job, None)).job_id != first.job_id
        await until(lambda: mine.count == 2)
        await mine.close()

    run(test())


def test_a_twin_of_a_job_that_could_not_be_recorded_is_a_job_of_its_own(
    spec: ServeSpec, work: Work
) -> None:
    async def test() -> None:
        records = records_of(spec)
        save, failing = records.save, [True]

        def fails_once(record: JobRecord) -> None:
            time.sleep(0.05)
            if failing and failing.pop():
                raise StoreError("gone")
            save(record)

        records.save = fails_once
        mine = jobs_of(spec, records)
        found = await asyncio.gather(
            *(mine.submit(spec.job, None) for _ in range(3)), return_exceptions=True
        )
        assert [type(one) for one in found] == [StoreError, JobRecord, JobRecord]
        assert found[1].job_id == found[2].job_id
        assert mine.count == 1
        await mine.close()

    run(test())


def test_a_place_is_taken_before_anything_is_written(tmp_path: Path, work: Work) -> None:
    async def test() -> None:
        spec = spec_of(tmp_path, limits={"jobs": 3})
        mine = jobs_of(spec)
        different = [spec.job.model_copy(update={"rotate": {str(n): 90}}) for n in range(12)]
        found = await asyncio.gather(
            *(mine.submit(job, None) for job in different), return_exceptions=True
        )
        assert sum(isinstance(one, JobRecord) for one in found) == mine.count == 3
        assert sum(isinstance(one, TooManyJobs) for one in found) == 9
        await mine.close()

    run(test())


def test_a_job_whose_asker_hung_up_runs_when_it_was_recorded(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        mine = jobs_of(spec)
        asking = asyncio.create_task(mine.submit(spec.job, None))
        await asyncio.sleep(0)
        asking.cancel()
        await until(lambda: work.runs)
        assert mine.count == 1
        await mine.close()

    run(test())


# Ending


def test_a_slow_word_of_progress_never_lands_after_the_last(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        records = records_of(spec)
        save = records.save

        def slow_progress(record: JobRecord) -> None:
            if record.status == "running":
                time.sleep(0.3)
            save(record)

        records.save = slow_progress
        mine = jobs_of(spec, records)
        job = await mine.submit(spec.job, None)
        await asyncio.sleep(0.1)  # the word that it runs is under way
        await mine.stop(job.job_id)
        await until(lambda: not mine.count and not mine._running)
        await asyncio.sleep(0.4)
        found = records_of(spec).load(job.job_id)
        assert found is not None
        assert found.status == "stopped"
        assert found.finished_at

    run(test())


def test_the_end_of_a_job_is_written_when_it_can_be(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        records = records_of(spec)
        mine = jobs_of(spec, records)
        job = await mine.submit(spec.job, None)
        await until(lambda: work.runs)
        save, tries = records.save, []

        def fails(record: JobRecord) -> None:
            tries.append(record.status)
            if len(tries) < 4:
                raise StoreError("gone")
            save(record)

        records.save = fails
        work.error = RuntimeError("odd \udc80 name")
        work.go.set()
        await until(lambda: len(tries) > 1)
        # Known to have ended, here, and no longer in anybody's way.
        assert (await mine.get(job.job_id)).status == "failed"
        assert mine.count == 0
        assert (await mine.stop(job.job_id)).status == "failed"
        await until(lambda: not mine._running)
        found = records_of(spec).load(job.job_id)
        assert found is not None
        assert (found.status, found.error) == (
            "failed",
            "a fault of takestream: RuntimeError: odd ? name",
        )

    run(test())


def test_a_job_is_stopped_before_its_first_step_too(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        mine = jobs_of(spec)
        job = left_behind(spec)
        mine._ledger.hold(job)
        mine._begin(job.job_id, mine._run(job.job_id))
        await mine.stop(job.job_id)
        await until(lambda: not mine._running)
        assert records_of(spec).load(job.job_id).status == "stopped"
        assert not work.runs

    run(test())


def test_units_that_failed_without_a_word_fail_the_job(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        work.progress.units_failed = 2
        work.go.set()
        mine = jobs_of(spec)
        job = await mine.submit(spec.job, None)
        await until(lambda: not mine._running)
        found = await mine.get(job.job_id)
        assert found is not None
        assert found.status == "failed"
        assert found.error == "2 units were not extracted; submit it again to try them once more"

    run(test())


# Taking up what others left


def test_what_was_to_stop_is_stopped_and_the_rest_goes_on(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        work.go.set()
        owner = gone_owner()
        stopping = left_behind(spec, status="stopping", owner=owner)
        running = left_behind(spec, owner=owner, alive_at=now())
        old = left_behind(spec)  # of a version that knew no owners
        ray = left_behind(spec, kind="ray")
        mine = jobs_of(spec)
        await mine.resume()
        await until(lambda: not mine._running)
        ends = [records_of(spec).load(one.job_id).status for one in (stopping, running, old, ray)]
        assert ends == ["stopped", "succeeded", "succeeded", "running"]
        assert len(work.runs) == 2

    run(test())


def test_the_job_of_another_service_is_let_be_until_that_one_is_silent(
    spec: ServeSpec, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        first, second = jobs_of(spec), jobs_of(spec)
        job = await first.submit(spec.job, None)
        far = left_behind(spec, owner=other_owner(), alive_at=now())
        await until(lambda: work.runs)
        monkeypatch.setattr(ledger, "STALE_SECONDS", 0.2)
        monkeypatch.setattr(ledger, "BEAT_SECONDS", 0.0)
        monkeypatch.setattr(ledger, "now", lambda: str(time.time()))  # finer than a second
        for _ in range(3):
            await second.resume()
            await asyncio.sleep(0.12)
            await first.beat()
            records_of(spec).save(far.model_copy(update={"alive_at": str(time.time())}))
        assert len(work.runs) == 1
        assert second.count == 0
        with pytest.raises(NotOwner, match=f"another service, on {host_of(first._ledger.owner)}"):
            await second.stop(job.job_id)
        with pytest.raises(NotOwner, match="another service, on far:"):
            await second.stop(far.job_id)
        nobodys = left_behind(spec)
        with pytest.raises(NotOwner, match="run by no service at the moment"):
            await second.stop(nobodys.job_id)
        records_of(spec).save(nobodys.model_copy(update={"status": "failed"}))
        ray = left_behind(spec, kind="ray")
        with pytest.raises(NotOwner, match="Ray cluster"):
            await second.stop(ray.job_id)

        await second.resume()
        await asyncio.sleep(0.3)  # nobody beats
        await second.resume()
        await until(lambda: len(work.runs) == 3)
        assert {one.job_id for one in second._ledger.all_held()} == {job.job_id, far.job_id}
        # The one that was only slow finds that out, and leaves the job alone.
        await first.beat()
        await until(lambda: not first._running)
        assert first.count == 0
        work.go.set()
        await until(lambda: not second._running)
        assert records_of(spec).load(job.job_id).status == "succeeded"
        # Workers heard that the first run was cancelled; a second one is another to them.
        assert len(set(work.runs)) == len(work.runs)

    run(test())


def test_jobs_that_are_handed_back_are_taken_up_at_once(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        first, second = jobs_of(spec), jobs_of(spec)
        job = await first.submit(spec.job, None)
        await until(lambda: work.runs)
        await first.close()
        found = records_of(spec).load(job.job_id)
        assert found is not None
        assert (found.status, found.owner) == ("queued", None)
        await second.resume()
        await until(lambda: len(work.runs) == 2)
        await second.close()

    run(test())


def test_a_record_says_nothing_that_a_caller_may_not_say(
    spec: ServeSpec, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    good = spec.job.model_dump(mode="json")
    foreign = {
        **good,
        "run": {**good["run"], "address": "evil:6379"},
        "s3": {**good["s3"], "endpoint_url": "http://evil"},
        "encoder": {**good["encoder"], "weights": "s3://evil/pickle", "frames": 4},
    }
    job = resumed_job(foreign, spec)
    assert (job.run, job.s3, job.encoder.weights) == (spec.job.run, spec.job.s3, None)
    assert job.encoder.frames == 4
    assert resumed_job(good, spec) == spec.job

    async def test() -> None:
        places = [{"output": "/etc"}, {"dataset": "s3://evil/x"}, {"encoder": {"preset": "clip"}}]
        bad = [left_behind(spec, spec={**good, **place}) for place in places]
        bad.append(left_behind(spec, spec={"no": "job"}))
        mine = jobs_of(spec)
        await mine.resume()
        await mine.resume()
        assert mine.count == 0
        assert not work.runs
        assert caplog.text.count("is not taken up") == len(bad)
        assert all(records_of(spec).load(one.job_id) == one for one in bad)

    run(test())


# Following


def test_followers_neither_lose_nor_outlive_what_they_follow(spec: ServeSpec, work: Work) -> None:
    async def test() -> None:
        mine = jobs_of(spec)
        job = await mine.submit(spec.job, None)
        await until(lambda: work.runs)
        heard: list[str] = []

        async def follow() -> None:
            async for record in mine.follow(job.job_id, 60):
                heard.append(record.status)

        leaving = mine.follow(job.job_id, 60)
        await anext(leaving)
        staying = asyncio.create_task(follow())
        await until(lambda: heard)
        await leaving.aclose()
        work.go.set()
        await staying
        assert heard[-1] == "succeeded"

        work.go.clear()
        job = await mine.submit(spec.job, None)
        far = left_behind(spec, owner=other_owner())
        waiting = [asyncio.create_task(follow())]
        job = far
        waiting.append(asyncio.create_task(follow()))
        await asyncio.sleep(0.1)
        assert not any(one.done() for one in waiting)
        await mine.close()
        async with asyncio.timeout(1):
            await asyncio.gather(*waiting)

    run(test())


def test_a_job_of_another_service_is_followed_by_its_record(
    spec: ServeSpec, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(ledger, "LOOK_SECONDS", 0.05)
        far = left_behind(spec, owner=other_owner())
        book = Ledger(records_of(spec), lambda job_id: None)
        heard = []
        async for record in book.follow(far.job_id, 5):
            heard.append(record.status)
            if len(heard) == 1:
                records_of(spec).save(far.model_copy(update={"alive_at": now()}))
                await asyncio.sleep(0.1)
                records_of(spec).save(far.model_copy(update={"status": "failed"}))
        assert heard == ["running", "failed"]
        still = left_behind(spec, owner=other_owner())
        assert [r.status async for r in book.follow(still.job_id, 0.2)] == ["running"]

    run(test())


# The engine


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, spec: ServeSpec, work: Work) -> Callable[[], Engine]:
    monkeypatch.setattr(engine, "Pool", FakePool)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(engine, "make_recipe", lambda job: None)
    monkeypatch.setattr(engine, "probe_writable", lambda *place: None)
    return lambda: Engine(spec.model_dump(mode="json"))


def test_an_engine_tries_again_what_failed_and_says_so_meanwhile(
    started: Callable[[], Engine], spec: ServeSpec, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        job = left_behind(spec)
        unfinished, tries = Records.unfinished, []

        def slow_down(records: Records) -> Any:
            tries.append(1)
            if len(tries) < 3:
                raise StoreError("cannot list: 503 SlowDown")
            return unfinished(records)

        broken = [OSError("no such disk"), ValueError("odd")]

        def make(job: object) -> None:
            if broken:
                raise broken.pop()

        monkeypatch.setattr(Records, "unfinished", slow_down)
        monkeypatch.setattr(engine, "make_recipe", make)
        mine = started()
        said: set[tuple[str, str]] = set()
        while found := await mine.ready():
            said |= found.items()
            if "jobs" in found and mine._ready.is_set():
                assert isinstance(await mine.submit(spec.job, None), Refusal)
            await asyncio.sleep(0.01)
        assert {
            ("model", "ValueError: odd"), ("model", "OSError: no such disk"),
            ("jobs", "not taken up yet"), ("jobs", "cannot list: 503 SlowDown"),
        } <= said  # fmt: skip
        await until(lambda: work.runs)
        assert (await mine.submit(spec.job, None)).job_id == job.job_id
        monkeypatch.setattr(engine, "FOLLOW_SECONDS", 0.1)
        assert [one.status async for one in mine.job_events(job.job_id)] == ["running"]
        far = left_behind(spec, owner=other_owner())
        assert isinstance(await mine.job_stop(far.job_id), Refusal)
        await mine.close()
        assert [one async for one in mine.job_events(job.job_id)] == []

    run(test())


def test_an_engine_beats_and_takes_up_later_what_others_leave(
    started: Callable[[], Engine], spec: ServeSpec, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(engine, "BEAT_SECONDS", 0.05)
        monkeypatch.setattr(ledger, "BEAT_SECONDS", 0.05)
        mine = started()
        await until(lambda: "jobs" not in mine._failing)
        job = left_behind(spec, owner=gone_owner())
        await until(lambda: work.runs)
        saves: list[JobRecord] = []
        save = Records.save
        monkeypatch.setattr(Records, "save", lambda self, r: (saves.append(r), save(self, r)))
        await until(lambda: len(saves) > 2)
        assert {one.job_id for one in saves} == {job.job_id}
        assert all(one.alive_at for one in saves)
        await mine.close()

    run(test())


def test_all_who_ask_share_one_look_at_the_output(
    started: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        looks: list[int] = []

        def hangs(*place: object) -> None:
            looks.append(1)
            time.sleep(0.3)
            raise StoreError("no answer")

        monkeypatch.setattr(engine, "probe_writable", hangs)
        mine = started()
        found = await asyncio.gather(*(mine.ready() for _ in range(12)))
        assert [one["output"] for one in found] == ["no answer"] * 12
        assert len(looks) == 1
        await mine.close()

    run(test())


def test_who_waits_for_a_window_hears_that_the_service_goes_down() -> None:
    async def test() -> None:
        ondemand = OnDemand(FakePool(), 8)
        recipe: Any = type("Recipe", (), {"key": "k"})

        async def ask() -> None:
            async for _ in ondemand.window(recipe, "take", ["cam01_0"], 0, 8):
                pass

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0.01)
        ondemand.close()
        with pytest.raises(Busy, match="goes down; try again later"):
            await asking

    run(test())
