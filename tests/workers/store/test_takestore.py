"""The store: what is in it, and writing units."""

import warnings
from collections import Counter

import fsspec
import numpy as np
import pytest
import s3fs
import tensorstore
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from takestream import schema
from takestream.schema import Reason
from takestream.stores import find_stores
from tests.support.takestores import STREAMS, fill, make_layout, unit_of
from workers.store.errors import StoreError
from workers.store.gap import Gap
from workers.store.layout import chunk_clips, unit_clips
from workers.store.objects import Objects
from workers.store.takestore import TakeStore
from workers.store.verify import verify


def test_xarray_shows_the_schema_without_a_warning(place):
    uri, s3 = place
    store = TakeStore.create(uri, make_layout(provenance={"commit": "abc"}), s3)
    storage = s3.for_uri(uri) or None
    partial = xr.open_zarr(uri, storage_options=storage)
    assert partial.status == "partial"
    assert not partial.valid.any()
    assert (partial.reason == Reason.NOT_EXTRACTED).all()
    fill(store)
    assert store.finish()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xr.open_zarr(uri, storage_options=storage)
        data.load()
    assert data.features.dims == ("clip", "stream", "feature")
    assert data.features.dtype == np.float16
    assert data.features.encoding["chunks"] == (8, 1, 5)
    per_stream = {"valid": bool, "frame_time": np.float64, "reason": np.uint8}
    assert set(data.data_vars) == {"features", *per_stream}
    for name, dtype in per_stream.items():
        assert data[name].dims == ("clip", "stream")
        assert data[name].dtype == dtype
        assert data[name].encoding["chunks"] == (8, 1)
    assert set(data.coords) == {"start_frame", "stop_frame", "start_time", "end_time", "stream"}
    assert data.start_frame.dtype == data.stop_frame.dtype == np.int64
    assert data.start_time.dtype == data.end_time.dtype == np.float64
    assert data.start_time.values.tolist() == (np.arange(23) * 16 / 30).tolist()
    assert data.stream.values.tolist() == list(STREAMS)
    assert data.status == "complete"
    assert data.schema_version == schema.SCHEMA_VERSION
    assert data.take == {"uid": "take-1"}
    assert data.provenance == {"commit": "abc"}
    assert data.reason.flag_values == list(range(7))
    assert data.reason.flag_meanings.split()[4] == "past_end"
    written = unit_of(store, "cam01_0", 16)
    one = data.sel(stream="cam01_0").isel(clip=slice(16, 23))
    assert one.valid.values.tolist() == written["valid"].tolist()
    expected = np.where(written["valid"][:, None], written["features"].astype(np.float16), np.nan)
    np.testing.assert_array_equal(one.features.values, expected)
    np.testing.assert_array_equal(one.frame_time.values, written["frame_time"])
    np.testing.assert_array_equal(one.reason.values, written["reason"])


def test_tensorstore_reads_the_same_values(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(dim=7, clips=19))
    fill(store)
    group = zarr.open_group(store.uri, mode="r")
    for name in sorted(set(schema.ARRAYS) - {schema.STREAM}):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store.uri}/{name}"}}
        other = tensorstore.open(spec).result().read().result()
        assert other.dtype == group[name].dtype
        np.testing.assert_array_equal(other, group[name][:])


def test_wide_features_and_a_short_take(tmp_path):
    layout = make_layout(clips=3, unit=256, dim=1024, dtype="float32")
    store = TakeStore.create(f"{tmp_path}/t.zarr", layout)
    assert (store.unit_clips, store.chunk_clips, store.dtype) == (256, 128, "float32")
    fill(store)
    assert store.finish()
    assert xr.open_zarr(store.uri).features.dtype == np.float32


def test_a_take_without_clips_is_complete_at_once(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(clips=0))
    assert store.missing() == []
    assert store.finish()
    assert xr.open_zarr(store.uri).sizes["clip"] == 0
    assert verify(store.uri).ok


@pytest.mark.parametrize(
    "wrong",
    [{"streams": ()}, {"streams": ("a", "a")}, {"dtype": "int8"}, {"dim": 0}, {"unit": 0}],
)
def test_a_layout_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        make_layout(**wrong)


@given(unit=st.integers(1, 5000), dim=st.integers(1, 5000), itemsize=st.sampled_from([2, 4]))
def test_chunk_clips_divides_and_fits(unit, dim, itemsize):
    chunk = chunk_clips(unit, dim, itemsize)
    sizes = {c: c * dim * itemsize for c in range(1, unit + 1) if unit % c == 0}
    assert chunk in sizes
    good = [c for c, size in sizes.items() if 500_000 <= size <= 4_000_000]
    if good:
        assert chunk == good[0]
    elif sizes[unit] < 500_000:
        assert chunk == unit
    else:
        assert sizes[chunk] <= 4_000_000 or chunk == 1


def test_unit_clips_of_the_two_usual_grids():
    assert unit_clips(4096, 16) == 256
    assert unit_clips(4096, 1) == 4096
    assert unit_clips(8, 16) == 1
    assert chunk_clips(256, 1024, 2) == 256


