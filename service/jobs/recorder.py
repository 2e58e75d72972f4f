"""The progress of a running job, into its record and its log."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from service.jobs.choose import ChosenJob
from service.jobs.claim import Claim, NotOwner
from service.jobs.records import Records, now
from service.report.ending import JobEnd, progress_facts
from takestream.errors import StorageError
from workers.run.report import Progress
from workers.run.tasks import FinishedTake, Record

log = logging.getLogger(__name__)

# How often the record and the log of a running job are written, in seconds.
SAVE_SECONDS, LOG_SECONDS = 10.0, 2.0


class ProgressRecorder:
    """Updates a job's claim at once, and writes record and log beside the work, in order.

    A storage that is slow or away does not hold the workers up: what could not be written is logged
    and comes with the next write.

    Args:
        records: Where the log lies.
        claim: The job's record.
    """

    def __init__(self, records: Records, claim: Claim) -> None:
        self._records, self._claim = records, claim
        self._lines: deque[str] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._writing: Future[None] | None = None
        self._ended = False
        self._next_save = self._next_log = 0.0

    def begin(self, chosen: ChosenJob) -> None:
        """The job's settings are resolved and it runs."""
        ids = chosen.recipe.encoder_ids
        began = self._claim.record.started_at or now()
        self._claim.update(status="running", started_at=began, encoder_ids=ids)
        self._say(f"{len(chosen.takes)} takes with {', '.join(ids)}")
        self._write_soon()

    def __call__(self, progress: Progress, records: Sequence[Record]) -> None:
        """Take note of where the job stands, with the records that came in."""
        for record in records:
            if isinstance(record, FinishedTake) and record.complete:
                self._say(f"{record.take.name}: complete")
            for failure in record.failures:
                where = " ".join(filter(None, (failure.take, failure.stream)))
                self._say(f"{where}: {failure.reason}")
        self._claim.update(progress=progress_facts(progress))
        clock = time.monotonic()
        due = clock >= self._next_save or (self._lines and clock >= self._next_log)
        if due and (self._writing is None or self._writing.done()):
            self._write_soon()

    def end(self, end: JobEnd, where: str | None = None) -> None:
        """The job has ended: update the record, and queue the log's last line.

        The record is written by its claim, once `finish` has written the log.

        Args:
            end: How it ended.
            where: The URI of its report.
        """
        self._claim.update(finished_at=now(), report=where, **end.facts())
        self._say(f"{end.line}; report {where}" if where else end.line)

    def finish(self) -> None:
        """Wait for what is being written, and write the rest of the log."""
        self._ended = True
        self._thread.shutdown(wait=True)
        self._write_log()

    def abandon(self) -> None:
        """The job goes on in another process, unless it has ended: write the log, do not wait."""
        if not self._ended:
            self._ended = True
            self._thread.submit(self._write_log)
            self._thread.shutdown(wait=False)

    def _say(self, line: str) -> None:
        self._lines.append(f"{now()} {line}")

    def _write_soon(self) -> None:
        clock = time.monotonic()
        self._next_log = clock + LOG_SECONDS
        save = clock >= self._next_save
        if save:
            self._next_save = clock + SAVE_SECONDS
        self._writing = self._thread.submit(self._write, save)

    def _write(self, save: bool) -> None:
        self._write_log()
        if not save:
            return
        try:
            self._claim.save()
        except NotOwner:  # the claim has told its owner
            pass
        except StorageError as error:
            log.error("job %s: its record cannot be written: %s", self._claim.job_id, error)

    def _write_log(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            self._records.append_log(self._claim.job_id, lines)
        except StorageError as error:
            log.error("job %s: its log cannot be written: %s", self._claim.job_id, error)
