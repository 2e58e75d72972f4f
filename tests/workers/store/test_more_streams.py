"""Streams added to a store, by several runs at once too."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from tests.support.takestores import NUMBERS, STREAMS, die_after, fill, make_layout, unit_of
from workers.store.objects import Objects
from workers.store.takestore import TakeStore
from workers.store.verify import verify


def test_extension_keeps_old_values_and_chunks(place):
    uri, s3 = place
    streams = {"aria01_rgb": {"etag": "1"}, "cam01_0": {"etag": "2"}}
    first = make_layout(["aria01_rgb", "cam01_0"], provenance={"streams": streams, "zarr": "3"})
    store = TakeStore.create(uri, first, s3)
    fill(store)
    assert store.finish()
    chunks = {key for key in Objects(uri, s3).listing() if "features/c/" in key}
    old = xr.open_zarr(uri, storage_options=s3.for_uri(uri) or None).load()

    second = make_layout(
        ["cam02_0", "cam01_0"],
        provenance={"streams": {"cam02_0": {"etag": "3"}, "cam01_0": {"etag": "X"}}, "zarr": "9"},
        problems={"cam02_0": ["no video"]},
    )
    store = TakeStore.create(uri, second, s3)
    assert store.streams == ("aria01_rgb", "cam01_0", "cam02_0")
    assert store.status == "partial"
    assert store.attributes["provenance"]["streams"] == {**streams, "cam02_0": {"etag": "3"}}
    assert store.attributes["provenance"]["zarr"] == "3", "the old streams were made with it"
    assert {gap.streams for gap in store.missing()} == {("cam02_0",)}
    assert {key for key in Objects(uri, s3).listing() if "features/c/" in key} == chunks
    partial = xr.open_zarr(uri, storage_options=s3.for_uri(uri) or None).load()
    assert partial.status == "partial"
    xr.testing.assert_equal(partial.isel(stream=slice(0, 2)), old)

    fill(store)
    assert store.finish()
    new = xr.open_zarr(uri, storage_options=s3.for_uri(uri) or None).load()
    xr.testing.assert_equal(new.isel(stream=slice(0, 2)), old)
    assert new.problems["cam02_0"][0] == "no video"
    report = verify(uri, s3)
    assert report.ok, report.faults


def test_more_streams_than_one_chunk_of_names_holds(tmp_path):
    names = [f"cam{i:03d}_0" for i in range(70)]
    TakeStore.create(f"{tmp_path}/t.zarr", make_layout(names[:60], clips=2))
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(names, clips=2))
    fill(store)
    assert store.finish()
    assert TakeStore.open(store.uri).streams == tuple(names)
    assert verify(store.uri).ok


def test_an_extension_cut_anywhere_is_carried_out_by_the_next_run(monkeypatch):
    for survived in range(8):
        uri = f"memory://cut-{next(NUMBERS)}/t.zarr"
        store = TakeStore.create(uri, make_layout(STREAMS[:1]))
        fill(store)
        assert store.finish()
        with monkeypatch.context() as patch:
            die_after(survived, patch)
            try:
                TakeStore.create(uri, make_layout(STREAMS[:2]))
            except KeyboardInterrupt:
                assert xr.open_zarr(uri).stream.values.tolist() == list(STREAMS[:1])
            else:
                assert survived > 6
        # This run wants another stream; the index that was claimed is not given away.
        store = TakeStore.create(uri, make_layout([STREAMS[0], STREAMS[2]]))
        expected = (STREAMS[0], STREAMS[2]) if survived == 0 else STREAMS
        assert store.streams == expected
        fill(store)
        assert store.finish()
        assert verify(uri).ok


def test_finish_adds_a_stream_that_was_claimed_only(tmp_path, monkeypatch):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(STREAMS[:1]))
    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put_many", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            TakeStore.create(store.uri, make_layout(STREAMS[:2]))
    fill(store)
    assert not store.finish()
    assert store.streams == STREAMS[:2]
    fill(store)
    assert store.finish()


# Not in memory: fsspec's memory filesystem has no atomic create.
@pytest.mark.parametrize("place", ["local", "s3"], indirect=True)
def test_many_runs_create_and_extend_at_once(place):
    uri, s3 = place
    names = [f"cam{i:02d}_0" for i in range(6)]

    def run(i):
        mine = [names[i], names[(i + 1) % 6]]
        store = TakeStore.create(uri, make_layout(mine, clips=9), s3)
        fill(store, mine)
        store.finish()
        return mine

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(run, range(6)))
    store = TakeStore.create(uri, make_layout(names, clips=9), s3)
    assert sorted(store.streams) == names
    assert store.missing() == []
    assert store.finish()
    data = xr.open_zarr(uri, storage_options=s3.for_uri(uri) or None)
    for name in names:
        for start in (0, 8):
            unit = unit_of(store, name, start)
            there = data.sel(stream=name).isel(clip=slice(start, start + 8)).features.values
            expected = np.where(unit["valid"][:, None], unit["features"].astype(np.float16), np.nan)
            np.testing.assert_array_equal(there, expected, err_msg=name)
    assert verify(uri, s3).ok
