"""Cameras that began at another moment than the take, by a table's word."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from configs.load import load_job
from takestream.schema import Reason
from tests.support.brightness import BrightnessEncoder, video
from workers.run.extract import UnitExtractor
from workers.run.recipe import make_recipe

CLIP = 10


def extracted(folder: Path, offset: str, timeline: str) -> tuple[xr.Dataset, int]:
    """The store of a take whose second camera has that offset; how many units it took."""
    (folder / "cameras.csv").write_text(
        f"take,camera,uri,start_offset\nt,a,v.mp4,\nt,b,v.mp4,{offset}\nt,c,v.mp4,\n"
    )
    grid = {"window": CLIP, "stride": CLIP}
    settings = {
        "dataset": str(folder / "cameras.csv"), "output": str(folder / "out"), "grid": grid,
        "timeline": timeline, "store": {"dtype": "float32"},
    }  # fmt: skip
    recipe = make_recipe(load_job(None, settings))
    encoders = [BrightnessEncoder(target.encoder) for target in recipe.targets]
    extractor = UnitExtractor(recipe, encoders, torch.device("cpu"))
    (take,) = recipe.dataset.takes()
    prepared = extractor.prepare(take, [s.key for s in take.streams])
    for unit in prepared.units:
        assert extractor.extract(unit).failures == ()
    if prepared.units:
        assert extractor.finish(take).complete
    return xr.open_zarr(recipe.store_uri("t")).load(), len(prepared.units)


@pytest.mark.parametrize("timeline", ["frames", "pts"])
def test_the_same_moment_is_the_same_clip(tmp_path: Path, timeline: str) -> None:
    video(tmp_path / "v.mp4", 40)
    late, _ = extracted(tmp_path, str(2 * CLIP / 30), timeline)
    a, b = (late.sel(stream=name) for name in ("a_0", "b_0"))
    assert b.reason.values.tolist()[:2] == [Reason.MISSING_FRAME] * 2
    assert bool(b.valid[2:].all())
    assert a.sizes["clip"] == 10
    np.testing.assert_array_equal(b.features[2:], a.features[:8])
    np.testing.assert_allclose(b.frame_time[2:], a.frame_time[:8])
    words = late.attrs["problems"]["b_0"]
    assert words[0].startswith(f"begins {2 * CLIP} frames after the take")
    assert late.attrs["provenance"]["streams"]["b_0"]["start_offset"] == 2 * CLIP / 30

    # Nothing is done again, until the table says otherwise: then that stream alone.
    assert extracted(tmp_path, str(2 * CLIP / 30), timeline)[1] == 0
    early, units = extracted(tmp_path, str(-CLIP / 30), timeline)
    assert units == 1
    a, b = (early.sel(stream=name) for name in ("a_0", "b_0"))
    np.testing.assert_array_equal(b.features[:9], a.features[1:])
    assert b.reason.values.tolist()[9] == Reason.PAST_END
    assert early.attrs["problems"]["b_0"][0] == (
        f"shorter than the take: 100 frames that begin at frame -{CLIP}, the take has 100"
    )
