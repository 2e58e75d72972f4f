"""Verifying: a whole store passes, and each kind of damage is found and named."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from takestream.errors import StorageNotFound
from takestream.schema import Reason
from takestream.stores import find_stores
from workers.store.errors import StoreNotFound
from workers.store.layout import StoreLayout
from workers.store.objects import Objects
from workers.store.takestore import TakeStore
from workers.store.verify import verify

STREAMS = ("aria01_rgb", "cam01_0")
_numbers = itertools.count()


def make_store(uri, clips=23, tail="backpad"):
    """A complete store of units of 8 clips in chunks of 4, the last clip moved back by the tail."""
    start = np.arange(clips, dtype=np.int64) * 16
    if tail == "backpad":
        start[-1] -= 5
    layout = StoreLayout(
        streams=STREAMS,
        dim=65_000,
        dtype="float32",
        unit_clips=8,
        start_frame=start,
        stop_frame=start + 32,
        start_time=start / 30,
        end_time=(start + 32) / 30,
        attributes={
            "take": {"uid": "take-1"},
            "grid": {"window": 32, "stride": 16, "tail": tail, "fps": "30"},
        },
    )
    store = TakeStore.create(uri, layout)
    assert store.chunk_clips == 2
    rng = np.random.default_rng(0)
    for gap in store.missing():
        n = gap.stop - gap.start
        for stream in gap.streams:
            valid = np.arange(n) % 4 != 1
            store.write(
                stream,
                gap.start,
                features=rng.normal(size=(n, 65_000)).astype(np.float32),
                valid=valid,
                frame_time=np.where(valid, np.arange(n) / 30, np.nan),
                reason=np.where(valid, 0, int(Reason.PAST_END)),
            )
    assert store.finish()
    return store


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_store(f"{tmp_path_factory.mktemp('whole')}/take-1.zarr").uri


@pytest.fixture
def damaged(whole, tmp_path):
    """A copy of a whole store, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "take-1.zarr"))


def faults_of(path):
    report = verify(str(path))
    assert not report.ok
    return report.faults


def test_a_whole_store_passes(whole):
    report = verify(whole)
    assert report.ok, report.faults
    assert (report.take_uid, report.status, report.clips) == ("take-1", "complete", 23)
    assert report.streams == STREAMS
    assert report.valid == dict.fromkeys(STREAMS, 23 - 6)


def test_every_single_object_matters(damaged):
    """Deleting, cutting or flipping any object of the store is noticed, and the object is named."""
    names = sorted(key for key in Objects(str(damaged)).listing() if "claims" not in key)
    assert len(names) == 2 * (12 + 3 * 3) + 5 + 9 + 1
    # The chunks of one unit stand for those of the others.
    some = [name for name in names if "/c/" not in name or name.split("/c/")[1] < "1"]
    for name in some:
        file = damaged / name
        data = file.read_bytes()
        middle = len(data) // 2
        damages = {
            "deleted": None,
            "emptied": b"",
            "cut": data[:middle],
            "flipped": data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :],
        }
        for damage, left in damages.items():
            if left is None:
                file.unlink()
            else:
                file.write_bytes(left)
            faults = faults_of(damaged)
            if name != "zarr.json":
                assert any(name in fault for fault in faults), (name, damage, faults)
                assert len(faults) == 1, (name, damage, faults)
        file.write_bytes(data)
    assert verify(str(damaged)).ok


def rewrite(path, name, selection, value):
    array = zarr.open_group(str(path), mode="r+")[name].with_config({"write_empty_chunks": True})
    array[selection] = value


