"""The pieces of work and what comes back of them: small, plain values that travel through Ray."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from takestream.errors import ErrorKind, StorageError, TakestreamError, kind_of
from workers.dataset.take import Take
from workers.run.recipe import Recipe
from workers.run.size import WorkerSize

Outcome = Literal["done", "failed", "stopped"]


@dataclass(frozen=True)
class ClipRange:
    """Clips `[start, stop)` of one target, for some streams.

    Attributes:
        target: number of the target in the recipe.
        start, stop: clips of that target's grid.
        streams: keys of the streams.
    """

    target: int
    start: int
    stop: int
    streams: tuple[str, ...]

    @property
    def clips(self) -> int:
        """Clips, times streams."""
        return (self.stop - self.start) * len(self.streams)


@dataclass(frozen=True)
class Unit:
    """A stretch of a take, decoded once for all targets that lack clips in it.

    Attributes:
        take: with all its streams, since they agree on the take's length together.
        first_frame, last_frame: the take's frames `[first_frame, last_frame)` that the clips show.
        ranges: the clips whose features are missing, whole units of each target's store.
    """

    take: Take
    first_frame: int
    last_frame: int
    ranges: tuple[ClipRange, ...]

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that any of the ranges is for, in their order."""
        return tuple(dict.fromkeys(name for part in self.ranges for name in part.streams))

    @property
    def clips(self) -> int:
        """Clips of all targets, times streams."""
        return sum(part.clips for part in self.ranges)

    @property
    def name(self) -> str:
        """For messages: the take, its frames, and the stream when it is only one."""
        only = f" {self.streams[0]}" if len(self.streams) == 1 else ""
        return f"{self.take.name}{only} frames {self.first_frame}-{self.last_frame - 1}"

    def only(self, stream: str) -> "Unit":
        """This unit for one of its streams."""
        return replace(self, ranges=_only(self.ranges, stream))

    def without(self, stream: str) -> "Unit":
        """This unit for all of its streams but one; ranges stay, be it for none."""
        return replace(
            self,
            ranges=tuple(
                replace(part, streams=tuple(name for name in part.streams if name != stream))
                for part in self.ranges
            ),
        )


def _only(ranges: Sequence[ClipRange], stream: str) -> tuple[ClipRange, ...]:
    return tuple(replace(part, streams=(stream,)) for part in ranges if stream in part.streams)


@dataclass(frozen=True)
class Failure:
    """Why something was not done.

    Attributes:
        take: Name of the take.
        stream: Key of the stream, None when it is about all of them.
        reason: What is wrong and what to do next, in plain words.
        kind: What is the matter, which says whether the job goes on.
        uri: The object or store that it is about, empty where it is about none.
    """

    take: str
    stream: str | None
    reason: str
    kind: ErrorKind = ErrorKind.FAULT
    uri: str = ""

    @classmethod
    def of(cls, take: str, error: Exception, stream: str | None = None) -> "Failure":
        """What an error means for a take, or for a stream of it."""
        ours = isinstance(error, TakestreamError)
        reason = str(error) if ours else f"{type(error).__name__}: {error}"
        uri = error.uri if isinstance(error, StorageError) else ""
        return cls(take, stream, reason, kind_of(error), uri)

    @property
    def fatal(self) -> bool:
        """Whether the job cannot go on: no credentials, a full or forbidden output."""
        return self.kind.fatal

    def facts(self) -> dict[str, Any]:
        """As reports and records of jobs keep it, JSON-able."""
        return {
            "take": self.take,
            "stream": self.stream,
            "reason": self.reason,
            "kind": self.kind.value,
            "fatal": self.fatal,
        }


@dataclass(frozen=True)
class UnitRecord:
    """What became of a unit, or of a window.

    Attributes:
        take: whose clips they are.
        ranges: the clips that this record is about.
        outcome: what became of them.
        seconds: how long it took.
        invalid: per stream, how many of its clips are invalid, of all targets together.
        counts: bytes_read, bytes_written, requests, retries, frames_decoded, clips …
        failures: why something was not done; of a unit that is done, the streams left out.
        peak_mib: the most memory that the worker has taken so far, of the machine and of its GPU.
        worker: who did it: name of the machine, device and process; empty where none did.
        size: what this worker has of its machine.
        began: Unix seconds.
        places: per stream, where its object was read, as `Place.name`.
        notes: of the machine that did it, in sentences.
    """

    take: Take
    ranges: tuple[ClipRange, ...]
    outcome: Outcome
    seconds: float = 0.0
    invalid: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    peak_mib: tuple[int, int] = (0, 0)
    worker: str = ""
    size: WorkerSize | None = None
    began: float = 0.0
    places: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def clips(self) -> int:
        """Clips of all targets, times streams."""
        return sum(part.clips for part in self.ranges)

    @property
    def clips_lost(self) -> Mapping[str, int]:
        """By stream, the clips of all targets that were given up."""
        left_out = {failure.stream for failure in self.failures}
        lost: Counter[str] = Counter()
        for part in self.ranges:
            for name in part.streams:
                if self.outcome != "done" or name in left_out:
                    lost[name] += part.stop - part.start
        return lost


