"""A whole extraction job: takes into prepared takes into units into finished stores."""

import io
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import Any

# Set before Ray is imported: it reads them then.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from configs.schema import RunSpec
from workers.dataset import Take
from workers.dispatch import Dispatcher
from workers.objects import probe_writable
from workers.recipe import Recipe
from workers.unit import Failure, FinishedTake, PreparedTake, UnitRecord
from workers.worker import Record, Task

log = logging.getLogger(__name__)

# Takes prepared ahead of the workers, so that a job of 5,000 takes starts at once.
AHEAD = 4
CORES_PER_WORKER = 4
CONNECT_SECONDS = 10.0


class RayUnavailable(Exception):
    """Ray could not be started or reached; the message says what to do."""


@dataclass
class Progress:
    """Where a job stands. Clips are counted per stream; all sums run up from zero.

    clips: of the takes prepared so far; clips_skipped: found in the store already;
    clips_done: written by this run; clips_failed: given up.
    """

    takes: int
    takes_prepared: int = 0
    takes_done: int = 0
    units: int = 0
    units_done: int = 0
    units_failed: int = 0
    clips: int = 0
    clips_skipped: int = 0
    clips_done: int = 0
    clips_failed: int = 0
    clips_invalid: int = 0
    seconds: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)

    @property
    def clips_seen(self) -> float:
        """Clips encoded so far, those of unfinished units too."""
        return max(self.counts.get("clips", 0.0), float(self.clips_done))


