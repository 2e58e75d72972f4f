"""Jobs that a service runs: on its own workers, with a record in the output that outlives it."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

from configs.load import SettingsError
from configs.schema import JobSpec, ServeSpec
from service.errors import Unknown
from service.jobs.choose import choose
from service.jobs.claim import NotOwner, has_ended, host_of
from service.jobs.driver import Finished, drive
from service.jobs.listing import JobList, JobQuery
from service.jobs.ownership import Ownership
from service.jobs.policy import resumed_job
from service.jobs.recorder import ProgressRecorder
from service.jobs.records import JobRecord, Records, new_job_id, now
from service.report.ending import JobEnd, end_of_error, stopped
from takestream.errors import StorageError, TakestreamError
from workers.run.pool import Pool

log = logging.getLogger(__name__)

# Jobs that run at a time; they share the workers, so more would only finish later together.
AT_ONCE = 2
# Records that one list reads at most, some hundred at a time.
SEARCHED = 2000


class TooManyJobs(Exception):
    """So many jobs wait already that another is refused."""


class Jobs:
    """The jobs of a service. All methods belong to one event loop."""

    def __init__(self, spec: ServeSpec, pool: Pool, records: Records) -> None:
        self._spec, self._pool, self._records = spec, pool, records
        self._ownership = Ownership(records, self._lost)
        self._recorders: dict[str, ProgressRecorder] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._admissions: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()
        self._left_alone: set[str] = set()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def resume(self) -> None:
        """Take up the jobs that no service runs any more. Raises StorageError."""
        for record in await self._ownership.abandoned():
            job_id = record.job_id
            if record.status == "stopping":  # a client was told that it stops
                if await self._ownership.claim_abandoned(record):
                    self._begin(job_id, self._end(job_id, stopped(record.progress)))
                continue
            try:
                job = resumed_job(record.spec, self._spec)
            except (SettingsError, Unknown) as error:
                if job_id not in self._left_alone:
                    log.warning("job %s is not taken up: %s", job_id, error)
                self._left_alone.add(job_id)
                continue
            fields = {"status": "queued", "spec": job.model_dump(mode="json")}
            if await self._ownership.claim_abandoned(record, **fields):
                log.info("job %s goes on", job_id)
                self._begin(job_id, self._run(job_id))

    async def heartbeat(self) -> None:
        """Show other services that this one lives, every `BEAT_SECONDS`. Raises StorageError."""
        await self._ownership.heartbeat()

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord:
        """Queue a job whose places were checked already; the same job twice is one job.

        Raises TooManyJobs, StorageError.
        """
        spec = job.model_dump(mode="json")
        while twin := self._twin(spec):
            if admission := self._admissions.get(twin.job_id):
                await asyncio.wait({admission})  # its first record may still fail
            if found := self._ownership.owned(twin.job_id):
                return found
        if self.count >= self._spec.limits.jobs:
            raise TooManyJobs(f"{self.count} jobs have not ended yet; stop one, or wait")
        record = JobRecord(
            job_id=new_job_id(),
            kind="service",
            status="queued",
            submitted_at=now(),
            submitted_by=by,
            spec=spec,
        )
        self._ownership.claim(record)  # before anything is awaited: its place is taken
        # A record that was written is run, also when who asked for it is gone by then.
        admission = asyncio.create_task(self._admit(record.job_id))
        self._admissions[record.job_id] = admission
        admission.add_done_callback(lambda _: self._admissions.pop(record.job_id))
        await asyncio.shield(admission)
        return record

    async def get(self, job_id: str) -> JobRecord | None:
        """A job by its id, from the output when it does not run here. Raises StorageError."""
        return await self._ownership.load(job_id)

    async def list(self, query: JobQuery) -> JobList:
        """The jobs that are asked for, newest first. Raises StorageError."""

        def known(record: JobRecord) -> JobRecord | None:
            newest = self._ownership.owned(record.job_id) or record
            return newest if query.wants(newest) else None

        search = partial(self._records.search, known, query.limit, query.cursor, most=SEARCHED)
        return JobList(*await asyncio.to_thread(search))

    async def stop(self, job_id: str) -> JobRecord | None:
        """Stop a job at its next batch; what is written is kept. An ended one is left as it is.

        Raises NotOwner when another process runs it, StorageError.
        """
        record = await self.get(job_id)
        if record is None or record.ended:
            return record
        if record.kind == "ray":
            raise NotOwner(f"job {job_id} runs on a Ray cluster: `takestream stop` stops it there")
        if self._ownership.owned(job_id) is None:
            where = "is run by no service at the moment"
            if record.owner and not has_ended(record.owner):
                where = f"is run by another service, on {host_of(record.owner)}: stop it there"
            raise NotOwner(
                f"job {job_id} {where}; try again in a minute: this service takes up what no other "
                "runs"
            )
        task = self._running.get(job_id)
        if task is not None and job_id not in self._stopping:
            self._stopping.add(job_id)
            self._ownership.update(job_id, status="stopping")
            task.cancel()
        await self._save(job_id)
        return await self.get(job_id)

    def follow(self, job_id: str, seconds: float) -> AsyncIterator[JobRecord]:
        """The job now, and again whenever it changed, until it has ended or time is up.

        Raises StorageError.
        """
        return self._ownership.follow(job_id, seconds)

    async def log(self, job_id: str) -> str:
        """The job's log. Raises StorageError."""
        return await asyncio.to_thread(self._records.log, job_id)

    async def close(self) -> None:
        """Hand all work back: jobs stay unfinished in their records, for the next service."""
        self._ownership.end_followers()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ownership.release()

    @property
    def count(self) -> int:
        """Jobs that have not ended."""
        return sum(not record.ended for record in self._ownership.all_owned())

    def _twin(self, spec: dict[str, Any]) -> JobRecord | None:
        goes_on = (r for r in self._ownership.all_owned() if r.status in ("queued", "running"))
        return next((record for record in goes_on if record.spec == spec), None)

    async def _admit(self, job_id: str) -> None:
        try:
            await self._ownership.save(job_id)
        except BaseException:
            self._ownership.drop(job_id)
            raise
        self._begin(job_id, self._run(job_id))

    def _begin(self, job_id: str, work: Coroutine[Any, Any, None]) -> None:
        def over(task: asyncio.Task[None]) -> None:
            del self._running[job_id]
            asked = job_id in self._stopping
            self._stopping.discard(job_id)
            if not task.cancelled():
                if error := task.exception():
                    log.error("job %s", job_id, exc_info=error)
            elif asked and (record := self._ownership.owned(job_id)):
                self._begin(job_id, self._end(job_id, stopped(record.progress)))
                return
            # Otherwise it is at its end, the service goes down, or another has the job now.
            if recorder := self._recorders.pop(job_id, None):
                recorder.abandon()

        self._running[job_id] = asyncio.create_task(work)
        self._running[job_id].add_done_callback(over)

    def _lost(self, job_id: str) -> None:
        if task := self._running.get(job_id):
            task.cancel()

    async def _run(self, job_id: str) -> None:
        recorder = self._recorder(job_id)
        where = None
        try:
            async with self._turn:
                finished = await self._drive(job_id, recorder)
                end, where = finished.end, finished.where
        except Exception as error:
            end = end_of_error(error)
            if not isinstance(error, TakestreamError):
                log.exception("job %s", job_id)
        await self._end(job_id, end, where)

    async def _drive(self, job_id: str, recorder: ProgressRecorder) -> Finished:
        record = self._ownership.owned(job_id)
        assert record is not None
        chosen = await asyncio.to_thread(choose, JobSpec.model_validate(record.spec))
        recorder.begin(chosen)
        # Workers remember who was cancelled, so a job that comes back comes under another name.
        owner = f"{job_id}-{secrets.token_hex(2)}"
        return await drive(self._pool, chosen, recorder, owner=owner)

    async def _end(self, job_id: str, end: JobEnd, where: str | None = None) -> None:
        recorder = self._recorder(job_id)
        # In memory first: from here on nothing stops it or counts it as under way.
        recorder.end(end, where)
        await asyncio.to_thread(recorder.finish)
        await self._ownership.close(job_id)

    def _recorder(self, job_id: str) -> ProgressRecorder:
        if job_id not in self._recorders:
            claim = self._ownership.claim_of(job_id)
            assert claim is not None
            self._recorders[job_id] = ProgressRecorder(self._records, claim)
        return self._recorders[job_id]

    async def _save(self, job_id: str) -> None:
        """Write how a job stands; when that fails, the next write or heartbeat does it."""
        try:
            await self._ownership.save(job_id)
        except StorageError as error:
            log.error("job %s: its record cannot be written: %s", job_id, error)
