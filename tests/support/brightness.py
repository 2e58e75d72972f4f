"""A small data set whose pictures tell which frame they are, and an encoder that reads it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from configs.load import load_job, merge
from configs.schema import EncoderSpec
from models.preprocess import stacked
from service.demo.footage import encode_video
from workers.dataset.egoexo import read_takes
from workers.dataset.segments import read_segments
from workers.dataset.take import Take
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe, make_recipe
from workers.run.tasks import PreparedTake, UnitRecord

STREAMS = ("cam01_0", "cam02_0")


class BrightnessEncoder:
    """The mean of each colour over a clip, in the first three numbers: cheap, and telling."""

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec

    def encode(self, clips: Sequence[torch.Tensor]) -> torch.Tensor:
        vectors = torch.zeros(len(clips), self.spec.dim or 3)
        vectors[:, :3] = stacked(clips).float().mean((1, 3, 4))
        return vectors


def video(path: Path, level: int, frames: int = 100) -> None:
    """Grey pictures that get brighter from frame to frame, starting at `level`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = (np.full((64, 96, 3), level + n // 2, dtype=np.uint8) for n in range(frames))
    encode_video(path, pictures, audio=False, gop=25)


class Job:
    """A data set of one take with two cameras, and its output."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root / "data"
        self.output = root / "features"
        self.folder = self.root / "takes" / "t" / "frame_aligned_videos"
        videos = {name[:5]: {"0": {"relative_path": f"frame_aligned_videos/{name}.mp4"}}
                  for name in STREAMS}  # fmt: skip
        for number, name in enumerate(STREAMS):
            video(self.path(name), 40 + 60 * number)
        entry = {"take_uid": "u", "take_name": "t", "frame_aligned_videos": videos}
        (self.root / "takes.json").write_text(json.dumps([entry]))
        self.recipe = self.with_settings(**settings)

    def with_settings(self, **settings: Any) -> Recipe:
        """The recipe of a job over this data set."""
        common = {
            "dataset": str(self.root), "output": str(self.output),
            "store": {"unit_frames": 32, "dtype": "float32"},
        }  # fmt: skip
        return make_recipe(load_job(None, merge(common, settings)))

    def path(self, stream: str) -> Path:
        return self.folder / f"{stream}.mp4"

    def prepare(
        self, streams: Sequence[str] = STREAMS, take: Take | None = None
    ) -> tuple[UnitExtractor, PreparedTake]:
        extractor = UnitExtractor(
            self.recipe,
            [BrightnessEncoder(target.encoder) for target in self.recipe.targets],
            torch.device("cpu"),
        )
        if take is None:
            (take,) = read_takes(str(self.root))
        if self.recipe.job.segments:
            (take,) = read_segments(self.recipe.job.segments).of([take])
        return extractor, extractor.prepare(take, streams)

    def run(self, streams: Sequence[str] = STREAMS) -> list[UnitRecord]:
        extractor, prepared = self.prepare(streams)
        assert prepared.failures == ()
        records = [extractor.extract(unit) for unit in prepared.units]
        if records:
            assert extractor.finish(prepared.take).complete
        return records

    def chunks(self, stream: int) -> dict[Path, int]:
        store = next(self.output.glob("*/u.zarr"))
        return {p: p.stat().st_mtime_ns for p in store.glob(f"features/c/*/{stream}/0")}

    def dataset(self, encoder_id: str = "*") -> xr.Dataset:
        return xr.open_zarr(next(self.output.glob(f"{encoder_id}/u.zarr"))).load()
