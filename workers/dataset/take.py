"""Takes and their streams, whatever data set they come from."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from takestream import facts
from takestream.errors import ErrorKind, TakestreamError
from takestream.licence import Licence


class DatasetError(TakestreamError, ValueError):
    """The data set or the selection cannot be used; the message says why and what to do next."""

    kind = ErrorKind.DATASET


class Kind(StrEnum):
    """What a stream's samples are."""

    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of samples of a take: what one camera shows.

    Attributes:
        key: `<cam_id>_<stream>`, as the official features name it.
        cam_id: the camera.
        name: the stream among those of its camera.
        uri: its object, or none when the data set lists the stream without a file.
        is_ego: whether it is worn, as the data set says; by the camera's name where it does not.
        kind: what its samples are, and so which reader reads it.
        track: which of the object's tracks it is; the one that a player would show by default.
        span: seconds `[start, end)` of the object that are this take's, where takes share one.
        start_offset: seconds on the take's clock at which its first sample was taken; negative
            where it began before the take.
        camera_kind: what sort of picture it is: `rgb`, `slam`, `et` (of the glasses), `gopro`, or
            a word of the data set's own; empty where nothing says.
        size: bytes of its object, where the data set itself says so.
        note: what the data set says that is odd about it, in plain words; without a uri, why.
        path: of its object below the root of a release, as its mirrors have it; empty where the
            data set is none.
        others: where its object may lie when there is none at `uri`: the key in another form.
    """

    key: str
    cam_id: str
    name: str
    uri: str | None
    is_ego: bool
    kind: Kind = Kind.VIDEO
    track: int | None = None
    span: tuple[float, float] | None = None
    start_offset: float = 0.0
    camera_kind: str = ""
    size: int | None = None
    note: str = ""
    path: str = ""
    others: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Camera:
    """One of the cameras that the data set lists for a take; what it does not say is None.

    Attributes:
        cam_id: its name.
        is_ego: whether it is worn.
        device: its sort, such as `aria` or `gopro`.
    """

    cam_id: str
    is_ego: bool | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """One activity seen by several cameras. Every word but uid and name may be missing (None).

    Attributes:
        segments: in time order; only where a job asks for them.
        capture, capture_uid: the session of filming that it is cut from.
        parent_task: the scenario that its task belongs to.
        best_exo: the camera that shows it best from outside.
        narrated, validated: as the data set says.
        timesync_validated: whether its synchronisation was looked at, as the data set says.
        participant_uid, physical_setting_uid: who does it, and where.
        task_id, parent_task_id: numbers of its task and scenario.
        task_start, task_end: seconds on the take's clock in which the task itself is done.
        splits, benchmarks: that it belongs to; None where the data set does not say, which a
            release's manifest means as "of any".
        cameras: that its capture lists, with and without a video here.
        licence: of its videos, where its own entry names one.
    """

    uid: str
    name: str
    task: str | None
    university: str | None
    capture: str | None
    duration: float | None
    streams: tuple[Stream, ...]
    segments: tuple[Segment, ...] = ()
    capture_uid: str | None = None
    parent_task: str | None = None
    best_exo: str | None = None
    narrated: bool | None = None
    validated: bool | None = None
    timesync_validated: bool | None = None
    participant_uid: str | None = None
    physical_setting_uid: str | None = None
    task_id: int | None = None
    parent_task_id: int | None = None
    task_start: float | None = None
    task_end: float | None = None
    splits: tuple[str, ...] | None = ()
    benchmarks: tuple[str, ...] | None = ()
    cameras: tuple[Camera, ...] = ()
    licence: Licence | None = None

    def facts(self) -> dict[str, Any]:
        """What the data set says of it, JSON-able, as `takestream.facts.FACTS` names it.

        What is absent or of another kind is None.
        """
        return {
            "take_uid": self.uid,
            "take_name": self.name,
            "task_name": self.task,
            "task_id": self.task_id,
            "parent_task_name": self.parent_task,
            "parent_task_id": self.parent_task_id,
            "task_start_sec": self.task_start,
            "task_end_sec": self.task_end,
            "university_name": self.university,
            "participant_uid": self.participant_uid,
            "physical_setting_uid": self.physical_setting_uid,
            "capture_name": self.capture,
            "capture_uid": self.capture_uid,
            "best_exo": self.best_exo,
            "is_narrated": self.narrated,
            "validated": self.validated,
            "timesync_validated": self.timesync_validated,
            "duration_sec": self.duration,
            "split": self.splits[0] if self.splits and len(self.splits) == 1 else None,
            "benchmarks": list(self.benchmarks) if self.benchmarks else None,
            "cameras": {
                camera.cam_id: {"is_ego": camera.is_ego, "device_type": camera.device}
                for camera in self.cameras
            }
            or None,
        }

    @property
    def task_span(self) -> tuple[float, float] | None:
        """Seconds `[start, end)` of the task on the take's clock; None where it is not known."""
        return facts.task_span({"task_start_sec": self.task_start, "task_end_sec": self.task_end})

    def only(self, keys: Iterable[str]) -> "Take":
        """This take with just the streams in `keys`."""
        kept = set(keys)
        return replace(self, streams=tuple(s for s in self.streams if s.key in kept))
