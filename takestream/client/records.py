"""Plain facts from the service: takes, encoders, stores, moments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from takestream.licence import Licence
from takestream.protocol import Record
from takestream.sync import TakeSync


@dataclass(frozen=True)
class Encoder(Record):
    """A pretrained network on offer.

    Attributes:
        name: The preset.
        dim: Length of a vector.
        frames: Frames of a clip that the network sees.
        window: Of its clips, in frames at `fps`; likewise `stride`.
        fps: Frames per second of the grid, or `auto`.
        joint: Whether text and pictures can be searched for.
        default: Whether it is taken where none is named.
    """

    name: str
    dim: int | None = None
    frames: int | None = None
    window: int | None = None
    stride: int | None = None
    fps: float | str | None = None
    licence: str | None = None
    family: str | None = None
    joint: bool = False
    default: bool = False


@dataclass(frozen=True)
class TakeFacts(Record):
    """What the data set says of a take; None where it says nothing. See `takestream.facts`.

    Attributes:
        take_uid: The data set's id of the take.
        take_name: Its name, such as `cmu_bike01_2`.
        task_start_sec, task_end_sec: Seconds on the take's clock in which the task is done.
        duration_sec: As the data set says it, in seconds.
        split: The official one.
        cameras: By cam_id, `is_ego` and `device_type`.
        notes: What the data set says against the take, in sentences.
    """

    take_uid: str
    take_name: str
    task_name: str | None = None
    task_id: int | None = None
    parent_task_name: str | None = None
    parent_task_id: int | None = None
    task_start_sec: float | None = None
    task_end_sec: float | None = None
    university_name: str | None = None
    participant_uid: str | None = None
    physical_setting_uid: str | None = None
    capture_name: str | None = None
    capture_uid: str | None = None
    best_exo: str | None = None
    is_narrated: bool | None = None
    validated: bool | None = None
    timesync_validated: bool | None = None
    duration_sec: float | None = None
    split: str | None = None
    benchmarks: list[str] | None = None
    cameras: dict[str, dict[str, Any]] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TakeSummary(TakeFacts):
    """A take.

    Attributes:
        streams: Names `<cam_id>_<stream>`.
        encoders: The encoder_ids that have stores of it.
        thumbnail: Path on the service of a small picture of it, None when there is none.
    """

    streams: list[str] = field(default_factory=list)
    encoders: list[str] = field(default_factory=list)
    thumbnail: str | None = None


@dataclass(frozen=True)
class Stream(Record):
    """A camera stream of a take.

    Attributes:
        key: `<cam_id>_<stream>`.
        is_ego: Whether the camera is worn.
        video: Path on the service to look at it, None when there is none, or videos are off.
        thumbnail: Path on the service of a small picture of it at a moment, whose seconds follow
            as the parameter `time`; None where `video` is.
    """

    key: str
    cam_id: str | None = None
    is_ego: bool | None = None
    video: str | None = None
    thumbnail: str | None = None


@dataclass(frozen=True)
class Store(Record):
    """Features of a take by one encoder; `takestream.open(uri)` reads them.

    Attributes:
        encoder_id: The folder of the store.
        uri: Where the store is.
        status: `partial`, `complete`, or `damaged` where it cannot be read.
        encoder: The preset.
        clips: Of the take's grid.
        clips_done: Clips × streams that are there.
        window: Frames of a clip at `fps`; likewise `stride`, from one clip's start to the next.
            None where clips are segments.
        fps: Frames per second of the grid.
        problems: By stream, sentences.
        sync: What was measured of the take's clocks, None where nothing was.
        dataset_licence: Of the videos that it was made from; likewise `encoder_licence` of the
            encoder's weights. None where it does not say.
    """

    encoder_id: str
    uri: str
    status: str
    encoder: str | None = None
    streams: list[str] = field(default_factory=list)
    clips: int | None = None
    clips_done: int | None = None
    window: int | None = None
    stride: int | None = None
    fps: float | None = None
    problems: dict[str, list[str]] = field(default_factory=dict)
    sync: TakeSync | None = None
    dataset_licence: Licence | None = None
    encoder_licence: Licence | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From JSON. Raises KeyError."""
        names = ("dataset_licence", "encoder_licence")
        licences = {name: Licence.of(values.get(name)) for name in names}
        return super().of({**values, **licences, "sync": TakeSync.of(values)})


@dataclass(frozen=True)
class TakeDetails(TakeFacts):
    """A take with its streams and stores.

    Attributes:
        streams: With their videos.
        videos: Whether the service streams videos at all.
        dataset_licence: Under which the videos are used now, None where nobody says.
        sync: What was measured of its clocks, None where nothing was.
    """

    streams: list[Stream] = field(default_factory=list)
    videos: bool = True
    dataset_licence: Licence | None = None
    stores: list[Store] = field(default_factory=list)
    sync: TakeSync | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From JSON. Raises KeyError."""
        parts = {
            "streams": [Stream.of(entry) for entry in values.get("streams") or []],
            "stores": [Store.of(entry) for entry in values.get("stores") or []],
            "sync": TakeSync.of(values),
            "dataset_licence": Licence.of(values.get("dataset_licence")),
        }
        return super().of({**values, **parts})


@dataclass(frozen=True)
class Moment:
    """A clip that was found.

    Attributes:
        stream: Which stream shows it.
        clip: Its number in the take.
        start_time: Seconds on the take's clock; likewise `end_time`.
        score: How like what was asked for; larger is more.
    """

    stream: str
    clip: int
    start_time: float
    end_time: float
    score: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        encoder_id: Whose features were compared.
        query: What was looked for, as the service took it.
        moments: By stream, the best first.
    """

    encoder_id: str
    query: dict[str, Any]
    moments: dict[str, list[Moment]]

    @property
    def best(self) -> list[Moment]:
        """The moments of all streams, the best first."""
        everything = [moment for found in self.moments.values() for moment in found]
        return sorted(everything, key=lambda moment: -moment.score)
