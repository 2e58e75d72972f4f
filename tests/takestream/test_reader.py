"""Opening stores by URI and by take, with errors that say what is there."""

from pathlib import Path

import numpy as np
import pytest

import takestream
from workers.skeleton import StoreLayout
from workers.store import TakeStore


def make_store(root: Path | str, encoder: str, uid: str, name: str) -> str:
    layout = StoreLayout(
        streams=("aria01_rgb", "cam01_0"),
        dim=4,
        dtype="float16",
        unit_clips=8,
        start_frame=np.arange(3) * 16,
        stop_frame=np.arange(3) * 16 + 32,
        start_time=np.arange(3) * 0.5,
        end_time=np.arange(3) * 0.5 + 1,
        attributes={"take": {"take_uid": uid, "take_name": name}},
    )
    store = TakeStore.create(f"{root}/{encoder}/{uid}.zarr", layout)
    for stream in layout.streams:
        store.write(
            stream,
            0,
            features=np.ones((3, 4)),
            valid=np.ones(3, bool),
            frame_time=np.zeros(3),
            reason=np.zeros(3, np.uint8),
        )
    store.finish()
    return store.uri


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = str(tmp_path / "out put") if request.param == "local" else f"memory://{tmp_path.name}"
    make_store(root, "videomae-base-0123456789", "uid-1", "cmu_bike01_2")
    make_store(root, "videomae-base-0123456789", "uid-2", "cmu_bike01_3")
    make_store(root, "efficientnet_lite-0123456789", "uid-2", "cmu_bike01_3")
    return root


def test_by_uri_uid_and_name(output: str) -> None:
    by_uri = takestream.open(f"{output}/videomae-base-0123456789/uid-1.zarr")
    assert dict(by_uri.sizes) == {"clip": 3, "stream": 2, "feature": 4}
    assert by_uri.features.values.all()
    for take in ("uid-1", "cmu_bike01_2"):
        assert takestream.open(output, take).identical(by_uri)
    both = {"take": "cmu_bike01_3", "encoder": "efficientnet_lite"}
    assert takestream.open(output, **both).attrs["take"]["take_uid"] == "uid-2"


def test_errors_say_what_is_there(output: str) -> None:
    with pytest.raises(FileNotFoundError, match="did you mean 'cmu_bike01_"):
        takestream.open(output, "cmu_bike01_9")
    with pytest.raises(ValueError, match="say which take"):
        takestream.open(output)
    with pytest.raises(ValueError, match="efficientnet_lite-0123456789"):
        takestream.open(output, "uid-2")
    with pytest.raises(FileNotFoundError, match="videomae-base-0123456789"):
        takestream.open(output, "uid-1", encoder="clip")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        takestream.open(f"{output}-not")
    with pytest.raises(FileNotFoundError, match="is of take uid-1"):
        takestream.open(f"{output}/videomae-base-0123456789/uid-1.zarr", "other")
