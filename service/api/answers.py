"""Answers for which the client has no record of its own: lists, moments, states, arrays as JSON."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from configs.instances import Instance
from service.features.overview import EncoderOverview
from service.report.estimate import Estimate
from takestream.client.records import Encoder, TakeSummary
from takestream.protocol import JobState
from takestream.sync import StreamSync
from workers.dataset.annotations import Annotation
from workers.run.stale import State

Matrix = list[list[float | None]]


class EncoderList(BaseModel):
    """The encoders on offer."""

    encoders: list[Encoder] = Field(description="the default first")


class TakesPage(BaseModel):
    """Some of the takes that the filters let through."""

    total: int = Field(description="takes that the filters let through, on all pages")
    takes: list[TakeSummary] = Field(description="in the data set's order")


class OutputOverview(BaseModel):
    """What the output holds; up to a minute old."""

    takes: int = Field(description="of the data set")
    encoders: list[EncoderOverview]


class AnnotationLane(BaseModel):
    """One kind of annotation of a take."""

    kind: Literal["keysteps", "descriptions"]
    annotations: list[Annotation] = Field(description="in the order of time")


class TakeAnnotations(BaseModel):
    """The annotations of a take: a lane for each kind that the data set has of it."""

    lanes: list[AnnotationLane]
    notes: list[str] = Field(description="annotation files that could not be read")


class JobsPage(BaseModel):
    """Some of the jobs."""

    jobs: list[JobState] = Field(description="the newest first")
    next: str | None = Field(None, description="the cursor of the next page; null on the last")


class PlannedEncoder(BaseModel):
    """One encoder's part of a plan."""

    encoder_id: str
    clips: int = Field(description="times streams")
    clips_done: int = Field(description="of them in the stores already")


class PlanRates(BaseModel):
    """The measurement that a plan's hours and money rest on."""

    uri: str
    made_at: str = Field(description="ISO 8601, UTC")
    machine: str = Field(description="processors or GPUs on which it was made")
    device: str
    workers: int = Field(description="that were measured at the same time")
    clips_per_s: tuple[float, float, float] = Field(
        description="of one worker, on average over those that measured: the least, the mean and"
        " the greatest of their units"
    )


class PlanAnswer(BaseModel):
    """What a job would do. Clips are counted times streams, of all encoders together."""

    takes: int
    encoders: list[PlannedEncoder]
    states: dict[State, int] | None = Field(
        description="how the takes stand, counted for each encoder: `stale` ones were made from"
        " other videos or settings; null for many takes, of which `takestream plan --stale` says it"
    )
    clips: int
    clips_left: int = Field(description="of them to compute")
    units: int = Field(description="to compute")
    bytes_left: int = Field(description="of the videos that are to be read")
    exact: bool = Field(description="false where lengths are those that the data set says")
    absent: int = Field(description="streams without a video")
    rates: PlanRates | None = Field(
        description="the newest calibration of these encoders in the output; null without one"
    )
    estimate: Estimate | None = Field(description="null without a calibration")
    instances: list[Instance] = Field(description="kinds of machines whose list price is known")
    words: list[str] = Field(description="the same in sentences")


class StartedJob(BaseModel):
    """There is too much to compute at once, so a job does it; ask again when it has ended."""

    job_id: str = Field(examples=["20261124-054233-a1b2c3"])
    url: str = Field(description="path of the job", examples=["/v1/jobs/20261124-054233-a1b2c3"])
    detail: str = Field(description="what is missing, for a person")


class FoundClip(BaseModel):
    """A clip that a search found."""

    clip: int = Field(description="its number in the take")
    start_time: float = Field(description="seconds on the take's clock")
    end_time: float = Field(description="seconds on the take's clock")
    score: float = Field(description="cosine to what was looked for")


class StreamMoments(BaseModel):
    """What a search found in one stream."""

    stream: str
    moments: list[FoundClip] = Field(description="the most alike first")


class SearchAnswer(BaseModel):
    """The moments of each stream most like the query."""

    encoder_id: str = Field(description="whose features were compared")
    query: dict[str, Any] = Field(description="what was looked for, as the service took it")
    streams: list[StreamMoments]


class FoundMoment(FoundClip):
    """A clip that a search over takes found."""

    take_uid: str
    take_name: str
    stream: str = Field(description="the camera that shows it best")
    thumbnail: str | None = Field(None, description="where a small picture of it is")