def test_an_invalid_clip_is_nan_whatever_is_passed(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(clips=4))
    features = np.ones((4, 5), np.float32)
    features[3] = np.inf
    store.write(
        "cam01_0",
        0,
        features=features,
        valid=np.array([True, False, False, False]),
        frame_time=np.array([0.0, 7.5, np.nan, np.nan]),
        reason=np.array([0, 5, 4, 6], np.uint8),
    )
    stored = xr.open_zarr(store.uri).sel(stream="cam01_0")
    assert np.isnan(stored.features.values[1:]).all()
    assert (stored.features.values[0] == 1).all()
    assert stored.frame_time.values[1] == 7.5


def test_an_all_invalid_unit_is_written_and_so_done(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(clips=8))
    store.write(
        "cam01_0",
        0,
        features=np.zeros((8, 5)),
        valid=np.zeros(8, bool),
        frame_time=np.full(8, np.nan),
        reason=np.full(8, Reason.STREAM_ABSENT, np.uint8),
    )
    assert store.missing(["cam01_0"]) == []
    assert store.missing() == [Gap(0, 8, ("aria01_rgb", "aria01_slam-left"))]


@pytest.mark.parametrize(
    ("start", "change"),
    [
        (4, {}),
        (-8, {}),
        (24, {}),
        (0, {"features": np.zeros((7, 5))}),
        (0, {"valid": np.ones(7, bool)}),
        (0, {"reason": np.ones(8, np.uint8)}),
        (0, {"frame_time": np.full(8, np.nan)}),
    ],
)
def test_a_unit_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, start, change):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout())
    before = Objects(store.uri).listing()
    unit = unit_of(store, "cam01_0", 0)
    with pytest.raises(ValueError):
        store.write("cam01_0", start, **{**unit, **change})
    assert Objects(store.uri).listing() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])
def test_a_valid_clip_must_be_finite_in_the_stores_dtype(tmp_path, value):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(clips=8))
    unit = unit_of(store, "cam01_0", 0)
    unit["features"][np.flatnonzero(unit["valid"])[0], 2] = value
    with pytest.raises(StoreError, match="not finite in float16"):
        store.write("cam01_0", 0, **unit)
    assert store.missing(["cam01_0"]) != []


def test_unknown_stream_and_read_only_store(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout())
    with pytest.raises(StoreError, match=r"no stream 'cam9'.*cam01_0"):
        store.missing(["cam9"])
    reader = TakeStore.open(store.uri)
    with pytest.raises(StoreError, match="reading only"):
        reader.write("cam01_0", 0, **unit_of(reader, "cam01_0", 0))
    with pytest.raises(StoreError, match="reading only"):
        reader.finish()


class Calls:
    """S3 requests as (method, key below .zarr), counted where s3fs makes them."""

    def __init__(self, monkeypatch):
        self.made = []
        call = s3fs.S3FileSystem._call_s3

        async def counted(fs, method, *args, **kwargs):
            key = kwargs.get("Key", kwargs.get("Prefix", ""))
            self.made.append((method, key.partition(".zarr/")[2]))
            return await call(fs, method, *args, **kwargs)

        monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)

    def take(self):
        made, self.made = self.made, []
        return made


def test_requests_on_s3(s3, monkeypatch):
    """The counts are the contract: a unit is PUTs alone, in order; a listing is one request."""
    calls = Calls(monkeypatch)
    uri = f"{s3.uri}/e/t.zarr"
    layout = make_layout(unit=4096, clips=5000, dim=256, streams=STREAMS[:2])
    store = TakeStore.create(uri, layout, s3.options)
    assert len(calls.take()) <= 20
    assert store.chunk_clips == 1024

    size = store.write("aria01_rgb", 0, **unit_of(store, "aria01_rgb", 0))
    made = calls.take()
    assert {method for method, _ in made} == {"put_object"}
    assert [key for _, key in made[:3]] == ["valid/c/0/0", "frame_time/c/0/0", "reason/c/0/0"]
    assert sorted(key for _, key in made[3:]) == [f"features/c/{i}/0/0" for i in range(4)]
    fs = fsspec.filesystem("s3", **s3.options.for_uri(uri))
    assert size == sum(fs.info(f"{uri}/{key}")["size"] for _, key in made)
    calls.take()

    store.write("aria01_rgb", 4096, **unit_of(store, "aria01_rgb", 4096))
    made = calls.take()
    assert {method for method, _ in made} == {"put_object"}, "the short last unit needs no GET"
    assert len(made) == 4

    assert store.missing() == [Gap(0, 4096, (STREAMS[1],)), Gap(4096, 5000, (STREAMS[1],))]
    assert [method for method, _ in calls.take()] == ["list_objects_v2"]

    TakeStore.open(uri, s3.options)
    assert [method for method, _ in calls.take()] == ["get_object"]

    fill(store)
    calls.take()
    assert store.finish()
    made = calls.take()
    # Read once more, since a storage may answer and not keep it.
    assert made[-2:] == [("put_object", "zarr.json"), ("get_object", "zarr.json")]
    assert Counter(method for method, _ in made)["put_object"] == 1
    assert store.finish()
    assert Counter(method for method, _ in calls.take()) == {"list_objects_v2": 1, "get_object": 2}
    TakeStore.create(uri, layout, s3.options)
    assert [method for method, _ in calls.take()] == ["get_object"]
    assert verify(uri, s3.options).ok
    assert find_stores(s3.uri, s3.options) == find_stores(f"{s3.uri}/e", s3.options) == [uri]
