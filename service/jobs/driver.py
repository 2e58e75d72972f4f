"""How a job runs, wherever it was launched.

    choose (settings → recipe, takes)
      → drive (a pool's workers → progress to its watchers → the report's file)
      → JobEnd (status, words, exit code)

The command line and the demo run a chosen job on Ray of their own (`run_here`), a cluster runs the
job of a record (`run_job_record`), a service runs it on the workers that it has (`drive`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.load import SettingsError, parse
from configs.schema import JobSpec
from service.jobs.calibrations import calibration_for
from service.jobs.choose import ChosenJob, choose
from service.jobs.claim import Claim, NotOwner, new_owner
from service.jobs.expiry import key_life, ran_out, show_keys, wait_for_keys
from service.jobs.recorder import ProgressRecorder
from service.jobs.records import JobRecord, Records
from service.report.console import result_console
from service.report.ending import (
    JobEnd,
    end_of,
    end_of_error,
    progress_facts,
    stopped,
    written_words,
)
from service.report.estimate import compared
from service.report.progress import progress_display
from service.report.summary import print_summary, write_report
from takestream.errors import ErrorKind, StorageError
from takestream.storage import S3Options
from workers.run.ahead import Done, done_already
from workers.run.memory import memory_of
from workers.run.recipe import Recipe
from workers.run.report import Progress, Report
from workers.run.tasks import Record
from workers.store.catalogue import refresh_quietly
from workers.store.objects import probe_writable

if TYPE_CHECKING:
    from workers.run.pool import Pool

log = logging.getLogger(__name__)

Watcher = Callable[[Progress, Sequence[Record]], None]

# How often watchers are called at least, in seconds.
TELL_SECONDS = 0.5
# A process that ends writes a job's last record for so long, with such pauses between its tries.
PARTING_SECONDS, RETRY_SECONDS = 60.0, 2.0


@dataclass(frozen=True)
class Finished:
    """A job that came to its end.

    Attributes:
        report: What was done.
        where: The URI of the report's file, None when it could not be written.
        end: How it ended, in words.
    """

    report: Report
    where: str | None
    end: JobEnd


async def drive(
    pool: "Pool",
    chosen: ChosenJob,
    *watchers: Watcher,
    owner: str = "job",
    done: Done | None = None,
) -> Finished:
    """Run a job on the workers of `pool` and write its report.

    Args:
        pool: The workers.
        chosen: The job.
        watchers: Called with the progress, and the records that came in, twice a second or so.
        owner: Under which name the workers count and cancel the job's work.
        done: Takes that are known to be complete.

    Raises:
        StorageError: The output cannot be written.
    """

    from workers.run.job import run_job  # loads Ray and torch

    def tell(progress: Progress, records: Sequence[Record]) -> None:
        for watcher in watchers:
            watcher(progress, records)

    report = await run_job(
        pool,
        chosen.recipe,
        chosen.takes,
        tell,
        owner=owner,
        interval=TELL_SECONDS,
        done={} if done is None else done.takes,
    )
    where = await asyncio.to_thread(_written, chosen.recipe, report)
    return Finished(report, where, end_of(report))


def run_here(chosen: ChosenJob, *watchers: Watcher) -> Finished:
    """Run a job in a Ray session of its own, or on the cluster that it names.

    An output that cannot be written, and a job with nothing left to do, are found before Ray is
    loaded.

    Raises:
        StorageError: The output cannot be written.
        RayUnavailable: Ray did not start, or no worker fits.
        KeyboardInterrupt: It was interrupted; what was written is kept, and it says how much.
    """

    recipe = chosen.recipe
    last: list[Progress] = []
    probe_writable(recipe.job.output, recipe.output_s3)
    done = done_already(recipe, chosen.takes)
    if (report := done.report(chosen.takes, strict=recipe.job.strict)) is not None:
        for watcher in watchers:
            watcher(report.progress, ())
        return Finished(report, write_report(recipe, report), end_of(report))

    if (keys := key_life(recipe.job)) is not None:
        log.warning("%s", keys.words())
    if recipe.job.run.address is None and (why := memory_of(recipe, chosen.takes).warning):
        log.warning("%s", why)

    from workers.run.pool import Pool
    from workers.run.session import ray_session

    async def run() -> Finished:
        async with Pool(recipe.job.run) as pool:
            joined = recipe.job.run.address is not None
            showing = asyncio.create_task(show_keys(recipe.job)) if joined else None
            try:
                return await drive(pool, chosen, *watchers, remember, done=done)
            finally:
                if showing is not None:
                    showing.cancel()

    def remember(progress: Progress, records: Sequence[Record]) -> None:
        last[:] = [progress]

    try:
        while True:
            # A new session each time, as only new workers read renewed keys.
            with ray_session(recipe.job.run):
                finished = asyncio.run(run())
            out = recipe.job.run.keys.wait and ran_out(finished.report)
            if not out or not wait_for_keys(recipe):
                return finished
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*(written_words(progress_facts(p)) for p in last)) from None


def _written(recipe: Recipe, report: Report) -> str | None:
    """Bring the catalogues up to date and write the report; where it is."""
    if not any(failure.kind is ErrorKind.OUTAGE for failure in report.failures):
        refresh_quietly(recipe.job.output, recipe.encoder_ids, recipe.output_s3)
        if report.bill is not None:
            with suppress(StorageError):
                if known := calibration_for(recipe):
                    report.bill = compared(report.bill, report.progress, *known)
    return write_report(recipe, report)


def run_job_record(job_id: str, output: str, s3: S3Options) -> JobEnd:
    """Run the job that the record in `output` describes, on the cluster this process is on.

    The record and its log say how it goes and how it ends, also when this raises.

    Raises:
        SettingsError: There is no record that can be read, or its settings make no sense.
        KeyboardInterrupt: It was stopped.
        Exception: What `choose` and `run_here` raise.
    """
    records = Records(output, s3)
    claim = _claimed(records, job_id, output)
    recorder = ProgressRecorder(records, claim)
    try:
        finished = _run(claim.record, recorder)
    except KeyboardInterrupt:
        _end(claim, recorder, stopped(claim.record.progress))
        raise
    except Exception as error:
        _end(claim, recorder, end_of_error(error))
        raise
    _end(claim, recorder, finished.end, finished.where)
    return finished.end


def _run(record: JobRecord, recorder: ProgressRecorder) -> Finished:
    job = parse(JobSpec, record.spec, record.job_id)
    job = job.model_copy(update={"run": job.run.model_copy(update={"address": "auto"})})
    chosen = choose(job)
    recorder.begin(chosen)
    with progress_display() as show:
        finished = run_here(chosen, show, recorder)
    print_summary(chosen.recipe, finished.report, result_console(), finished.where)
    return finished


def _claimed(records: Records, job_id: str, output: str) -> Claim:
    record, version = records.read(job_id)
    if record is not None:
        return Claim(records, record, version, new_owner())
    if version is not None:
        raise SettingsError(
            f"the record of job {job_id} at {output} is torn, and its settings with it: submit the "
            "job again to go on"
        )
    raise SettingsError(
        f"there is no record of job {job_id} at {output} as this node sees it: data set and output "
        "of a submitted job must be URIs or paths that every node of the cluster shares"
    )


def _end(claim: Claim, recorder: ProgressRecorder, end: JobEnd, where: str | None = None) -> None:
    recorder.end(end, where)
    recorder.finish()
    until = time.monotonic() + PARTING_SECONDS
    while True:
        try:
            claim.save()
        except NotOwner as error:
            log.error("%s", error)
        except StorageError as error:
            log.error("job %s: its end cannot be written: %s", claim.job_id, error)
            if time.monotonic() < until:
                time.sleep(RETRY_SECONDS)
                continue
        return
