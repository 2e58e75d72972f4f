"""A submitted job, on the cluster: the driver that Ray starts on its head for one job record."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from configs.load import SettingsError, parse
from configs.schema import JobSpec
from service.jobs.launch import choose_takes, extract
from service.jobs.manager import KEPT_FAILURES, progress_facts
from service.jobs.records import JobRecord, Records, now
from service.report.console import result_console
from service.report.progress import progress_display
from service.report.summary import print_summary, write_report
from takestream.storage import S3Options
from workers.run.job import Progress, Report
from workers.run.recipe import make_recipe
from workers.run.tasks import FinishedTake, Record
from workers.store.errors import StoreError

log = logging.getLogger(__name__)

# How often the record of a running job is written, in seconds.
SAVE_SECONDS = 10.0


def carry_out(job_id: str, output: str, s3: S3Options) -> bool:
    """Run the job that the record in `output` describes, on the cluster this process is on.

    The record and its log say how it goes and how it ends, also when this raises what
    `service.jobs.launch.extract` raises. True when everything that could be extracted was.
    """
    records = Records(output, s3)
    record = records.load(job_id)
    if record is None:
        raise SettingsError(
            f"there is no record of job {job_id} at {output} as this node sees it: data set and "
            "output of a submitted job must be URIs or paths that every node of the cluster shares"
        )
    diary = _Diary(records, record)
    try:
        report = _run(parse(JobSpec, record.spec, job_id), diary)
    except KeyboardInterrupt:
        diary.end("stopped", "stopped; what was written is kept, submit it again to go on")
        raise
    except Exception as error:
        diary.end("failed", str(error) or type(error).__name__, error=str(error))
        raise
    failures = [{"take": f.take, "stream": f.stream, "reason": f.reason} for f in report.failures]
    first = f"{len(failures)} failures; first: {failures[0]['reason']}" if failures else None
    diary.end(
        "succeeded" if report.ok else "failed",
        "done" if report.ok else f"done, with {first}",
        progress=progress_facts(report.progress),
        failures=failures[:KEPT_FAILURES],
        error=first,
    )
    return report.ok


def _run(job: JobSpec, diary: "_Diary") -> Report:
    job = job.model_copy(update={"run": job.run.model_copy(update={"address": "auto"})})
    recipe = make_recipe(job)
    takes = choose_takes(job)
    diary.begin(recipe.encoder_id, f"{len(takes)} takes with {recipe.encoder_id}")
    with progress_display() as show:

        def on_progress(progress: Progress, came: Sequence[Record]) -> None:
            show(progress, came)
            diary(progress, came)

        report = extract(recipe, takes, on_progress)
    print_summary(recipe, report, result_console(), write_report(recipe, report))
    return report


class _Diary:
    """Writes down how a job goes, beside the work: a slow output must not hold the workers up."""

    def __init__(self, records: Records, record: JobRecord) -> None:
        self._records, self._record = records, record
        self._lines: list[str] = []
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._next = 0.0

    def begin(self, encoder_id: str, line: str) -> None:
        """The job runs."""
        self._change(line, status="running", started_at=now(), encoder_id=encoder_id)
        self._write_soon()

    def __call__(self, progress: Progress, came: Sequence[Record]) -> None:
        """Take note of where the job stands; it is written down now and then."""
        for record in came:
            if isinstance(record, FinishedTake) and record.complete:
                self._lines.append(f"{now()} {record.take.name}: complete")
            for failure in record.failures:
                where = " ".join(filter(None, (failure.take, failure.stream)))
                self._lines.append(f"{now()} {where}: {failure.reason}")
        self._change(progress=progress_facts(progress))
        idle = self._writing is None or self._writing.done()
        if idle and time.monotonic() >= self._next:
            self._write_soon()

    def end(self, status: str, line: str, **facts: Any) -> None:
        """The job is over, and so is the writing."""
        self._change(line, status=status, finished_at=now(), **facts)
        self._write_soon()
        self._thread.shutdown(wait=True)

    def _change(self, line: str | None = None, **facts: Any) -> None:
        if line:
            self._lines.append(f"{now()} {line}")
        self._record = self._record.model_copy(update=facts)

    def _write_soon(self) -> None:
        lines, self._lines = self._lines, []
        self._next = time.monotonic() + SAVE_SECONDS
        self._writing = self._thread.submit(self._write, self._record, lines)

    def _write(self, record: JobRecord, lines: list[str]) -> None:
        # The log first: who sees that the job has ended reads it to its last line.
        try:
            if lines:
                self._records.append_log(record.job_id, lines)
        except StoreError as error:
            log.error("the log of job %s cannot be written: %s", record.job_id, error)
        try:
            self._records.save(record)
        except StoreError as error:
            log.error("the record of job %s cannot be written: %s", record.job_id, error)
