"""What a measurement of synchronisation found: the attribute `sync` of a store, as data.

An offset is counted between what two streams show: it is positive where a stream shows a moment
later than the reference does. An event that the reference shows at 10.0 s and a stream at 10.3 s of
its own has the offset +300 ms; a camera that begins to record 300 ms late shows everything
earlier, so its offset is -300 ms.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

# Of the measurement: raised whenever it would find other offsets in the same videos.
SYNC_VERSION: Final = 1

# How far a result can be relied on, the best first. The first two are believed.
HIGH: Final = "high"
GOOD: Final = "good"
LOW: Final = "low"
NONE: Final = "none"
BELIEVED: Final = (HIGH, GOOD)

# Who says so.
REFERENCE: Final = "reference"
SOUND: Final = "sound"
SIGHT: Final = "sight"
BOTH: Final = "sound and sight"
NOBODY: Final = "none"


@dataclass(frozen=True)
class WitnessSync:
    """What one witness says of a stream.

    Attributes:
        offset_ms: At the take's beginning; None where it cannot tell.
        drift_ppm: By how many millionths the offset grows; None where it cannot tell.
        sure: Whether it can be relied on.
        agree: Windows that agree with it, within `within_ms`.
        windows: Windows that say something at all.
        within_ms: Milliseconds.
        why: Why it cannot tell, in words; empty where it can.
    """

    offset_ms: float | None
    drift_ppm: float | None
    sure: bool
    agree: int
    windows: int
    within_ms: float
    why: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """From an attribute; unknown keys are left out."""
        return cls(**{name: facts[name] for name in cls.__dataclass_fields__ if name in facts})


@dataclass(frozen=True)
class StreamSync:
    """How a stream stands beside the take's reference.

    Attributes:
        offset_ms: By how much later it shows a moment than the reference does, at the take's
            beginning; None where nobody can tell.
        drift_ppm: By how many millionths of the time that goes by the offset grows; None where
            nobody can tell.
        frames: The offset in whole frames of the take, in the middle of the take; None likewise.
        witness: `sound`, `sight`, `sound and sight`, `reference`, or `none`.
        confidence: `high`, `good` (both are believed), `low`, or `none`.
        agree: Windows that agree, within `within_ms`.
        windows: Windows in which the witness could say something.
        within_ms: Milliseconds.
        verdict: All this in words.
        sound, sight: What each witness says by itself; None where it was not asked.
        clock: What PTS and counts say: `frames`, `take_frames`, `rate`, `late_ms` (its first frame
            after the file's beginning) and `pts_frames` (largest distance of a PTS from the take's
            clock).
        shift_frames: By how many frames this store's timeline of the stream was shifted: frame *i*
            of the take is its frame *i + shift_frames*.
    """

    offset_ms: float | None
    drift_ppm: float | None
    frames: int | None
    witness: str
    confidence: str
    agree: int
    windows: int
    within_ms: float
    verdict: str
    sound: WitnessSync | None = None
    sight: WitnessSync | None = None
    clock: Mapping[str, Any] = field(default_factory=dict)
    shift_frames: int = 0

    @property
    def believed(self) -> bool:
        """Whether the offset is believed."""
        return self.offset_ms is not None and self.confidence in BELIEVED

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """From an attribute; unknown keys are left out."""
        known = {name: facts[name] for name in cls.__dataclass_fields__ if name in facts}
        for name in (SOUND, SIGHT):
            if isinstance(known.get(name), Mapping):
                known[name] = WitnessSync.of(known[name])
        return cls(**known)


@dataclass(frozen=True)
class TakeSync:
    """The synchronisation of a take, as measured.

    Attributes:
        measure: Which witnesses were asked: `clock`, `sound`, `sight` or `all`.
        reference: The stream that the others are compared with, the one that most others are in
            step with; None where no two can be compared.
        applied: Whether streams of this store were shifted by it.
        fps: Frames per second of the take.
        streams: By stream.
        version: Of the measurement.
    """

    measure: str
    reference: str | None
    fps: float
    streams: Mapping[str, StreamSync]
    applied: bool = False
    version: int = SYNC_VERSION

    def facts(self) -> dict[str, Any]:
        """As the attribute `sync` of a store holds it, JSON-able."""
        return asdict(self)

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> "TakeSync | None":
        """What the attributes of a store say; None where nothing was measured, or it is damaged."""
        facts = attributes.get("sync")
        if not isinstance(facts, Mapping):
            return None
        try:
            streams = {name: StreamSync.of(one) for name, one in facts["streams"].items()}
            known = {name: facts[name] for name in cls.__dataclass_fields__ if name in facts}
            return cls(**{**known, "streams": streams})
        except (AttributeError, KeyError, TypeError):
            return None


def offset_words(offset_ms: float | None) -> str:
    """An offset with its sign, in milliseconds without the unit; `?` for none."""
    if offset_ms is None:
        return "?"
    text = f"{offset_ms:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def drift_words(drift_ppm: float | None) -> str:
    """A drift with its sign, in millionths without the unit; `?` for none."""
    if drift_ppm is None:
        return "?"
    text = f"{drift_ppm:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
