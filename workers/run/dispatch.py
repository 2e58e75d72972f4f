"""How a job stands, and what it does next: which takes are begun, which tasks follow from a record.

Nothing of Ray is in here: tasks go out through a function, records come in through a method. So a
simulation makes the same decisions as a run.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from takestream.errors import ErrorKind
from takestream.storage import storage_of
from workers.dataset.take import Take
from workers.run.recipe import Recipe
from workers.run.report import Losses, Progress, Report
from workers.run.tasks import (
    Extract,
    Failure,
    Finish,
    FinishedTake,
    Prepare,
    PreparedTake,
    Record,
    Task,
    UnitRecord,
)

# Tasks in a row that a storage does not answer before it is looked at as a whole.
IN_A_ROW = 2
# Seconds in which no task ends, reads, writes or encodes before the storages are looked at:
# a task may try several objects, each for its own time.
STILL_SECONDS = 70.0
MOVING = ("bytes_read", "bytes_written", "frames_decoded", "clips")
# A take, whole, with the names of the streams wanted of it.
AskedTake = tuple[Take, tuple[str, ...]]
# Takes prepared ahead of the workers, so that a job of 5,000 takes starts at once.
AHEAD = 4


def longest_first(takes: Iterable[AskedTake]) -> list[AskedTake]:
    """Takes in the order in which a job begins them: those with most video first.

    What is left at the end is short, so that workers end at about the same time (Graham, "Bounds on
    Multiprocessing Timing Anomalies", 1969). Takes of unknown length come before all others; equal
    ones stay as they were.
    """

    def video(asked: AskedTake) -> float:
        take, streams = asked
        return math.inf if take.duration is None else take.duration * len(streams)

    return sorted(takes, key=video, reverse=True)


class Dispatch:
    """What is asked for, what is under way and what came of it.

    Args:
        recipe: the job's.
        takes: each whole, with the streams asked for.
        submit: queues tasks.
        owner: whose tasks they are.
        done: takes that are known to be complete, by uid.
        order: in which takes are begun.
    """

    def __init__(
        self,
        recipe: Recipe,
        takes: Sequence[AskedTake],
        submit: Callable[[list[Task]], None],
        owner: str,
        done: Mapping[str, PreparedTake] = MappingProxyType({}),
        order: Callable[[Iterable[AskedTake]], Iterable[AskedTake]] = longest_first,
    ) -> None:
        self.progress = Progress(len(takes))
        self.report = Report(self.progress, losses=Losses(takes))
        self._labels = self.report.losses.labels
        self.began = time.monotonic()
        self._recipe, self._submit, self._owner = recipe, submit, owner
        self._done = done
        self._coming = iter(order(takes))
        self._preparing = 0
        # Per take under way, how many of its clips (times streams) no record has come for yet.
        self._open: dict[str, int] = {}
        # By take under way: its streams that were asked for and that no failure has named, and by
        # stream the clips given up.
        self._asked: dict[str, set[str]] = {}
        self._given_up: dict[str, Counter[str]] = {}
        self._known: set[tuple[object, ...]] = set()
        # Uids of the takes that some failure is about.
        self._failed: set[str] = set()
        self._fatal = False
        # By storage, tasks that it did not answer, one after the other.
        self._unanswered: dict[str, int] = {}
        # When anything moved last, and what was counted then.
        self._moved, self._counts = self.began, dict[str, float]()
        self._exhausted = False

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._fatal or (self._exhausted and not self._preparing and not self._open)

    def advance(self, ahead: int) -> None:
        """Keep up to `ahead` takes in preparation or under way."""
        tasks: list[Task] = []
        while not self._exhausted and self._preparing + len(self._open) < ahead:
            item = next(self._coming, None)
            if item is None:
                self._exhausted = True
                break
            self._preparing += 1
            if (complete := self._done.get(item[0].uid)) is not None:
                self._prepared(complete)
                continue
            tasks.append(Prepare(self._recipe, item[0], self._owner, item[1]))
            self._asked[item[0].uid] = set(item[1])
        self._submit(tasks)

    def take_in(self, record: Record) -> None:
        """Account for one record and queue what follows from it."""
        self._note(record.take, record.failures)
        self.report.losses.fail(record.take, (failure.stream for failure in record.failures))
        # With the keys gone or the disk full every other unit would fail in the same words.
        self._fatal |= any(failure.fatal for failure in record.failures)
        self._listen(record)
        if asked := self._asked.get(record.take.uid):
            asked -= {failure.stream for failure in record.failures if failure.stream}
        if isinstance(record, PreparedTake):
            self._prepared(record)
        elif isinstance(record, UnitRecord):
            self._extracted(record)
        else:
            self._finished(record)

    def _note(self, take: Take, failures: Sequence[Failure]) -> None:
        """Keep failures, those of one stream's object once for all units that are without it."""
        if failures:
            self._failed.add(take.uid)
        for failure in failures:
            failure = replace(failure, take=self._labels[take.uid])
            about = (failure.take, failure.stream, failure.kind, failure.uri)
            if failure.stream and failure.uri and about in self._known:
                continue
            self._known.add(about)
            self.report.failures.append(failure)

    def _listen(self, record: Record) -> None:
        away = [f for f in record.failures if f.kind is ErrorKind.UNAVAILABLE and f.uri]
        if not away or not _in_vain(record):
            self._unanswered.clear()
        for storage in {storage_of(failure.uri) for failure in away}:
            self._unanswered[storage] = self._unanswered.get(storage, 0) + 1

    def silent(self) -> list[str]:
        """The storages that did not answer `IN_A_ROW` tasks, one after the other."""
        return [name for name, count in self._unanswered.items() if count >= IN_A_ROW]

    def still(self, came: bool, counts: Mapping[str, float]) -> list[str]:
        """All storages of the job, when nothing has moved for so long that one may be gone."""
        now = time.monotonic()
        moved = {name: value for name, value in counts.items() if name in MOVING}
        if came or moved != self._counts:
            self._moved, self._counts = now, moved
        if now - self._moved < STILL_SECONDS:
            return []
        self._moved = now
        job = self._recipe.job
        return sorted({storage_of(job.dataset), storage_of(job.output)})

    def heard(self, storage: str) -> None:
        """A storage does answer: it was the objects that could not be had."""
        self._unanswered.pop(storage, None)

    def stop(self, storage: str) -> None:
        """Give up, since a storage does not answer."""
        tasks = self._unanswered.pop(storage, 0)
        seen = (
            f"{tasks} tasks in a row failed" if tasks else f"for {STILL_SECONDS:.0f} s none moved"
        )
        reason = (
            f"{storage} does not answer: {seen}, and a look at it failed too. The same command "
            "goes on when it is back"
        )
        self.report.failures.append(Failure(storage, None, reason, ErrorKind.OUTAGE))
        self._fatal = True

    def _prepared(self, record: PreparedTake) -> None:
        progress = self.progress
        self._preparing -= 1
        progress.takes_prepared += 1
        progress.clips += record.clips
        progress.clips_skipped += record.clips_done
        progress.units += len(record.units)
        if not record.units:
            self.report.losses.count(record.take, record.invalid)
        if record.problems:
            self.report.problems[self._labels[record.take.uid]] = dict(record.problems)
        if not record.stores:
            return
        self.report.stores.extend(record.stores)
        if record.units:
            self._open[record.take.uid] = record.clips - record.clips_done
            self._submit(
                [
                    Extract(self._recipe, record.take, self._owner, unit=unit)
                    for unit in record.units
                ]
            )
        elif record.frames:
            self._open[record.take.uid] = 0
            self._submit([Finish(self._recipe, record.take, self._owner)])
        else:
            self.report.untouched += 1
            progress.takes_done += 1

    def _extracted(self, record: UnitRecord) -> None:
        uid, clips, progress = record.take.uid, record.clips, self.progress
        lost = record.clips_lost
        self.report.history.add(record)
        if record.outcome == "done":
            progress.units_done += 1
            progress.clips_invalid += sum(record.invalid.values())
        else:
            progress.units_failed += 1
        progress.clips_done += clips - sum(lost.values())
        progress.clips_failed += sum(lost.values())
        self._given_up.setdefault(uid, Counter()).update(lost)
        self.report.places.add(record)
        self._open[uid] -= clips
        if self._open[uid] == 0:
            places = self.report.places.of(uid)
            self._submit([Finish(self._recipe, record.take, self._owner, places)])

    def _finished(self, record: FinishedTake) -> None:
        uid = record.take.uid
        self._open.pop(uid, None)
        asked, given_up = self._asked.pop(uid, set()), self._given_up.pop(uid, Counter())
        lost = {name: record.missing.get(name, 0) - given_up[name] for name in asked}
        self.report.losses.count(record.take, record.invalid)
        if lost := {name: clips for name, clips in lost.items() if clips > 0}:
            self.report.losses.fail(record.take, lost)
            self._note(record.take, [_not_kept(record.take, lost)])
        elif not record.complete and not record.missing and uid not in self._failed:
            self.report.losses.fail(record.take, [None])
            words = (
                "its store is not marked complete although all clips were written: the storage did "
                "not keep the mark, or something removed the store. Run the same command again"
            )
            failure = Failure(record.take.name, None, words, ErrorKind.INCOMPLETE)
            self._note(record.take, [failure])
        self.progress.takes_done += record.complete
        if record.problems:
            self.report.problems[self._labels[uid]] = dict(record.problems)


def _in_vain(record: Record) -> bool:
    """Whether nothing came of a task."""
    if isinstance(record, PreparedTake):
        return not record.stores
    if isinstance(record, UnitRecord):
        return record.outcome == "failed"
    return not record.complete


def _not_kept(take: Take, lost: Mapping[str, int]) -> Failure:
    """For clips of units that were done and are not in the store at the end."""
    where = ", ".join(f"{clips} of {name}" for name, clips in sorted(lost.items()))
    only = next(iter(lost)) if len(lost) == 1 else None
    words = (
        f"{sum(lost.values())} clips that were written are not in the store ({where}): the storage "
        "did not keep them, or something removed them. Run the same command again to write them"
    )
    return Failure(take.name, only, words, ErrorKind.INCOMPLETE)
