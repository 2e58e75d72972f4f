"""How a job stands and how it ended, counted."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from workers.dataset.take import Take
from workers.run.history import History
from workers.run.spending import Bill
from workers.run.tasks import Failure, UnitRecord

# Rate and time left follow about the last half minute: a job's streams differ in size.
SMOOTHING_SECONDS = 30.0
# Takes with losses that are named.
_NAMED = 3


@dataclass
class Progress:
    """Where a job stands. Clips are counted per stream; all sums run up from zero.

    clips: of the takes prepared so far; clips_skipped: found in the store already;
    clips_done: written by this run; clips_failed: given up.

    How far the job is, wherever that is shown, is `clips_reached` of `clips_asked`.
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
    _lately: tuple[float, float] = (0.0, 0.0)
    _ticked: float = 0.0

    @property
    def clips_seen(self) -> float:
        """Clips encoded so far, those of unfinished units too."""
        return max(self.counts.get("clips", 0.0), float(self.clips_done))

    @property
    def clips_asked(self) -> int:
        """Clips of all takes; those not prepared yet are taken to be as long as the others."""
        if not self.takes_prepared:
            return 0
        return round(self.clips * max(self.takes, self.takes_prepared) / self.takes_prepared)

    @property
    def clips_written(self) -> int:
        """Clips that are in the stores: found there, or written by this run."""
        return self.clips_skipped + self.clips_done

    @property
    def clips_reached(self) -> int:
        """Clips that are in the stores, or encoded for them in a unit that is under way."""
        return min(self.clips_asked, self.clips_skipped + int(self.clips_seen))

    @property
    def clips_per_s(self) -> float:
        """Clips encoded per second lately; 0 before the first."""
        clips, seconds = self._lately
        return clips / seconds if seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, by the rate lately; None as long as nothing is known."""
        left = max(0, self.clips_asked - self.clips_reached - self.clips_failed)
        if self.takes_prepared and not left:
            return 0.0
        return left / self.clips_per_s if self.clips_per_s else None

    def tick(self, seconds: float, counts: Mapping[str, float]) -> None:
        """Time has passed and work was done.

        Args:
            seconds: Since the job began.
            counts: All work done since then.
        """
        # Not `clips_seen` as it is now: records that came since the last call are in it already.
        before, passed = self._ticked, seconds - self.seconds
        self.seconds, self.counts = seconds, dict(counts)
        self._ticked = self.clips_seen
        gained = max(0.0, self._ticked - before)
        if not before and not self._lately[1]:
            # What came before the first clip is the start, not the rate.
            passed = min(passed, 1.0) if gained else 0.0
        fade = math.exp(-passed / SMOOTHING_SECONDS)
        clips, lately = self._lately
        self._lately = clips * fade + gained, lately * fade + passed


class Losses:
    """Which of the streams that were asked for are not wholly valid, or not there at all.

    Args:
        takes: All takes of a job, each with the streams asked for.
        strict: Whether a job with losses has failed.

    Attributes:
        strict: As given.
        labels: By uid, what reports call a take: its name, and the uid too where others have it.
    """

    def __init__(
        self, takes: Sequence[tuple[Take, Sequence[str]]] = (), *, strict: bool = False
    ) -> None:
        times = Counter(take.name for take, _ in takes)
        self.strict = strict
        self.labels = {
            take.uid: take.name if times[take.name] == 1 else f"{take.name} ({take.uid})"
            for take, _ in takes
        }
        self._asked = {take.uid: tuple(streams) for take, streams in takes}
        self._lost: dict[str, set[str]] = {}

    @property
    def streams(self) -> int:
        """Streams that were asked for, counted take by take."""
        return sum(map(len, self._asked.values()))

    def count(self, take: Take, invalid: Mapping[str, int]) -> None:
        """A take's stores hold so many invalid clips of its streams."""
        asked = self._asked.get(take.uid, ())
        lost = {name for name in asked if invalid.get(name, 0)}
        if lost:
            self._lost.setdefault(take.uid, set()).update(lost)

    def fail(self, take: Take, streams: Iterable[str | None]) -> None:
        """Streams of a take could not be extracted; None: all of them."""
        asked, names = self._asked.get(take.uid, ()), set(streams)
        if lost := {name for name in asked if name in names or None in names}:
            self._lost.setdefault(take.uid, set()).update(lost)

    @property
    def by_take(self) -> dict[str, list[str]]:
        """The streams, by uid of the take."""
        return {uid: sorted(names) for uid, names in self._lost.items()}

    @property
    def words(self) -> str | None:
        """How many streams of how many takes; None where all is valid."""
        if not self._lost:
            return None
        lost = sum(map(len, self._lost.values()))
        named = [f"{self.labels[uid]} ({', '.join(some)})" for uid, some in self.by_take.items()]
        more = ", …" if len(self._lost) > _NAMED else ""
        return (
            f"not wholly valid: {lost:,} of {self.streams:,} streams, in {len(self._lost):,} of"
            f" {len(self._asked):,} takes: {', '.join(named[:_NAMED])}{more}"
        )


class Places:
    """Where the objects of a job's takes were read.

    Attributes:
        notes: Of machines, in sentences, each once.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._read: dict[str, dict[str, set[str]]] = {}

    def add(self, record: UnitRecord) -> None:
        """A unit was done."""
        for stream, place in record.places.items():
            self._read.setdefault(record.take.uid, {}).setdefault(stream, set()).add(place)
        self.notes += [note for note in record.notes if note not in self.notes]

    def of(self, uid: str) -> dict[str, tuple[str, ...]]:
        """By stream of a take, its places."""
        return {name: tuple(sorted(some)) for name, some in self._read.get(uid, {}).items()}

    @property
    def objects(self) -> dict[str, int]:
        """By place, how many objects were read there; one that was read at two counts at both."""
        found = Counter(
            place for take in self._read.values() for some in take.values() for place in some
        )
        return dict(sorted(found.items()))


@dataclass
class Report:
    """How a job ended: what the summary shows and the report file keeps."""

    progress: Progress
    stores: list[str] = field(default_factory=list)
    untouched: int = 0
    problems: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    bill: Bill | None = None
    losses: Losses = field(default_factory=Losses)
    left_out: list[str] = field(default_factory=list)
    history: History = field(default_factory=History)
    places: Places = field(default_factory=Places)

    @property
    def ok(self) -> bool:
        """Whether everything that could be extracted was, and where that is asked for, is valid."""
        lost = self.losses.strict and self.losses.words is not None
        return not self.failures and not self.progress.units_failed and not lost
