"""A job with its targets resolved: what every worker needs to know, and the stores' folders."""

import fnmatch
import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from configs.load import SettingsError, choose_encoder
from configs.preprocess import PreprocessSpec
from configs.schema import (
    EncoderChoice,
    EncoderSpec,
    GridSpec,
    JobSpec,
    SegmentGridSpec,
)
from models.resolve import PREPROCESSING_VERSION, resolve_encoder
from takestream.storage import S3Options, absolute
from takestream.stores import make_encoder_id, store_uri
from takestream.sync import SYNC_VERSION
from workers.clock.grid import Grid, make_grid
from workers.dataset.base import Dataset
from workers.dataset.layouts import dataset_of
from workers.dataset.segments import read_segments
from workers.dataset.take import Take

# Part of every `encoder_id`: raise it whenever decoding or colour conversion changes the pixels.
PICTURE_VERSION = 1


@dataclass(frozen=True)
class Target:
    """What one store of each take holds: an encoder's features on a grid.

    Attributes:
        encoder: resolved, with the digest of its weights.
        grid: how takes are cut into clips.
        encoder_id: `<preset>-<10 hex digits>`, the folder of its stores; see `make_target`.
    """

    encoder: EncoderSpec
    grid: GridSpec | SegmentGridSpec
    encoder_id: str

    @property
    def sizing(self) -> PreprocessSpec:
        """How pictures are resized and cropped; how they are normalised is the encoder's step."""
        spec = self.encoder.preprocess
        assert spec is not None
        return spec.sizing


@dataclass(frozen=True)
class Recipe:
    """A job with its targets resolved: all that a worker needs to know.

    Attributes:
        job: the settings, local paths made absolute.
        targets: one for each encoder of the job, in its order; fed from one decoding.
        git_commit: of the code, where it is known.
    """

    job: JobSpec
    targets: tuple[Target, ...]
    git_commit: str | None = None

    @property
    def target(self) -> Target:
        """The first target: the only one of an on-demand request."""
        return self.targets[0]

    @property
    def encoder_ids(self) -> tuple[str, ...]:
        """The folders of the stores, target by target."""
        return tuple(target.encoder_id for target in self.targets)

    @cached_property
    def key(self) -> str:
        """Tells recipes apart: a digest of everything in it."""
        parts = [self.job.model_dump_json()]
        for target in self.targets:
            parts += [target.encoder.model_dump_json(), target.grid.model_dump_json()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def dataset(self) -> Dataset:
        """The data set; nothing of it is read yet."""
        return dataset_of(self.job)

    @property
    def output_s3(self) -> S3Options:
        """How to reach the output: as the data set unless the job says otherwise."""
        return self.job.reach_output

    def store_uri(self, take_uid: str, target: Target | None = None) -> str:
        """Where the store of a take and a target is; of the first target when none is given."""
        return store_uri(self.job.output, (target or self.target).encoder_id, take_uid)

    def span(self, take: Take) -> tuple[float, float] | None:
        """Seconds `[start, end)` of a take that clips are of; None for all of it.

        A take whose task has no span in the data set is computed whole.
        """
        return take.task_span if self.job.select.task_span else None

    def grid(self, target: Target, take: Take, frames: int, rate: Fraction) -> Grid:
        """The clips of a take for a target.

        Args:
            target: one of the recipe's.
            take: whole.
            frames: of the take.
            rate: frames per second of the take.

        Raises:
            ValueError: a rate of nearly none.
        """
        return make_grid(frames, rate, target.grid, take.segments, self.span(take))

    def quarter_turns(self, stream: str) -> int:
        """By how many quarter turns counter-clockwise the stream's pictures are turned."""
        for pattern, degrees in self.job.rotate.items():
            if fnmatch.fnmatchcase(stream, pattern):
                return degrees // 90
        return 0


def make_recipe(job: JobSpec) -> Recipe:
    """Resolve a job's encoders and grids.

    Local paths become absolute: workers run in folders of their own.

    Raises:
        SettingsError: a setting that cannot be used.
        ModelError: an encoder that cannot be used.
        DatasetError: the file of segments cannot be used.
        StorageError: the file of segments cannot be read.
    """
    places = {"dataset": absolute(job.dataset), "output": absolute(job.output)}
    if job.segments is not None:
        places["segments"] = absolute(job.segments)
    mirrors = {name: absolute(place) for name, place in job.mirrors.items()}
    job = job.model_copy(update={**places, "mirrors": mirrors})
    for name, place in (*places.items(), *(("mirrors", place) for place in mirrors.values())):
        if place.startswith("memory://"):
            raise SettingsError(
                f"{name}: {place} lies in one process's memory, which workers do not share; "
                "give a path or another URI"
            )
    targets = tuple(make_target(job, choice) for choice in job.encoders)
    ids = [target.encoder_id for target in targets]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise SettingsError(f"encoders: two of them are the same, {twice[0]}")
    return Recipe(job, targets, git_commit())


def make_target(job: JobSpec, choice: EncoderChoice) -> Target:
    """One encoder of a job, resolved, on its grid.

    The `encoder_id` is a digest of all that decides what the features mean: the encoder's identity
    with the digest of its weights, the versions of preprocessing and picture making, the grid, the
    videos' resolution, how they are turned, the timeline, whether the task's span alone is
    computed, and whether streams are shifted by what is measured. Another of these is another
    folder, so nothing is overwritten.

    Raises:
        SettingsError, ModelError, DatasetError, StorageError: as `make_recipe` does.
    """
    chosen = choose_encoder(choice)
    if os.path.isdir(chosen.weights):
        chosen = chosen.model_copy(update={"weights": absolute(chosen.weights)})
    encoder = resolve_encoder(chosen, job.reach_output)
    if job.segments is not None:
        # Segments are cut anywhere, so their frames are spread, as they were before the lattice.
        encoder = encoder.model_copy(update={"sampling": "spread"})
    grid = _grid(job, encoder)
    identity = {
        "encoder": encoder.identity(),
        "preprocessing": PREPROCESSING_VERSION,
        "picture": PICTURE_VERSION,
        "grid": grid.model_dump(mode="json"),
        "resolution": job.select.resolution,
        "rotate": {k: v for k, v in sorted(job.rotate.items()) if v},
    }
    if job.timeline.kind != "frames":
        identity["timeline"] = job.timeline.model_dump(mode="json")
    if job.select.task_span:
        identity["span"] = "task"
    if job.sync.apply:
        identity["sync"] = {"measure": job.sync.measure, "version": SYNC_VERSION}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Target(encoder, grid, make_encoder_id(encoder.name, digest))


def _grid(job: JobSpec, encoder: EncoderSpec) -> GridSpec | SegmentGridSpec:
    if job.segments is None:
        return job.grid.over(encoder.grid)
    fps = job.grid.fps or encoder.grid.fps
    return SegmentGridSpec(fps=fps, segments=read_segments(job.segments, job.s3).digest)


def git_commit() -> str | None:
    """Of this checkout, with `-dirty` where it was changed; None where nobody knows."""
    here = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            [
                "git",
                "-C",
                str(here),
                "describe",
                "--always",
                "--dirty",
                "--abbrev=40",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