@pytest.mark.parametrize(
    ("name", "selection", "value", "words"),
    [
        ("features", (8, 1, 7), np.nan, "cam01_0, clips 8 to 15: 1 valid clips have features"),
        ("features", (10, 0, slice(None)), np.inf, "aria01_rgb, clips 8 to 15: 1 valid clips"),
        ("features", (9, 1, 0), 0.5, "1 invalid clips have features that are not NaN"),
        ("valid", (8, 0), False, "1 clips where reason and valid disagree"),
        ("reason", (8, 0), 200, "unknown reasons [200]"),
        ("frame_time", (8, 1), np.nan, "1 valid clips have no frame_time"),
        ("start_frame", 3, 49, "start_frame does not follow the grid's stride of 16"),
        ("start_frame", 3, 16, "does not grow from clip to clip"),
        ("stop_frame", 3, 81, "clips do not span the grid's window of 32 frames"),
        ("stop_frame", 3, 1, "not frames [start, stop)"),
        ("start_time", 3, 1.7, "start_time is not start_frame at 30 frames per second"),
        ("end_time", 3, np.nan, "start_time and end_time are not finite spans"),
        ("stream", 1, "aria01_rgb", "names other streams than zarr.json"),
    ],
)
def test_values_that_decode_but_are_wrong(damaged, name, selection, value, words):
    rewrite(damaged, name, selection, value)
    faults = faults_of(damaged)
    assert any(words in fault for fault in faults), faults


def change_json(file, change):
    parsed = json.loads(file.read_text())
    change(parsed)
    file.write_text(json.dumps(parsed))


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("zarr.json", lambda j: j.pop("consolidated_metadata"), "no consolidated metadata"),
        ("zarr.json", lambda j: j["attributes"].pop("coordinates"), "does not name end_time"),
        ("zarr.json", lambda j: j["attributes"].update(status="partial"), "status is partial"),
        ("zarr.json", lambda j: j["attributes"].pop("streams"), "not a takestream store"),
        (
            "zarr.json",
            lambda j: j["attributes"].update(streams=["x", "x"]),
            "stream names are not unique",
        ),
        (
            "features/zarr.json",
            lambda j: j["shape"].__setitem__(0, 24),
            "features/zarr.json differs from the consolidated metadata",
        ),
        (
            "zarr.json",
            lambda j: j["consolidated_metadata"]["metadata"]["reason"].update(data_type="int16"),
            "schema: reason has",
        ),
        (
            "zarr.json",
            lambda j: j["consolidated_metadata"]["metadata"]["valid"].update(
                dimension_names=["stream", "clip"]
            ),
            "schema: valid has",
        ),
    ],
)
def test_metadata_that_is_wrong(damaged, file, change, words):
    change_json(damaged / file, change)
    faults = faults_of(damaged)
    assert any(words in fault for fault in faults), faults


def test_many_missing_chunks_are_summed_up(damaged):
    shutil.rmtree(damaged / "features/c")
    faults = faults_of(damaged)
    assert len(faults) == 2 * (10 + 1)
    assert "2 more chunks of cam01_0 are missing" in faults


def test_a_tail_that_is_dropped(tmp_path):
    assert verify(make_store(f"{tmp_path}/t.zarr", clips=4, tail="drop").uri).ok
    change_json(tmp_path / "t.zarr/zarr.json", lambda j: j["attributes"]["grid"].update(stride=15))
    assert any("stride of 15" in fault for fault in faults_of(tmp_path / "t.zarr"))


def test_a_half_made_store_and_none_at_all(damaged, tmp_path):
    (damaged / "zarr.json").unlink()
    report = verify(str(damaged))
    assert report.faults == ["half-made, without zarr.json; `takestream extract` makes it whole"]
    assert report.take_uid == "take-1"
    with pytest.raises(StoreNotFound):
        verify(f"{tmp_path}/none.zarr")


@pytest.mark.parametrize("scheme", ["local", "memory"])
def test_find_stores(tmp_path, scheme):
    root = f"{tmp_path}/My Out" if scheme == "local" else f"memory://find-{next(_numbers)}/My Out"
    names = ["enc-a/Take 1.zarr", "enc-a/Take [2].zarr", "enc-b/Take 1.zarr"]
    for name in names:
        Objects(f"{root}/{name}").put("zarr.json", b"{}")
    Objects(root).put("notes.txt", b"")
    assert find_stores(root) == [f"{root}/{name}" for name in names]
    assert find_stores(f"{root}/enc-b/") == [f"{root}/enc-b/Take 1.zarr"]
    assert find_stores(f"{root}/enc-a/Take 1.zarr") == [f"{root}/enc-a/Take 1.zarr"]
    for empty in ("nothing", "enc-a/Take 1.zarr/features"):
        with pytest.raises(StorageNotFound, match="expected <output>"):
            find_stores(f"{root}/{empty}")
