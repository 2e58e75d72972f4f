"""Jobs of a service, submitted, stopped and ended, with work that is only pretended."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from configs.schema import ServeSpec
from service.jobs import manager
from service.jobs.listing import JobQuery
from service.jobs.manager import TooManyJobs
from service.jobs.records import JobRecord
from tests.support.jobs import (
    Work,
    jobs_of,
    left_behind,
    records_of,
    run,
    spec_of,
    until,
)  # fmt: skip
from workers.store.errors import StoreError


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
        replace, failing = records.replace, [True]

        def fails_once(record: JobRecord, version: str | None) -> str | None:
            time.sleep(0.05)
            if failing and failing.pop():
                raise StoreError("gone")
            return replace(record, version)

        records.replace = fails_once
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
        replace = records.replace

        def slow_progress(record: JobRecord, version: str | None) -> str | None:
            if record.status == "running":
                time.sleep(0.3)
            return replace(record, version)

        records.replace = slow_progress
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
        replace, tries = records.replace, []

        def fails(record: JobRecord, version: str | None) -> str | None:
            tries.append(record.status)
            if len(tries) < 4:
                raise StoreError("gone")
            return replace(record, version)

        records.replace = fails
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
        assert await mine._ownership.claim_abandoned(job)
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
        assert found.error == ("2 units that were not extracted; run it again to try once more")

    run(test())


def test_jobs_are_listed_page_by_page_and_by_what_they_are(
    spec: ServeSpec, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        records, mine = records_of(spec), jobs_of(spec)
        for number in range(7):
            even = number % 2 == 0
            records.save(
                JobRecord(
                    job_id=f"20261124-054233-{number:06x}", kind="service", submitted_at="",
                    status="succeeded" if even else "failed", submitted_by="ann" if even else "bob",
                    spec={"encoder": "clip"} if number == 3 else {},
                    encoder_ids=("vit-0123456789",) if number > 4 else (),
                )
            )  # fmt: skip

        async def pages(**wanted: Any) -> list[list[int]]:
            found, cursor = [], None
            while True:
                page = await mine.list(JobQuery(cursor=cursor, **wanted))
                found.append([int(one.job_id[-6:], 16) for one in page.jobs])
                cursor = page.cursor
                if cursor is None:
                    return found

        assert await pages(limit=3) == [[6, 5, 4], [3, 2, 1], [0]]
        assert await pages(limit=7) == [[6, 5, 4, 3, 2, 1, 0]]
        assert await pages(statuses=("failed",)) == [[5, 3, 1]]
        assert await pages(statuses=("failed", "succeeded"), by="ann") == [[6, 4, 2, 0]]
        assert await pages(encoder="vit") == await pages(encoder="vit-0123456789") == [[6, 5]]
        assert await pages(encoder="clip") == [[3]]
        # A search that finds little is cut into pages too.
        monkeypatch.setattr(manager, "SEARCHED", 3)
        assert await pages(encoder="clip") == [[], [3], []]
        # What runs here is known better than its record.
        job = await mine.submit(spec.job, None)
        await until(lambda: mine._ownership.owned(job.job_id).status == "running")
        listed = await mine.list(JobQuery(statuses=("running",)))
        assert [one.job_id for one in listed.jobs] == [job.job_id]
        await mine.close()

    run(test())