@dataclass
class Report:
    """How a job ended: what the summary shows and the report file keeps."""

    progress: Progress
    stores: list[str] = field(default_factory=list)
    untouched: int = 0
    problems: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything that could be extracted was."""
        return not self.failures


@contextmanager
def ray_session(run: RunSpec) -> Iterator[None]:
    """Ray, started here or joined at `run.address`; a Ray that was there already is left alone."""
    if ray.is_initialized():
        yield
        return
    if run.address:
        _check_answers(run.address)
    local: dict[str, Any] = {} if run.address else {"include_dashboard": False}
    try:
        with _signals_wait():
            ray.init(
                address=run.address or "local",
                namespace="takestream",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **local,
            )
    except KeyboardInterrupt:
        ray.shutdown()
        raise
    except (RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = "Ray did not start"
        if run.address:
            where = (
                f"no Ray cluster lets us in at {run.address} (set RAY_AUTH_MODE=token if it uses "
                "token authentication)"
            )
        raise RayUnavailable(f"{where}: {' '.join(str(error).split())[:300]}") from error
    try:
        # Ray prints what it thinks of dead workers to stdout, which is for results.
        with redirect_stdout(_RayMessages()):
            yield
    finally:
        ray.shutdown()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """SIGINT and SIGTERM are acted on at the end of the block, by the handlers from before it.

    Interrupted while it starts, Ray can end in a segmentation fault; and it takes SIGTERM for
    itself, with a stack on stderr and exit code 15.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in (n for n, handler in before.items() if callable(handler)):
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    except SystemExit as error:  # Ray's own answer to SIGTERM
        raise KeyboardInterrupt from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _check_answers(address: str) -> None:
    """Raise RayUnavailable for an address nobody listens at: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        if address in ("auto", "local"):
            return
        raise RayUnavailable(f"'{address}' is no Ray address; give HOST:PORT, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise RayUnavailable(f"no Ray cluster answers at {address}: {error}") from error


class _RayMessages(io.TextIOBase):
    """Passes what is printed on to the log."""

    def write(self, text: str) -> int:
        if text.strip():
            log.debug("%s", text.strip())
        return len(text)


def run_job(
    recipe: Recipe,
    takes: Sequence[tuple[Take, tuple[str, ...]]],
    on_progress: Callable[[Progress, Sequence[Record]], None] = lambda progress, records: None,
    *,
    interval: float = 0.5,
) -> Report:
    """Extract the named streams of each take; take values carry all their streams.

    Needs a Ray session (`ray_session`). Resumes by itself: what stores hold already is skipped.
    `on_progress` is called at least every `interval` seconds or so, with the records that came in.
    Raises StoreError when the output cannot be written, RayUnavailable when no worker fits;
    KeyboardInterrupt passes through and leaves a resumable state.
    """
    probe_writable(recipe.job.output, recipe.output_s3)
    workers, options, device, threads = _workers(recipe.job.run)
    dispatcher = Dispatcher.options(  # type: ignore[attr-defined]
        scheduling_strategy=NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
    ).remote(recipe, workers, options, device, threads)
    job = _Job(recipe, takes, dispatcher)
    try:
        ray.get(dispatcher.start.remote())
        job.advance(workers * AHEAD)
        while not job.over:
            records = ray.get(dispatcher.records.remote(interval))
            for record in records:
                job.take_in(record)
            job.advance(workers * AHEAD)
            job.progress.counts = ray.get(dispatcher.counts.remote())
            job.progress.seconds = time.monotonic() - job.began
            on_progress(job.progress, records)
    finally:
        with suppress(RayError):
            ray.get(dispatcher.stop.remote(), timeout=5)
        ray.kill(dispatcher)
    return job.report


class _Job:
    """What is asked for, what is under way and what came of it."""

    def __init__(
        self, recipe: Recipe, takes: Sequence[tuple[Take, tuple[str, ...]]], dispatcher: Any
    ) -> None:
        self.progress = Progress(len(takes))
        self.report = Report(self.progress)
        self.began = time.monotonic()
        self._dispatcher = dispatcher
        self._coming = iter(takes)
        self._preparing = 0
        # Per take under way, how many of its clips (times streams) no record has come for yet.
        self._open: dict[str, int] = {}
        self._fatal = False
        self._exhausted = False

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._fatal or (self._exhausted and not self._preparing and not self._open)

    def advance(self, ahead: int) -> None:
        """Keep up to `ahead` takes in preparation or under way."""
        tasks = []
        while not self._exhausted and self._preparing + len(self._open) < ahead:
            item = next(self._coming, None)
            if item is None:
                self._exhausted = True
                break
            tasks.append(Task("prepare", item[0], item[1]))
            self._preparing += 1
        self._submit(tasks)

    def take_in(self, record: Record) -> None:
        """Account for one record and queue what follows from it."""
        self.report.failures.extend(record.failures)
        # With the keys gone or the disk full every other unit would fail in the same words.
        self._fatal |= any(failure.fatal for failure in record.failures)
        if isinstance(record, PreparedTake):
            self._prepared(record)
        elif isinstance(record, UnitRecord):
            self._extracted(record)
        else:
            self._finished(record)

    def _prepared(self, record: PreparedTake) -> None:
        progress = self.progress
        self._preparing -= 1
        progress.takes_prepared += 1
        progress.clips += record.clips
        progress.clips_skipped += record.clips_done
        progress.units += len(record.units)
        if record.problems:
            self.report.problems[record.take.name] = dict(record.problems)
        if record.failures:
            return
        self.report.stores.append(record.store)
        if record.units:
            self._open[record.take.uid] = record.clips - record.clips_done
            self._submit([Task("extract", record.take, unit=unit) for unit in record.units])
        elif record.frames:
            self._open[record.take.uid] = 0
            self._submit([Task("finish", record.take)])
        else:
            self.report.untouched += 1
            progress.takes_done += 1

    def _extracted(self, record: UnitRecord) -> None:
        unit, progress = record.unit, self.progress
        clips = (unit.stop - unit.start) * len(unit.streams)
        if record.outcome == "done":
            progress.units_done += 1
            progress.clips_done += clips
            progress.clips_invalid += sum(record.invalid.values())
        else:
            progress.units_failed += 1
            progress.clips_failed += clips
        self._open[unit.take.uid] -= clips
        if self._open[unit.take.uid] == 0:
            self._submit([Task("finish", unit.take)])

    def _finished(self, record: FinishedTake) -> None:
        self._open.pop(record.take.uid, None)
        self.progress.takes_done += record.complete
        if record.problems:
            self.report.problems[record.take.name] = dict(record.problems)

    def _submit(self, tasks: list[Task]) -> None:
        if tasks:
            self._dispatcher.submit.remote(tasks)


def _workers(run: RunSpec) -> tuple[int, dict[str, Any], str, int]:
    """How many workers, their Ray options, their device, and the CPU threads of each."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = int(total.get("CPU", 1)), int(total.get("GPU", 0))
    if run.device == "cuda" and not gpus:
        raise RayUnavailable("device: cuda, but Ray sees no GPU; use --device auto or cpu")
    if gpus and run.device != "cpu":
        count = gpus if run.workers == "auto" else min(run.workers, gpus)
        threads = max(1, cpus // max(1, gpus))
        return count, {"num_gpus": 1, "num_cpus": min(threads, 4)}, "cuda", threads
    count = max(1, cpus // CORES_PER_WORKER) if run.workers == "auto" else run.workers
    threads = max(1, cpus // count)
    # A fraction lets more workers than cores be asked for; it reserves, it does not limit.
    return count, {"num_cpus": min(threads, cpus / count)}, "cpu", threads
