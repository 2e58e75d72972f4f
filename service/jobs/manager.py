"""Jobs that a service runs: on its own workers, with a record in the output that outlives it."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import asdict
from typing import Any

from configs.load import SettingsError
from configs.schema import JobSpec, ServeSpec
from models.errors import ModelError
from service.errors import Unknown
from service.jobs.launch import choose_takes
from service.jobs.ownership import Ledger, NotOwner, has_ended, host_of
from service.jobs.policy import NotAllowed as NotAllowed  # for the HTTP layer
from service.jobs.policy import checked_job as checked_job
from service.jobs.policy import resumed_job
from service.jobs.records import JobRecord, Records, new_job_id, now
from service.report.summary import write_report
from workers.dataset.take import DatasetError
from workers.media.source import SourceError
from workers.run.job import Progress, run_job
from workers.run.pool import Pool
from workers.run.recipe import make_recipe
from workers.run.tasks import FinishedTake, Record
from workers.store.errors import StoreError

log = logging.getLogger(__name__)

# Jobs that run at a time; they share the workers, so more would only finish later together.
AT_ONCE = 2
# How often a running job's record is written, and its followers hear of it, in seconds.
SAVE_SECONDS, TELL_SECONDS = 10.0, 0.5
KEPT_FAILURES = 200
STOPPED = "stopped; what was written is kept, submit it again to go on"


class TooManyJobs(Exception):
    """So many jobs wait already that another is refused."""


class Jobs:
    """The jobs of a service. All methods belong to one event loop."""

    def __init__(self, spec: ServeSpec, pool: Pool, records: Records) -> None:
        self._spec, self._pool, self._records = spec, pool, records
        self._ledger = Ledger(records, self._lost)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._admissions: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()
        self._left_alone: set[str] = set()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def resume(self) -> None:
        """Take up the jobs that no service runs any more. Raises StoreError."""
        begun: list[str] = []
        for record in await self._ledger.abandoned():
            job_id = record.job_id
            if record.status == "stopping":  # somebody was promised that it stops
                self._ledger.hold(record)
                self._begin(job_id, self._end(job_id, {"status": "stopped"}, STOPPED))
                continue
            try:
                job = resumed_job(record.spec, self._spec)
            except (SettingsError, Unknown) as error:
                if job_id not in self._left_alone:
                    log.warning("job %s is not taken up: %s", job_id, error)
                self._left_alone.add(job_id)
                continue
            log.info("job %s goes on", job_id)
            fields = {"status": "queued", "spec": job.model_dump(mode="json")}
            self._ledger.hold(record.model_copy(update=fields))
            self._begin(job_id, self._run(job_id))
            begun.append(job_id)
        await asyncio.gather(*map(self._save, begun))

    async def beat(self) -> None:
        """Show the others that this service lives; wanted every `BEAT_SECONDS`. As `resume`."""
        await self._ledger.beat()

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord:
        """Queue a job whose places were checked already; the same job twice is one job.

        Raises TooManyJobs, StoreError.
        """
        spec = job.model_dump(mode="json")
        while twin := self._twin(spec):
            if admission := self._admissions.get(twin.job_id):
                await asyncio.wait({admission})  # its first record may still fail
            if found := self._ledger.held(twin.job_id):
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
        self._ledger.hold(record)  # before anything is awaited: its place is taken
        # A record that was written is run, also when who asked for it is gone by then.
        admission = asyncio.create_task(self._admit(record.job_id))
        self._admissions[record.job_id] = admission
        admission.add_done_callback(lambda _: self._admissions.pop(record.job_id))
        await asyncio.shield(admission)
        return record

    async def get(self, job_id: str) -> JobRecord | None:
        """A job by its id, from the output when this service does not run it. Raises StoreError."""
        return await self._ledger.load(job_id)

    async def newest(self, limit: int) -> Sequence[JobRecord]:
        """The newest jobs first. Raises StoreError."""
        found = await asyncio.to_thread(self._records.list, limit)
        return [self._ledger.held(record.job_id) or record for record in found]

    async def stop(self, job_id: str) -> JobRecord | None:
        """Stop a job at its next batch; what is written is kept. An ended one is left as it is.

        Raises NotOwner when somebody else runs it, StoreError.
        """
        record = await self.get(job_id)
        if record is None or record.ended:
            return record
        if record.kind == "ray":
            raise NotOwner(f"job {job_id} runs on a Ray cluster: `takestream stop` stops it there")
        if self._ledger.held(job_id) is None:
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
            self._ledger.note(job_id, status="stopping")
            task.cancel()
        await self._save(job_id)
        return await self.get(job_id)

    def follow(self, job_id: str, seconds: float) -> AsyncIterator[JobRecord]:
        """The job now, and again whenever it changed, until it has ended or time is up.

        Raises StoreError.
        """
        return self._ledger.follow(job_id, seconds)

    async def log(self, job_id: str) -> str:
        """The job's log. Raises StoreError."""
        return await asyncio.to_thread(self._records.log, job_id)

    async def close(self) -> None:
        """Hand all work back: jobs stay unfinished in their records, for the next service."""
        self._ledger.end_followers()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ledger.close()

    @property
    def count(self) -> int:
        """Jobs that have not ended."""
        return sum(not record.ended for record in self._ledger.all_held())

    def _twin(self, spec: dict[str, Any]) -> JobRecord | None:
        goes_on = (r for r in self._ledger.all_held() if r.status in ("queued", "running"))
        return next((record for record in goes_on if record.spec == spec), None)

    async def _admit(self, job_id: str) -> None:
        try:
            await self._ledger.save(job_id)
        except BaseException:
            self._ledger.drop(job_id)
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
            elif asked and self._ledger.held(job_id):
                self._begin(job_id, self._end(job_id, {"status": "stopped"}, STOPPED))
            # Otherwise the service goes down, or another has the job now: it has not ended.

        self._running[job_id] = asyncio.create_task(work)
        self._running[job_id].add_done_callback(over)

    def _lost(self, job_id: str) -> None:
        if task := self._running.get(job_id):
            task.cancel()

    async def _run(self, job_id: str) -> None:
        words: str | None = None
        try:
            async with self._turn:
                end = await self._carry_out(job_id)
        except (SettingsError, DatasetError, ModelError, SourceError, StoreError) as error:
            end, words = {"status": "failed", "error": str(error)}, str(error)
        except Exception as error:
            log.exception("job %s", job_id)
            words = f"{type(error).__name__}: {error}"
            end = {"status": "failed", "error": f"a fault of takestream: {words}"}
        await self._end(job_id, end, words)

    async def _end(self, job_id: str, end: dict[str, Any], words: str | None) -> None:
        # In memory first: from here on nothing stops it or counts it as under way.
        self._ledger.note(job_id, finished_at=now(), **end)
        if words:
            await self._say(job_id, words)
        await self._ledger.settle(job_id)

    async def _carry_out(self, job_id: str) -> dict[str, Any]:
        record = self._ledger.held(job_id)
        assert record is not None
        job = JobSpec.model_validate(record.spec)
        recipe = await asyncio.to_thread(make_recipe, job)
        takes = await asyncio.to_thread(choose_takes, job)
        begun = record.started_at or now()
        self._ledger.note(job_id, status="running", started_at=begun, encoder_id=recipe.encoder_id)
        await self._save(job_id)
        await self._say(job_id, f"{len(takes)} takes with {recipe.encoder_id}")
        news = _News(self, job_id)
        # Workers remember who was cancelled, so a job that comes back comes under another name.
        owner = f"{job_id}-{secrets.token_hex(2)}"
        report = await run_job(self._pool, recipe, takes, news, owner=owner, interval=TELL_SECONDS)
        await news.settle()
        where = await asyncio.to_thread(write_report, recipe, report)
        await self._say(job_id, f"done: {'ok' if report.ok else 'with failures'}; report {where}")
        failures = [_failure(f) for f in report.failures]
        status = "succeeded" if report.ok else "failed"
        return {
            "status": status,
            "progress": progress_facts(report.progress),
            "failures": failures[:KEPT_FAILURES],
            "error": None if report.ok else _error(failures, report.progress.units_failed),
        }

    async def _save(self, job_id: str) -> None:
        """Write how a job stands; when that fails, the next word or sign of life says it."""
        try:
            await self._ledger.save(job_id)
        except StoreError as error:
            log.error("job %s: its record cannot be written: %s", job_id, error)

    async def _say(self, job_id: str, *lines: str) -> None:
        stamped = [f"{now()} {line}" for line in lines]
        try:
            await asyncio.to_thread(self._records.append_log, job_id, stamped)
        except StoreError as error:
            log.error("job %s: its log cannot be written: %s", job_id, error)


