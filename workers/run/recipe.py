"""A job with its encoder resolved: what every worker needs to know, and the store's folder name."""

import fnmatch
import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from configs.load import SettingsError, choose_encoder
from configs.schema import EncoderSpec, GridSpec, JobSpec
from models.encoder import resolve_encoder
from models.preprocess import PREPROCESSING_VERSION
from takestream.storage import S3Options, absolute, join

# Part of every `encoder_id`: raise it whenever decoding or colour conversion changes the pixels.
PICTURE_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """A job, its encoder and grid resolved; `git_commit` is of the code, where it is known."""

    job: JobSpec
    encoder: EncoderSpec
    grid: GridSpec
    git_commit: str | None = None

    @cached_property
    def encoder_id(self) -> str:
        """`<preset>-<10 hex digits>` over all that decides what the features mean.

        That is the encoder's identity with the digest of its weights, the versions of
        preprocessing and picture making, the grid, the videos' resolution and how they are turned:
        another of these is another folder, so nothing is overwritten.
        """
        identity = {
            "encoder": self.encoder.identity(),
            "preprocessing": PREPROCESSING_VERSION,
            "picture": PICTURE_VERSION,
            "grid": self.grid.model_dump(mode="json"),
            "resolution": self.job.select.resolution,
            "rotate": {k: v for k, v in sorted(self.job.rotate.items()) if v},
        }
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return f"{self.encoder.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @cached_property
    def key(self) -> str:
        """Tells recipes apart: a digest of everything in it."""
        parts = [spec.model_dump_json() for spec in (self.job, self.encoder, self.grid)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def source_s3(self) -> S3Options:
        """How to reach the data set."""
        return S3Options(self.job.s3.profile, self.job.s3.endpoint_url)

    @property
    def output_s3(self) -> S3Options:
        """How to reach the output: as the data set unless the job says otherwise."""
        s3 = self.job.output_s3 or self.job.s3
        return S3Options(s3.profile, s3.endpoint_url)

    def store_uri(self, take_uid: str) -> str:
        """Where the store of a take is."""
        return join(self.job.output, self.encoder_id, f"{take_uid}.zarr")

    def quarter_turns(self, stream: str) -> int:
        """By how many quarter turns counter-clockwise the stream's pictures are turned."""
        for pattern, degrees in self.job.rotate.items():
            if fnmatch.fnmatchcase(stream, pattern):
                return degrees // 90
        return 0


def make_recipe(job: JobSpec) -> Recipe:
    """Resolve a job's encoder and grid. Raises SettingsError, ModelError.

    Local paths become absolute: workers run in folders of their own.
    """
    places = {"dataset": absolute(job.dataset), "output": absolute(job.output)}
    job = job.model_copy(update=places)
    for name, place in places.items():
        if place.startswith("memory://"):
            raise SettingsError(
                f"{name}: {place} lies in one process's memory, which workers do not share; "
                "give a path or another URI"
            )
    chosen = choose_encoder(job.encoder)
    if os.path.isdir(chosen.weights):
        chosen = chosen.model_copy(update={"weights": absolute(chosen.weights)})
    s3 = job.output_s3 or job.s3
    encoder = resolve_encoder(chosen, S3Options(s3.profile, s3.endpoint_url))
    return Recipe(job, encoder, job.grid.over(encoder.grid), _git_commit())


def _git_commit() -> str | None:
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
