"""Takes and their streams, whatever data set they come from."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


class DatasetError(ValueError):
    """The data set or the selection cannot be used; the message says why and what to do next."""


@dataclass(frozen=True)
class Stream:
    """One camera image stream of a take.

    key: `<cam_id>_<stream>`, as the official features name it.
    uri: its video object, or none when the data set lists the stream without a file.
    is_ego: from `capture.cameras`; by the camera's name where the capture does not say.
    """

    key: str
    cam_id: str
    name: str
    uri: str | None
    is_ego: bool


@dataclass(frozen=True)
class Segment:
    """An annotated interval of a take.

    Attributes:
        start, end: seconds on the take's clock, from its first frame; `[start, end)`.
        name: what is done in it, in words; may be empty.
        label: its class, as text; may be empty.
    """

    start: float
    end: float
    name: str = ""
    label: str = ""


@dataclass(frozen=True)
class Take:
    """One activity seen by several cameras. Every word but uid and name may be missing (None).

    segments: in time order; only where a job asks for them.
    """

    uid: str
    name: str
    task: str | None
    university: str | None
    capture: str | None
    duration: float | None
    streams: tuple[Stream, ...]
    segments: tuple[Segment, ...] = ()

    def only(self, keys: Iterable[str]) -> "Take":
        """This take with just the streams in `keys`."""
        kept = set(keys)
        return replace(self, streams=tuple(s for s in self.streams if s.key in kept))
