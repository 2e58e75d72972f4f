"""A job that measures synchronisation, and one that shifts a camera by what it measured."""

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from configs.load import SettingsError, load_job
from takestream.schema import Reason
from takestream.sync import TakeSync
from tests.support.brightness import STREAMS, Job
from tests.support.rooms import activity, bustle, heard, write_film
from workers.run.recipe import make_recipe

SECONDS, FPS, LATE = 10, 30, 9
COUNT = SECONDS * FPS
SCENE = bustle(SECONDS + 3, 1)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two cameras record; `late` is the second one that began nine frames after the first."""
    root = tmp_path_factory.mktemp("films")
    sound = {name: heard(SCENE, seed=n, seconds=SECONDS) for n, name in enumerate(STREAMS)}
    write_film(root / "cam01_0.mp4", activity(COUNT, seed=1), sound["cam01_0"], crf=0)
    second = list(activity(COUNT + LATE, seed=2))
    write_film(root / "cam02_0.mp4", islice(second, COUNT), sound["cam02_0"], crf=0)
    behind = heard(SCENE, offset=-LATE / FPS, seed=2, seconds=SECONDS)
    write_film(root / "late.mp4", islice(second, LATE, None), behind, crf=0)
    write_film(root / "foreign.mp4", activity(COUNT, seed=3, scene=9), bustle(SECONDS, 9), crf=0)
    return root


def job_of(root: Path, films: Path, second: str, **settings: object) -> Job:
    job = Job(root, **settings)
    for name, film in zip(STREAMS, ("cam01_0", second), strict=True):
        shutil.copy(films / f"{film}.mp4", job.path(name))
    return job


def features(found: xr.Dataset, stream: str) -> np.ndarray:
    return found.features.sel(stream=stream).values


def test_a_late_camera_is_shifted_back_into_step(tmp_path: Path, films: Path) -> None:
    plain = job_of(tmp_path / "plain", films, "cam02_0")
    plain.run()
    job = job_of(tmp_path / "late", films, "late", sync={"apply": True})
    job.run()
    found, right = job.dataset(), plain.dataset()
    one = TakeSync.of(found.attrs).streams["cam02_0"]
    assert (one.frames, one.shift_frames, one.confidence) == (-LATE, -LATE, "high")
    assert one.offset_ms == pytest.approx(-300, abs=2)
    # The first clip needs frames from before the camera began; all others are as if undisturbed.
    assert found.reason.sel(stream="cam02_0").values.tolist()[0] == Reason.MISSING_FRAME
    assert found.valid.values[1:].all()
    np.testing.assert_array_equal(features(found, "cam02_0")[1:], features(right, "cam02_0")[1:])
    np.testing.assert_array_equal(features(found, "cam01_0"), features(right, "cam01_0"))
    shown = found.frame_time.sel(stream="cam02_0").values[1:]
    np.testing.assert_allclose(shown, (found.start_frame.values[1:] - LATE) / FPS, atol=1e-4)
    assert "shifted by -9 frames" in found.attrs["problems"]["cam02_0"][0]
    assert found.attrs["provenance"]["sync"] == {"measure": "all", "apply": True}


def test_a_camera_that_began_early_ends_before_the_take(tmp_path: Path, films: Path) -> None:
    job = job_of(tmp_path, films, "late", sync="apply")
    # The worn camera is the reference of equals; of two exo cameras the first is.
    shutil.copy(films / "late.mp4", job.path("cam01_0"))
    shutil.copy(films / "cam02_0.mp4", job.path("cam02_0"))
    job.run()
    found = job.dataset()
    one = TakeSync.of(found.attrs).streams["cam02_0"]
    assert one.shift_frames == LATE
    assert found.valid.sel(stream="cam02_0").values[:-1].all()
    assert found.reason.sel(stream="cam02_0").values[-1] == Reason.PAST_END
    assert found.frame_time.sel(stream="cam02_0").values[0] == pytest.approx(LATE / FPS, abs=1e-4)


def test_without_being_applied_it_changes_no_feature(tmp_path: Path, films: Path) -> None:
    job = job_of(tmp_path, films, "late")
    job.run()
    before = job.dataset()
    assert "sync" not in before.attrs
    chunks = job.chunks(0) | job.chunks(1)
    job.recipe = job.with_settings(sync={"measure": "sound"})
    # The store is complete: it is measured, and nothing is extracted again.
    assert job.run() == []
    after = job.dataset()
    assert job.chunks(0) | job.chunks(1) == chunks
    xr.testing.assert_equal(before, after)
    assert after.attrs["status"] == "complete"
    found = TakeSync.of(after.attrs)
    assert (found.measure, found.applied) == ("sound", False)
    assert (found.streams["cam02_0"].frames, found.streams["cam02_0"].shift_frames) == (-LATE, 0)
    assert "`--sync apply` does it" in after.attrs["problems"]["cam02_0"][0]


def test_what_a_store_says_is_not_measured_again(
    tmp_path: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, films, "late", sync={"apply": True})
    job.run()
    whole = job.dataset()
    sorted(job.chunks(1))[3].unlink()
    monkeypatch.setattr("workers.sync.measure.measure_take", None)
    (record,) = job.run()
    assert record.ranges[0].streams == ("cam02_0",)
    xr.testing.assert_identical(job.dataset(), whole)
    assert job.run() == []


def test_a_changed_object_is_measured_again(tmp_path: Path, films: Path) -> None:
    job = job_of(tmp_path, films, "late", sync={"apply": True})
    job.run()
    shutil.copy(films / "cam02_0.mp4", job.path("cam02_0"))
    assert {record.ranges[0].streams for record in job.run()} == {("cam02_0",)}
    found = job.dataset()
    one = TakeSync.of(found.attrs).streams["cam02_0"]
    assert (one.frames, one.shift_frames) == (0, 0)
    assert found.valid.all()
    assert "problems" not in found.attrs or "cam02_0" not in found.attrs["problems"]


def test_a_foreign_camera_is_left_where_it_is(tmp_path: Path, films: Path) -> None:
    job = job_of(tmp_path, films, "foreign", sync={"apply": True})
    job.run()
    found = job.dataset()
    one = TakeSync.of(found.attrs).streams["cam02_0"]
    assert (one.offset_ms, one.shift_frames, one.confidence) == (None, 0, "none")
    assert found.valid.all()


def test_two_encoders_share_one_measurement(tmp_path: Path, films: Path) -> None:
    job = job_of(
        tmp_path, films, "late", sync="apply",
        encoders=[{"preset": "efficientnet_lite"}, {"preset": "efficientnet_lite", "frames": 2}],
    )  # fmt: skip
    job.run()
    stores = [xr.open_zarr(path) for path in sorted(job.output.glob("*/u.zarr"))]
    assert len(stores) == 2
    assert stores[0].attrs["sync"] == stores[1].attrs["sync"]


def test_the_setting_is_in_the_encoder_id_only_where_it_is_applied() -> None:
    def encoder_id(sync: object) -> str:
        return make_recipe(
            load_job(None, {"dataset": "d", "output": "o", **({"sync": sync} if sync else {})})
        ).target.encoder_id

    plain = encoder_id(None)
    assert encoder_id("measure") == encoder_id({"measure": "sight"}) == plain
    assert encoder_id({"measure": False}) == plain
    applied = encoder_id("apply")
    assert applied == encoder_id({"measure": "all", "apply": True}) != plain
    assert encoder_id({"measure": "sound", "apply": True}) not in (plain, applied)
    with pytest.raises(SettingsError, match="what is not measured cannot be applied"):
        encoder_id({"measure": "off", "apply": True})
