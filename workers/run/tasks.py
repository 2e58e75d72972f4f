"""The pieces of work and what comes back of them: small, plain values that travel through Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.dataset.take import Take
from workers.run.recipe import Recipe

Outcome = Literal["done", "failed", "stopped"]
Kind = Literal["prepare", "extract", "finish", "window"]


@dataclass(frozen=True)
class Unit:
    """Clips `[start, stop)` of a take, for the streams whose features are still missing.

    take: with all its streams, since they agree on the take's length together.
    """

    take: Take
    start: int
    stop: int
    streams: tuple[str, ...]

    @property
    def name(self) -> str:
        """For messages: the take, the clips, and the stream when it is only one."""
        only = f" {self.streams[0]}" if len(self.streams) == 1 else ""
        return f"{self.take.name}{only} clips {self.start}-{self.stop - 1}"


@dataclass(frozen=True)
class Failure:
    """Why something was not done: which take (and stream), the reason in plain words.

    fatal: the job cannot go on (credentials, a full or forbidden output).
    kind: `changed` (the source), `denied`, `unavailable`, `source`, `store`, `model`, `crash` (of
        the worker), `unreadable` (the videos), or `fault` (of takestream).
    """

    take: str
    stream: str | None
    reason: str
    fatal: bool = False
    kind: str = "fault"


@dataclass(frozen=True)
class UnitRecord:
    """What became of a unit.

    invalid: per stream, how many of its clips are invalid.
    counts: bytes_read, bytes_written, requests, retries, frames_decoded, clips …
    """

    unit: Unit
    outcome: Outcome
    seconds: float = 0.0
    invalid: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class PreparedTake:
    """A take that was probed and whose store stands ready.

    units: what is still to do; empty when the store is complete already.
    clips: clips of the whole take, times streams; clips_done: of them, in the store already.
    problems: per stream, plain words.
    """

    take: Take
    store: str
    units: tuple[Unit, ...]
    clips: int = 0
    clips_done: int = 0
    frames: int = 0
    bytes: int = 0
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FinishedTake:
    """A take whose units are all done: whether its store is complete now."""

    take: Take
    store: str
    complete: bool
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


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
class Task:
    """Something for a worker to run, by its recipe.

    kind: `prepare` a take, `extract` a unit of it, `finish` it; or a `window`: clips asked for on
        demand, which need not be a whole unit and come back part by part.
    owner: whose work it is, for counting and cancelling: a job, or a request.
    streams: which streams `prepare` is for.
    """

    kind: Kind
    recipe: Recipe
    take: Take
    owner: str
    streams: tuple[str, ...] = ()
    unit: Unit | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return self.unit.name if self.unit else self.take.name

    def failed(self, failure: Failure) -> Record:
        """The record of this task when nothing came of it."""
        if self.kind == "prepare":
            return PreparedTake(self.take, "", (), failures=(failure,))
        if self.kind == "finish":
            return FinishedTake(self.take, "", False, failures=(failure,))
        assert self.unit is not None
        return UnitRecord(self.unit, "failed", failures=(failure,))