class _News:
    """Progress of a run into its record: told at once, written now and then."""

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self._jobs, self._job_id = jobs, job_id
        self._saved = 0.0
        self._writing: asyncio.Task[None] | None = None
        self._lines: list[str] = []

    def __call__(self, progress: Progress, records: Sequence[Record]) -> None:
        for record in records:
            if isinstance(record, FinishedTake) and record.complete:
                self._lines.append(f"{record.take.name}: complete")
            for failure in record.failures:
                where = " ".join(filter(None, (failure.take, failure.stream)))
                self._lines.append(f"{where}: {failure.reason}")
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(progress_facts(progress)))

    async def settle(self) -> None:
        """Wait for the last writing, then write what came since."""
        if self._writing is not None:
            await self._writing
        if self._lines:
            await self._say()

    async def _write(self, facts: dict[str, Any]) -> None:
        clock = asyncio.get_running_loop().time()
        self._jobs._ledger.note(self._job_id, progress=facts)
        if clock - self._saved > SAVE_SECONDS:
            self._saved = clock
            await self._jobs._save(self._job_id)
        if self._lines:
            await self._say()

    async def _say(self) -> None:
        lines, self._lines = self._lines, []
        await self._jobs._say(self._job_id, *lines)


def progress_facts(progress: Progress) -> dict[str, Any]:
    """Where a job stands, JSON-able."""
    facts = {k: v for k, v in asdict(progress).items() if k != "counts"}
    return {**facts, "seconds": round(progress.seconds, 1), "clips_seen": int(progress.clips_seen)}


def _failure(failure: Any) -> dict[str, Any]:
    return {"take": failure.take, "stream": failure.stream, "reason": failure.reason}


def _error(failures: Sequence[dict[str, Any]], units: int) -> str:
    if not failures:
        return f"{units} units were not extracted; submit it again to try them once more"
    return f"{len(failures)} failures; first: {failures[0]['take']}: {failures[0]['reason']}"