@dataclass(frozen=True)
class PreparedTake:
    """A take that was probed and whose stores stand ready.

    Attributes:
        stores: the stores' URIs, target by target; those that cannot be made are left out.
        units: what is still to do; empty when all stores are complete already.
        clips: clips of the whole take, of all targets, times streams.
        clips_done: of them, in the stores already.
        problems: per stream, plain words.
        invalid: per stream, clips that its complete stores count as invalid.
        failures: why a store cannot be made, or the whole take not be prepared.
    """

    take: Take
    stores: tuple[str, ...]
    units: tuple[Unit, ...]
    clips: int = 0
    clips_done: int = 0
    frames: int = 0
    bytes: int = 0
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    invalid: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FinishedTake:
    """A take whose units are all done.

    Attributes:
        complete: whether all its stores are complete now.
        problems: per stream, plain words.
        invalid: per stream, clips that its complete stores count as invalid.
        failures: why it could not be finished.
        missing: per stream, clips of units that are not whole in the stores, over all of them.
    """

    take: Take
    complete: bool
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    invalid: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClipPart:
    """Consecutive clips of one stream, as soon as they are encoded.

    first: number of the first clip. features: float32 [n, D], NaN where invalid.
    reason: uint8 [n], 0 where valid. frame_time: float64 [n] seconds, NaN if none.
    """

    stream: str
    first: int
    features: NDArray[np.float32]
    reason: NDArray[np.uint8]
    frame_time: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Query:
    """A text or a picture in the joint space of an encoder.

    vector: float32 [P], of length 1. project: float32 [D, P] from stored features; None where
        they are in that space already. error: why there is no vector; asked: it is the asker's.
    """

    vector: NDArray[np.float32] | None = None
    project: NDArray[np.float32] | None = None
    error: str = ""
    asked: bool = False


Record = PreparedTake | UnitRecord | FinishedTake


@dataclass(frozen=True)
class _Task:
    """Something for a worker to run, by its recipe.

    Attributes:
        recipe: the job's.
        take: whole.
        owner: whose work it is, for counting and cancelling: a job, or a request.
        trace: the span that it is part of (`workers.run.tracing.carried`).
    """

    # Units go in front of new takes, so that a take is finished before the next one is begun.
    priority: ClassVar[int] = 2

    recipe: Recipe
    take: Take
    owner: str
    trace: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @property
    def name(self) -> str:
        """For messages."""
        return self.take.name

    @property
    def only_stream(self) -> str | None:
        """The stream that it is about when that is just one."""
        return None

    def by_stream(self) -> "list[Task]":
        """The same work as one task for each stream; empty when it cannot be taken apart."""
        return []


@dataclass(frozen=True)
class Prepare(_Task):
    """Probe a take and make its stores stand ready for some of its streams."""

    priority: ClassVar[int] = 3

    streams: tuple[str, ...] = ()

    def failed(self, failure: Failure) -> Record:
        """The record when nothing came of it."""
        return PreparedTake(self.take, (), (), failures=(failure,))


@dataclass(frozen=True)
class Finish(_Task):
    """Mark a take's stores complete if they are.

    Attributes:
        places: by stream, where its object was read.
    """

    priority: ClassVar[int] = 1

    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def failed(self, failure: Failure) -> Record:
        """The record when nothing came of it."""
        return FinishedTake(self.take, False, failures=(failure,))


@dataclass(frozen=True)
class Extract(_Task):
    """Compute and write a unit of a take."""

    unit: Unit = field(kw_only=True)

    @property
    def name(self) -> str:
        """For messages."""
        return self.unit.name

    @property
    def only_stream(self) -> str | None:
        """The stream that it is about when that is just one."""
        return self.unit.streams[0] if len(self.unit.streams) == 1 else None

    def by_stream(self) -> "list[Task]":
        """The same work as one task for each stream; empty when there is only one."""
        names = self.unit.streams
        return [replace(self, unit=self.unit.only(s)) for s in names] if len(names) > 1 else []

    def stopped(self) -> Record:
        """The record when it was cancelled."""
        return UnitRecord(self.take, self.unit.ranges, "stopped")

    def failed(self, failure: Failure) -> Record:
        """The record when nothing came of it."""
        return UnitRecord(self.take, self.unit.ranges, "failed", failures=(failure,))


@dataclass(frozen=True)
class Window(_Task):
    """Compute clips asked for on demand, any of them; they come back part by part.

    Attributes:
        clips: of the recipe's first target.
    """

    clips: ClipRange = field(kw_only=True)

    @property
    def name(self) -> str:
        """For messages."""
        names = self.clips.streams
        only = f" {names[0]}" if len(names) == 1 else ""
        return f"{self.take.name}{only} clips {self.clips.start}-{self.clips.stop - 1}"

    @property
    def only_stream(self) -> str | None:
        """The stream that it is about when that is just one."""
        return self.clips.streams[0] if len(self.clips.streams) == 1 else None

    def by_stream(self) -> "list[Task]":
        """The same work as one task for each stream; empty when there is only one."""
        names = self.clips.streams
        if len(names) < 2:
            return []
        return [replace(self, clips=replace(self.clips, streams=(s,))) for s in names]

    def stopped(self) -> Record:
        """The record when it was cancelled."""
        return UnitRecord(self.take, (self.clips,), "stopped")

    def failed(self, failure: Failure) -> Record:
        """The record when nothing came of it."""
        return UnitRecord(self.take, (self.clips,), "failed", failures=(failure,))


Task = Prepare | Extract | Finish | Window