class TakesSearchAnswer(BaseModel):
    """The moments of all takes most like the query."""

    encoder_id: str = Field(description="whose features were compared")
    query: dict[str, Any] = Field(description="what was looked for, as the service took it")
    moments: list[FoundMoment] = Field(description="the most alike first")
    compared: int = Field(description="takes whose means were compared")
    looked_at: int = Field(description="takes whose clips were compared")
    lacking: int = Field(
        description="takes with a store and no mean that is up to date: partial ones, and those"
        " that `takestream catalogue` has not seen"
    )
    exact: bool = Field(
        description="whether no clip that was not looked at can be better than what was found"
    )


class StreamTimeline(BaseModel):
    """One stream of a take, clip by clip."""

    stream: str
    is_ego: bool = Field(description="whether the camera is worn")
    valid: list[int] = Field(description="1 for a clip with features, 0 for one without")
    reason: list[int] = Field(description="why a clip is invalid; `reasons` has the words")
    similarity: list[float | None] = Field(
        description="mean cosine to the same clip in the other valid streams; null where there is"
        " none to compare"
    )
    drift: float | None = Field(
        description="largest distance of its PTS from the take's clock, in frames"
    )
    sync: StreamSync | None = Field(description="how it stands beside the reference, if measured")
    problems: list[str]


class Timeline(BaseModel):
    """The clips of a take in every stream; all lists have one entry for each clip."""

    encoder_id: str
    clip: list[int] = Field(description="numbers in the take")
    start_time: list[float] = Field(description="seconds on the take's clock")
    end_time: list[float] = Field(description="seconds on the take's clock")
    streams: list[StreamTimeline]
    reasons: dict[str, str] = Field(description="what each `reason` means")


class PairSimilarity(BaseModel):
    """How alike the streams of a take are to each other, as an encoder sees them."""

    encoder_id: str
    clips: int = Field(description="how many clips of each stream lie in the span")
    streams: list[str] = Field(description="of rows and columns")
    similarity: Matrix = Field(
        description="mean cosine of two streams' clips of the same time; null where none is valid"
        " in both"
    )


class MappedClip(BaseModel):
    """A clip of a stream in two dimensions."""

    clip: int
    stream: str
    x: float
    y: float
    start_time: float = Field(description="seconds on the take's clock")
    end_time: float


class Projection(BaseModel):
    """Valid clips of a take in two dimensions."""

    encoder_id: str
    method: Literal["PCA"]
    explained: list[float] = Field(description="share of the variance along x and y")
    points: list[MappedClip]


class FeatureArrays(BaseModel):
    """Features of clips and streams as nested lists; the store's further columns come beside them.

    Arrays are indexed by clip, then stream, then feature.
    """

    model_config = ConfigDict(extra="allow")

    attributes: dict[str, Any] = Field(
        description="take, grid, encoder, provenance, problems and licence, as in a store"
    )
    stream: list[str]
    clip: list[int] = Field(description="numbers in the take")
    start_time: list[float] = Field(description="seconds on the take's clock")
    end_time: list[float] = Field(description="seconds on the take's clock")
    features: list[Matrix] = Field(description="null where a clip is invalid")
    valid: list[list[bool]]
    reason: list[list[int]] = Field(description="why a clip is invalid, 0 where it is valid")
    frame_time: Matrix = Field(description="PTS of a clip's first frame in seconds")


class SegmentArrays(BaseModel):
    """One vector for each segment and stream; indexed by segment, then stream, then feature."""

    model_config = ConfigDict(extra="allow")

    attributes: dict[str, Any] = Field(
        description="encoder, pooling, and by take its provenance and problems"
    )
    take: list[str] = Field(description="of each segment, as it was asked for")
    start_time: list[float] = Field(description="seconds on the take's clock")
    end_time: list[float] = Field(description="seconds on the take's clock")
    stream: list[str]
    features: list[Matrix] = Field(description="null where no clip is valid")
    valid: list[list[bool]]
    step_id: list[str] | None = Field(None, description="where the segments had any")


class Health(BaseModel):
    """This replica answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether work can be done."""

    ready: bool
    checks: dict[str, str] = Field(
        description="`ok` or what is wrong, for model, output and data set"
    )
