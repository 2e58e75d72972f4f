"""Stores of schema 1 as commit 059d0d3 wrote them: made the same, read, extended, finished."""

import shutil
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import xarray as xr

import takestream
from takestream.schema import COMPLETE, PARTIAL, Reason
from tests.data import schema_1
from workers.store.gap import Gap
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore
from workers.store.verify import verify

NEW = "cam02_0"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the folder with both stores, to be written to."""
    return Path(shutil.copytree(schema_1.FOLDER, tmp_path / schema_1.FOLDER.name))


def objects(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def fill(store: TakeStore) -> None:
    for gap in store.missing():
        for stream in gap.streams:
            store.write(stream, gap.start, **schema_1.unit(stream, gap.start))


def expect(data: xr.Dataset, streams: tuple[str, ...]) -> None:
    """Every value is what was written."""
    for stream in streams:
        one = data.sel(stream=stream)
        for start in range(0, schema_1.CLIPS, schema_1.UNIT):
            unit = schema_1.unit(stream, start)
            there = one.isel(clip=slice(start, start + schema_1.UNIT))
            features = np.where(unit["valid"][:, None], unit["features"].astype("f2"), np.nan)
            np.testing.assert_array_equal(there.features.values, features)
            for name in ("valid", "frame_time", "reason"):
                np.testing.assert_array_equal(there[name].values, unit[name])


def test_a_store_of_today_differs_by_the_crc_of_its_features(tmp_path: Path) -> None:
    schema_1.write(tmp_path, StoreLayout, TakeStore)
    then, now = objects(schema_1.FOLDER), objects(tmp_path)
    assert set(then) == set(now)
    changed = {key for key in then if then[key] != now[key]}
    chunks = {key for key in changed if "/features/c/" in key}
    assert len(chunks) == 18
    for key in chunks:
        crc = google_crc32c.value(then[key]).to_bytes(4, "little")
        assert now[key] == then[key] + crc, key
    stores = ("complete.zarr", "partial.zarr")
    others = {f"{name}/{key}" for name in stores for key in ("zarr.json", "features/zarr.json")}
    assert changed - chunks == others


def test_the_complete_store_is_read() -> None:
    uri = f"{schema_1.FOLDER}/complete.zarr"
    report = verify(uri)
    assert report.ok, report.faults
    assert report.valid == dict.fromkeys(schema_1.STREAMS, 27)
    data = takestream.open(uri, "cmu_bike01_2", encoder="tiny").load()
    assert (data.status, data.schema_version) == (COMPLETE, 1)
    expect(data, schema_1.STREAMS)
    assert data.problems["cam01_0"][0] == "its clock is 0.7 frames late"


def test_the_partial_store_is_finished_and_then_equals_the_complete_one(old: Path) -> None:
    stream, start = schema_1.LACKING
    with pytest.warns(UserWarning, match="not complete"):
        data = takestream.open(old / "partial.zarr")
    lacking = data.sel(stream=stream).isel(clip=slice(start, start + schema_1.UNIT))
    assert (lacking.reason == Reason.NOT_EXTRACTED).all()
    assert not lacking.valid.any()
    store = TakeStore.open(f"{old}/partial.zarr", writable=True)
    assert store.status == PARTIAL
    assert store.missing() == [Gap(start, start + schema_1.UNIT, (stream,))]
    fill(store)
    assert store.finish()
    assert objects(old / "partial.zarr") == objects(old / "complete.zarr")


def test_a_stream_is_added(old: Path) -> None:
    uri, kept = f"{old}/complete.zarr", objects(old / "complete.zarr")
    store = TakeStore.create(uri, schema_1.layout(StoreLayout, (*schema_1.STREAMS, NEW)))
    assert store.streams == (*schema_1.STREAMS, NEW)
    assert {gap.streams for gap in store.missing()} == {(NEW,)}
    fill(store)
    assert store.finish()
    report = verify(uri)
    assert report.ok, report.faults
    expect(takestream.open(uri).load(), (*schema_1.STREAMS, NEW))
    now = objects(old / "complete.zarr")
    chunks = [key for key in kept if "/c/" in key and not key.startswith("stream/")]
    assert len(chunks) == 2 * (3 * 3 + 5) + 4
    assert [key for key in chunks if kept[key] != now[key]] == []
