"""The synchronisation of many takes, a process for each that is under way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from configs.schema import JobSpec
from takestream.errors import ErrorKind, TakestreamError, kind_of
from takestream.sync import TakeSync
from workers.dataset.layouts import dataset_of
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.sync.measure import measure_take


@dataclass(frozen=True)
class Measured:
    """What came of one take.

    Attributes:
        take: the take.
        sync: its synchronisation; None when it could not be measured.
        error: why not, in words.
        kind: what is the matter then.
    """

    take: Take
    sync: TakeSync | None
    error: str = ""
    kind: ErrorKind = ErrorKind.FAULT


@dataclass(frozen=True)
class Question:
    """What to measure, as it travels to another process.

    Attributes:
        job: which data set, and how to reach it.
        method: which witnesses are asked, one of `workers.sync.measure.METHODS`.
    """

    job: JobSpec
    method: str

    def answer(self, take: Take) -> Measured:
        """Measure one take; an error becomes words, so that other takes go on."""
        dataset = dataset_of(self.job)
        try:
            return Measured(take, measure_take(take, dataset, self.method, Counters()))
        except (TakestreamError, OSError) as error:
            return Measured(take, None, str(error), kind_of(error))


def measure_takes(
    question: Question, takes: Sequence[Take], processes: int | None = None
) -> Iterator[Measured]:
    """Measure takes, several at once, and give them in their order.

    Args:
        question: what to measure.
        takes: of the data set.
        processes: how many takes at once; as many as there are processors by default.
    """
    count = min(processes or os.cpu_count() or 1, len(takes))
    if count < 2:
        yield from map(question.answer, takes)
        return
    # Forked children would inherit the locks of threads that read from the network.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_begin)
    try:
        yield from pool.map(question.answer, takes)
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    # Ctrl-C is for the process that was started, which ends these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
