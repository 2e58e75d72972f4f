"""Takes joined keep the kinds of their arrays; means are of converted numbers."""

from pathlib import Path

import numpy as np
import pytest

import takestream
from takestream.schema import Reason
from tests.support.stores import make_store
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

ENCODER = "tiny-0123456789"


def constant(root: Path, uid: str, value: float, clips: int) -> str:
    """A store of one stream whose features are all the same number."""
    start = np.arange(clips) * 16
    layout = StoreLayout(
        ("cam02_0",), 4, "float16", clips, start, start + 32, start / 32, start / 32 + 1,
        {"take": {"take_uid": uid, "take_name": uid}},
    )  # fmt: skip
    store = TakeStore.create(f"{root}/{ENCODER}/{uid}.zarr", layout)
    values = np.full((clips, 4), value)
    store.write(
        "cam02_0", 0, features=values, valid=np.ones(clips, bool),
        frame_time=start / 32, reason=np.zeros(clips, np.uint8),
    )  # fmt: skip
    store.finish()
    return store.uri


def test_takes_of_other_cameras_keep_their_kinds(tmp_path: Path) -> None:
    one = takestream.open(make_store(tmp_path, ENCODER, "uid-1", "one"))
    two = takestream.open(constant(tmp_path, "uid-2", 0.5, 5))
    joined = takestream.concat([one, two]).load()
    assert joined.stream.values.tolist() == ["aria01_rgb", "cam01_0", "cam02_0"]
    for name in ("features", "valid", "frame_time", "reason"):
        assert joined[name].dtype == one[name].dtype, name
    assert joined.take_uid.values.tolist() == ["uid-1"] * 3 + ["uid-2"] * 5
    absent = joined.sel(stream="cam02_0").isel(clip=slice(0, 3))
    assert not absent.valid.any()
    assert (absent.reason == Reason.STREAM_ABSENT).all()
    assert np.isnan(absent.features).all()
    assert joined.sel(stream="cam02_0").isel(clip=slice(3, None)).valid.all()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        takestream.concat([])


def test_a_mean_over_many_clips_is_exact(tmp_path: Path) -> None:
    data = takestream.open(constant(tmp_path, "uid-3", 0.1, 20_000))
    right = np.float16(0.1).astype(np.float32)
    assert takestream.mean(data).values == pytest.approx(right, rel=1e-6)
    assert takestream.mean(data).dtype == np.float32
