"""Jobs that one service leaves and another claims, and those who follow them."""

import asyncio
import time

import pytest

from configs.schema import ServeSpec
from service.jobs import claim, ownership
from service.jobs.claim import NotOwner, host_of
from service.jobs.ownership import Ownership
from service.jobs.policy import NotAllowed, checked_job, resumed_job
from service.jobs.records import now
from tests.support.jobs import (
    Work,
    gone_owner,
    jobs_of,
    left_behind,
    other_owner,
    records_of,
    run,
    until,
)  # fmt: skip


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
        monkeypatch.setattr(ownership, "STALE_SECONDS", 0.2)
        monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.0)
        monkeypatch.setattr(claim, "now", lambda: str(time.time()))  # finer than a second
        for _ in range(3):
            await second.resume()
            await asyncio.sleep(0.12)
            await first.heartbeat()
            records_of(spec).save(far.model_copy(update={"alive_at": str(time.time())}))
        assert len(work.runs) == 1
        assert second.count == 0
        with pytest.raises(NotOwner, match=f"on {host_of(first._ownership.owner)}: stop"):
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
        assert {one.job_id for one in second._ownership.all_owned()} == {job.job_id, far.job_id}
        # The one that was only slow finds that out, and leaves the job alone.
        await first.heartbeat()
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
        "dataset_licence": {"name": "free for all"},
        "encoders": [{**good["encoders"][0], "weights": "s3://evil/pickle", "frames": 4}],
    }
    job = resumed_job(foreign, spec)
    assert (job.run, job.s3, job.encoder.weights) == (spec.job.run, spec.job.s3, None)
    assert job.dataset_licence is None
    assert job.encoder.frames == 4
    with pytest.raises(NotAllowed, match="dataset_licence"):
        checked_job({"dataset_licence": "free for all"}, spec, ("clip",))
    assert resumed_job(good, spec) == spec.job

    async def test() -> None:
        other = {"encoders": [{"preset": "clip"}]}
        places = [{"output": "/etc"}, {"dataset": "s3://evil/x"}, other]
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
        monkeypatch.setattr(ownership, "LOOK_SECONDS", 0.05)
        far = left_behind(spec, owner=other_owner())
        book = Ownership(records_of(spec), lambda job_id: None)
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
