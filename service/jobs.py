"""Jobs that a service runs: on its own workers, with a record in the output that outlives it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

from configs.load import SettingsError
from configs.schema import JobSpec, ServeSpec
from models.errors import ModelError
from service.catalogue import Unknown
from service.launch import choose_takes
from service.records import ENDED, JobRecord, Records, new_job_id, now
from service.report import write_report
from workers.dataset import DatasetError
from workers.dispatch import Pool
from workers.job import Progress, run_job
from workers.objects import StoreError
from workers.recipe import Recipe, make_recipe
from workers.source import SourceError
from workers.unit import FinishedTake, Record

log = logging.getLogger(__name__)

# Jobs that run at a time; they share the workers, so more would only finish later together.
AT_ONCE = 2
# How often a running job's record is written, and its followers hear of it, in seconds.
SAVE_SECONDS, TELL_SECONDS = 10.0, 0.5
KEPT_FAILURES = 200


class NotAllowed(SettingsError):
    """A job that reaches outside what this service may touch."""


class TooManyJobs(Exception):
    """So many jobs wait already that another is refused."""


class Jobs:
    """The jobs of a service. All methods belong to one event loop."""

    def __init__(self, spec: ServeSpec, pool: Pool, records: Records) -> None:
        self._spec, self._pool, self._records = spec, pool, records
        self._known: dict[str, JobRecord] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()
        self._changed: dict[str, asyncio.Event] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def resume(self) -> None:
        """Take up the jobs that a service before this one left unfinished."""
        for record in await asyncio.to_thread(self._records.unfinished):
            if record.kind == "service" and record.job_id not in self._known:
                log.info("job %s goes on", record.job_id)
                self._start(record.model_copy(update={"status": "queued"}))

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord:
        """Queue a job whose places were checked already. Raises TooManyJobs, StoreError."""
        if len(self._running) >= self._spec.limits.jobs:
            raise TooManyJobs(f"{len(self._running)} jobs have not ended yet; stop one, or wait")
        record = JobRecord(
            job_id=new_job_id(),
            kind="service",
            status="queued",
            submitted_at=now(),
            submitted_by=by,
            spec=job.model_dump(mode="json"),
        )
        await asyncio.to_thread(self._records.save, record)
        self._start(record)
        return record

    async def get(self, job_id: str) -> JobRecord | None:
        """A job by its id, from the output when this service has not run it. Raises StoreError."""
        if job_id in self._known:
            return self._known[job_id]
        return await asyncio.to_thread(self._records.load, job_id)

    async def newest(self, limit: int) -> Sequence[JobRecord]:
        """The newest jobs first. Raises StoreError."""
        found = await asyncio.to_thread(self._records.list, limit)
        return [self._known.get(record.job_id, record) for record in found]

    async def stop(self, job_id: str) -> JobRecord | None:
        """Stop a job at its next batch; what is written is kept. An ended one is left as it is."""
        task = self._running.get(job_id)
        if task is not None and job_id not in self._stopping:
            self._stopping.add(job_id)
            await self._change(job_id, status="stopping")
            task.cancel()
        return await self.get(job_id)

    async def follow(self, job_id: str) -> AsyncIterator[JobRecord]:
        """The job now, and again whenever it changed, until it has ended."""
        while True:
            changed = self._changed.setdefault(job_id, asyncio.Event())
            record = await self.get(job_id)
            if record is None:
                return
            yield record
            if record.status in ENDED or job_id not in self._running:
                self._changed.pop(job_id, None)
                return
            await changed.wait()

    async def log(self, job_id: str) -> str:
        """The job's log. Raises StoreError."""
        return await asyncio.to_thread(self._records.log, job_id)

    async def close(self) -> None:
        """Hand all work back: jobs stay unfinished in their records, for the next service."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def count(self) -> int:
        """Jobs that have not ended."""
        return len(self._running)

    def _start(self, record: JobRecord) -> None:
        self._known[record.job_id] = record
        self._running[record.job_id] = asyncio.create_task(self._run(record.job_id))

    async def _run(self, job_id: str) -> None:
        end: dict[str, Any] = {}
        try:
            async with self._turn:
                end = await self._carry_out(job_id)
        except asyncio.CancelledError:
            if job_id not in self._stopping:
                raise  # the service goes down; the record says that the job has not ended
            end = {"status": "stopped"}
            await self._say(job_id, "stopped; what was written is kept, submit it again to go on")
        except (SettingsError, DatasetError, ModelError, SourceError, StoreError) as error:
            end = {"status": "failed", "error": str(error)}
            await self._say(job_id, str(error))
        except Exception as error:
            log.exception("job %s", job_id)
            words = f"{type(error).__name__}: {error}"
            end = {"status": "failed", "error": f"a fault of takestream: {words}"}
            await self._say(job_id, words)
        finally:
            if end:
                await self._change(job_id, finished_at=now(), **end)
                self._known.pop(job_id, None)
            self._running.pop(job_id, None)
            self._stopping.discard(job_id)

    async def _carry_out(self, job_id: str) -> dict[str, Any]:
        job = JobSpec.model_validate(self._known[job_id].spec)
        recipe = await asyncio.to_thread(make_recipe, job)
        takes = await asyncio.to_thread(choose_takes, job)
        await self._change(job_id, status="running", started_at=now(), encoder_id=recipe.encoder_id)
        await self._say(job_id, f"{len(takes)} takes with {recipe.encoder_id}")
        news = _News(self, job_id)
        report = await run_job(self._pool, recipe, takes, news, owner=job_id, interval=TELL_SECONDS)
        await news.settle()
        where = await asyncio.to_thread(write_report, recipe, report)
        await self._say(job_id, f"done: {'ok' if report.ok else 'with failures'}; report {where}")
        failures = [_failure(f) for f in report.failures]
        status = "succeeded" if report.ok else "failed"
        first = f"; first: {failures[0]['take']}: {failures[0]['reason']}" if failures else ""
        return {
            "status": status,
            "progress": progress_facts(report.progress),
            "failures": failures[:KEPT_FAILURES],
            "error": f"{len(failures)} failures{first}" if failures else None,
        }

    async def _change(self, job_id: str, *, save: bool = True, **fields: Any) -> None:
        record = self._known[job_id].model_copy(update=fields)
        self._known[job_id] = record
        if save:
            try:
                await asyncio.to_thread(self._records.save, record)
            except StoreError as error:
                log.error("job %s: its record cannot be written: %s", job_id, error)
        if changed := self._changed.pop(job_id, None):
            changed.set()

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
        save = clock - self._saved > SAVE_SECONDS
        if save:
            self._saved = clock
        await self._jobs._change(self._job_id, save=save, progress=facts)
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


def within(uri: str, root: str) -> bool:
    """Whether `uri` is `root` or below it, by its text alone."""
    parts = uri.split("/")
    return ".." not in parts and "." not in parts and (uri + "/").startswith(root.rstrip("/") + "/")


def checked_job(body: dict[str, Any], spec: ServeSpec, presets: Sequence[str]) -> JobSpec:
    """A job as somebody sent it, made one that this service may run.

    Data set and output are the service's own or below them; how to reach and how to run them is
    the service's business. Raises SettingsError.
    """
    from configs.load import did_you_mean, merge, parse
    from takestream.storage import absolute

    own = spec.job
    for name in ("run", "s3", "output_s3"):
        if body.get(name):
            raise NotAllowed(f"job: '{name}' is set by the service; leave it out")
    defaults = {
        "dataset": own.dataset,
        "output": own.output,
        "encoder": {"preset": own.encoder.preset},
        "select": {"resolution": own.select.resolution},
    }
    if isinstance(body.get("encoder"), str):
        body = {**body, "encoder": {"preset": body["encoder"]}}
    job = parse(JobSpec, merge(defaults, body), "job")
    for name, root in (("dataset", own.dataset), ("output", own.output)):
        place = absolute(getattr(job, name))
        if "::" in place or not within(place, absolute(root)):
            raise NotAllowed(f"job: {name} is not below the service's own, {root}")
    if job.encoder.preset not in presets:
        hint = did_you_mean(job.encoder.preset, presets)
        raise Unknown(f"job: this service offers no encoder '{job.encoder.preset}'{hint}")
    changes = job.encoder.model_dump(exclude_none=True, exclude={"preset"})
    if place_of := changes.keys() & {"weights", "revision", "sha256"}:
        raise NotAllowed(f"job: encoder.{min(place_of)} is set by the service; leave it out")
    encoder = job.encoder
    if encoder.preset == own.encoder.preset:
        # The service's own weights for it, and its other choices unless the job says otherwise.
        encoder = own.encoder.model_copy(update=changes)
    update: dict[str, Any] = {
        "run": own.run,
        "s3": own.s3,
        "output_s3": own.output_s3,
        "encoder": encoder,
    }
    if encoder.preset == own.encoder.preset and "grid" not in body:
        update["grid"] = own.grid
    return job.model_copy(update=update)


def recipe_job(recipe: Recipe, take_uid: str, streams: Sequence[str]) -> JobSpec:
    """The job that extracts these streams of one take by a recipe that is known already."""
    select = recipe.job.select.model_copy(update={"uids": (take_uid,), "streams": tuple(streams)})
    return recipe.job.model_copy(update={"select": select})
