"""Units whose pictures are made as for a GPU, several frames at a time; shown on the CPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

from tests.support.brightness import STREAMS, Job
from workers.clock.clips import Decode
from workers.media.counters import Counters
from workers.media.reader import Reader
from workers.media.video import Video
from workers.run.decoding import on_device
from workers.run.extract import UnitExtractor
from workers.run.passes import Collect, Passes
from workers.run.recipe import Recipe

# Targets of two sizes, in which they see different frames.
SETTINGS = {
    "encoders": ["efficientnet_lite", {"preset": "efficientnet_lite", "frames": 4}],
    "rotate": {"cam02*": 90},
    "store": {"unit_frames": 48},
}


def in_two_sizes(recipe: Recipe) -> Recipe:
    """The recipe with its second target on small pictures."""
    first, second = recipe.targets
    assert second.encoder.preprocess is not None
    sizes = {"resize": 60, "crop": (48, 48)}
    small = {"preprocess": second.encoder.preprocess.model_copy(update=sizes)}
    second = replace(second, encoder=second.encoder.model_copy(update=small))
    return replace(recipe, targets=(first, second))


def stores(job: Job) -> dict[str, xr.Dataset]:
    return {name: job.dataset(name).drop_attrs() for name in job.recipe.encoder_ids}


@pytest.mark.skipif(torch.cuda.is_available(), reason="NVDEC's frames would lie on the GPU")
@pytest.mark.parametrize("ahead", [0, 2])
def test_a_store_is_the_same_as_by_the_cpus_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    job = Job(tmp_path / "cpu", **SETTINGS)
    job.recipe = in_two_sizes(job.recipe)
    job.run()
    expected = stores(job)

    def decode(
        self: UnitExtractor, name: str, video: Video, reader: Reader, streams: int
    ) -> Decode:
        turns = self.recipe.quarter_turns(name)
        return on_device(video, reader, self._sizings, turns, self.device, streams)

    begun, collected = [], []

    class Ahead(Passes):
        """Collected later than begun, as on a GPU."""

        def begin(self, clips: torch.Tensor, counters: Counters) -> Collect:
            self.ahead = ahead
            begun.append(len(clips))
            collect = super().begin(clips, counters)

            def later() -> NDArray[np.float32]:
                collected.append(len(begun))
                return collect()

            return later

    monkeypatch.setattr(UnitExtractor, "_decode", decode)
    monkeypatch.setattr("workers.run.extract.Passes", Ahead)
    job = Job(tmp_path / "device", **SETTINGS)
    job.recipe = in_two_sizes(job.recipe)
    records = job.run()
    found = stores(job)
    assert list(found) == list(expected)
    for name, one in found.items():
        assert one.valid.all(), name
        xr.testing.assert_identical(one, expected[name])
    for record in records:
        assert record.counts["streams_cpu_refused"] == len(STREAMS)
        assert "streams_nvdec" not in record.counts
    assert collected[0] == 1 + ahead
