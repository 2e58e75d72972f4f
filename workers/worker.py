"""The Ray actor that holds one encoder and runs one task at a time."""

import logging
import threading
from dataclasses import dataclass
from typing import Literal, TypeVar

import av
import ray
import torch

from models.encoder import ModelError, load_encoder
from workers.dataset import Take
from workers.extract import Stopped, UnitExtractor
from workers.objects import StoreDenied, StoreError
from workers.recipe import Recipe
from workers.source import CredentialsError, SourceError
from workers.unit import Failure, FinishedTake, PreparedTake, Unit, UnitRecord

log = logging.getLogger(__name__)
Record = PreparedTake | UnitRecord | FinishedTake
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Task:
    """Something to run: prepare a take, extract a unit of it, or finish it.

    streams: which streams `prepare` is for.
    """

    kind: Literal["prepare", "extract", "finish"]
    take: Take
    streams: tuple[str, ...] = ()
    unit: Unit | None = None


class CannotStart(Exception):
    """A worker cannot load its encoder: no other will either."""


@ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"control": 1})  # type: ignore[call-overload]
class Worker:
    """One encoder on one device. Methods never raise: what goes wrong is in the record."""

    def __init__(self, recipe: Recipe, device: str, threads: int) -> None:
        av.logging.set_level(av.logging.PANIC)
        # Ray sets OMP_NUM_THREADS=1 for actors; the encoder is meant to use this worker's share.
        torch.set_num_threads(threads)
        self._threads = threads
        self._stop = threading.Event()
        self._extractor: UnitExtractor | None = None
        self._why_not = ""
        try:
            encoder = load_encoder(
                recipe.encoder,
                torch.device(device),
                compile=recipe.job.run.compile,
                s3=recipe.output_s3,
            )
            self._extractor = UnitExtractor(recipe, encoder, torch.device(device))
        except ModelError as error:
            self._why_not = str(error)

    def run(self, task: Task) -> Record:
        """The record of `task`, whatever happens to it."""
        torch.set_num_threads(self._threads)
        if self._extractor is None:
            return _failed(task, Failure(task.take.name, None, self._why_not, fatal=True))
        try:
            if task.kind == "prepare":
                return self._extractor.prepare(task.take, task.streams)
            if task.kind == "finish":
                return self._extractor.finish(task.take)
            assert task.unit is not None
            return self._extractor.extract(task.unit, self._stop.is_set)
        except Stopped:
            assert task.unit is not None
            return UnitRecord(task.unit, "stopped")
        except Exception as error:  # noqa: BLE001 - a record says it; the job goes on
            return _failed(task, _failure(task, error))

    @ray.method(concurrency_group="control")
    def counts(self) -> dict[str, float]:
        """Work done so far by this worker, also while a task runs."""
        return self._extractor.counters.snapshot() if self._extractor else {}

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        """Give the running unit back at its next batch."""
        self._stop.set()


def failed_by_crash(task: Task, deaths: int, how: str) -> Record:
    """The record of a task that took its worker down `deaths` times and is tried no more."""
    stream = task.unit.streams[0] if task.unit and len(task.unit.streams) == 1 else None
    reason = f"took its worker down {deaths} times ({how}); left out, run again to try once more"
    return _failed(task, Failure(task.take.name, stream, reason))


def _failure(task: Task, error: Exception) -> Failure:
    fatal = isinstance(error, CredentialsError | StoreDenied) or _is_full(error)
    if not isinstance(error, SourceError | StoreError | ModelError):
        log.exception("unexpected error in %s", task.unit.name if task.unit else task.take.name)
        return Failure(task.take.name, None, f"{type(error).__name__}: {error}", fatal)
    return Failure(task.take.name, None, str(error), fatal)


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
            return True
        error = error.__cause__
    return False


def _failed(task: Task, failure: Failure) -> Record:
    if task.kind == "prepare":
        return PreparedTake(task.take, "", (), failures=(failure,))
    if task.kind == "finish":
        return FinishedTake(task.take, "", False, failures=(failure,))
    assert task.unit is not None
    return UnitRecord(task.unit, "failed", failures=(failure,))
