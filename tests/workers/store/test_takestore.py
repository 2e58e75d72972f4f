"""The store: schema, units, resume, extension, several writers at once."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
import s3fs
import tensorstore
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from service.demo.s3server import ObjectStore
from takestream import schema
from takestream.errors import (
    CredentialsError,
    ErrorKind,
    InvalidStorage,
    StorageDenied,
    StorageNotFound,
    StorageUnavailable,
)
from takestream.schema import Reason
from takestream.storage import S3Options, translated
from takestream.stores import find_stores
from workers.store.errors import StoreError, StoreMismatch, StoreNotFound
from workers.store.layout import StoreLayout, chunk_clips, unit_clips
from workers.store.objects import Objects, probe_writable
from workers.store.takestore import Gap, TakeStore
from workers.store.verify import verify

STREAMS = ("aria01_rgb", "aria01_slam-left", "cam01_0")
_numbers = itertools.count()


def make_layout(streams=STREAMS, clips=23, unit=8, dim=5, dtype="float16", **attributes):
    start = np.arange(clips, dtype=np.int64) * 16
    grid = {"window": 32, "stride": 16, "tail": "drop", "fps": 30}
    return StoreLayout(
        streams=tuple(streams),
        dim=dim,
        dtype=dtype,
        unit_clips=unit,
        start_frame=start,
        stop_frame=start + 32,
        start_time=start / 30,
        end_time=(start + 32) / 30,
        attributes={"take": {"uid": "take-1"}, "grid": grid, **attributes},
    )


def unit_of(store, stream, start, seed=0):
    """Made-up values of one unit, the same for the same arguments."""
    n = min(store.unit_clips, store.clips - start)
    rng = np.random.default_rng([seed, start, *stream.encode()])
    valid = rng.random(n) < 0.8
    return {
        "features": rng.normal(size=(n, store.dim)).astype(np.float32),
        "valid": valid,
        "frame_time": np.where(valid, (start + np.arange(n)) / 2, np.nan),
        "reason": np.where(valid, 0, int(Reason.DAMAGED_FRAME)).astype(np.uint8),
    }


def fill(store, streams=None, seed=0):
    for gap in store.missing(streams):
        for stream in gap.streams:
            store.write(stream, gap.start, **unit_of(store, stream, gap.start, seed))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    with ObjectStore(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("features")
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A root on the S3 server, and the options to reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = S3Options(endpoint_url=s3_server.endpoint_url)
    return SimpleNamespace(uri=f"s3://features/Run {next(_numbers)}", options=options)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path):
    """(uri of a store to be, S3 options), with characters that URIs usually mangle."""
    name = "enc-0123abcdef/Take #1 %41.zarr"
    if request.param == "local":
        return f"{tmp_path}/My Output/{name}", S3Options()
    if request.param == "memory":
        return f"memory://out-{next(_numbers)}/{name}", S3Options()
    s3 = request.getfixturevalue("s3")
    return f"{s3.uri}/{name}", s3.options


# ---- schema ------------------------------------------------------------------------------------


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


# ---- writing -----------------------------------------------------------------------------------


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
    assert made[-1] == ("put_object", "zarr.json")
    assert Counter(method for method, _ in made)["put_object"] == 1
    assert store.finish()
    assert Counter(method for method, _ in calls.take()) == {"list_objects_v2": 1, "get_object": 2}
    TakeStore.create(uri, layout, s3.options)
    assert [method for method, _ in calls.take()] == ["get_object"]
    assert verify(uri, s3.options).ok
    assert find_stores(s3.uri, s3.options) == find_stores(f"{s3.uri}/e", s3.options) == [uri]


# ---- resume ------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(data=st.data(), clips=st.integers(1, 30), unit=st.integers(1, 12))
def test_missing_names_exactly_what_is_not_written(data, clips, unit):
    uri = f"memory://missing-{next(_numbers)}/t.zarr"
    store = TakeStore.create(uri, make_layout(clips=clips, unit=unit, dim=2))
    units = [(s, start) for s in STREAMS for start in range(0, clips, unit)]
    done = data.draw(st.sets(st.sampled_from(units)))
    for stream, start in done:
        store.write(stream, start, **unit_of(store, stream, start))
    asked = data.draw(st.none() | st.permutations(STREAMS).map(lambda s: s[:2]))
    expected = []
    for start in range(0, clips, unit):
        lacking = tuple(s for s in asked or STREAMS if (s, start) not in done)
        if lacking:
            expected.append(Gap(start, min(start + unit, clips), lacking))
    assert TakeStore.open(uri).missing(asked) == expected
    assert store.finish() == (len(done) == len(units))


@pytest.mark.parametrize("key", ["features/c/1/2/0", "valid/c/1/2", "reason/c/1/2"])
def test_a_lost_chunk_is_missing_again(place, key):
    uri, s3 = place
    store = TakeStore.create(uri, make_layout(), s3)
    fill(store)
    assert store.finish()
    Objects(uri, s3).delete_many([key])
    assert store.missing() == [Gap(8, 16, ("cam01_0",))]
    assert not store.finish()
    assert TakeStore.open(uri, s3).status == "partial"
    fill(store)
    assert store.finish()


def test_create_is_idempotent(place):
    uri, s3 = place
    store = TakeStore.create(uri, make_layout(problems={"cam01_0": ["short"]}), s3)
    fill(store)
    assert store.finish()
    before = fsspec.get_mapper(uri, **s3.for_uri(uri))
    contents = {key: before[key] for key in before}
    again = TakeStore.create(uri, make_layout(streams=STREAMS[:1], unit=4, problems={}), s3)
    assert again.status == "complete"
    assert again.streams == STREAMS
    assert again.unit_clips == 8, "the store's unit wins"
    after = fsspec.get_mapper(uri, **s3.for_uri(uri))
    assert {key: after[key] for key in after} == contents


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"clips": 24}, "clips 23 instead of 24"),
        ({"dim": 6}, "dim 5 instead of 6"),
        ({"dtype": "float32"}, "dtype float16 instead of float32"),
    ],
)
def test_another_layout_is_refused(tmp_path, other, words):
    TakeStore.create(f"{tmp_path}/t.zarr", make_layout())
    with pytest.raises(StoreMismatch, match=words):
        TakeStore.create(f"{tmp_path}/t.zarr", make_layout(**other))


def test_other_frames_are_refused(tmp_path):
    layout = make_layout()
    TakeStore.create(f"{tmp_path}/t.zarr", layout)
    layout.start_frame[3] += 1
    with pytest.raises(StoreMismatch, match="other frames"):
        TakeStore.create(f"{tmp_path}/t.zarr", layout)


def test_a_newer_schema_and_a_foreign_group_are_refused(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout())
    root = json.loads(Path(store.uri, "zarr.json").read_text())
    root["attributes"]["schema_version"] = 99
    Path(store.uri, "zarr.json").write_text(json.dumps(root))
    with pytest.raises(StoreMismatch, match="schema version 99"):
        TakeStore.open(store.uri)
    zarr.create_group(f"{tmp_path}/other.zarr")
    with pytest.raises(StoreMismatch, match="not a takestream store"):
        TakeStore.create(f"{tmp_path}/other.zarr", make_layout())


def die_after(writes, patch):
    """Interrupt whoever writes more objects than that."""
    count = itertools.count()

    def dying(write):
        def written(self, key, data):
            if next(count) >= writes:
                raise KeyboardInterrupt
            return write(self, key, data)

        return written

    for name in ("put", "put_new"):
        patch.setattr(Objects, name, dying(getattr(Objects, name)))


def test_a_half_made_skeleton_heals_whatever_is_there(place, monkeypatch):
    """Creation cut after each of its writes; the next creation makes the store whole."""
    uri, s3 = place
    layout = make_layout()
    for survived in range(18) if uri.startswith("memory") else (0, 1, 9, 15):
        target = f"{uri.removesuffix('.zarr')}-{survived}.zarr"
        with monkeypatch.context() as patch:
            die_after(survived, patch)
            try:
                TakeStore.create(target, layout, s3)
            except KeyboardInterrupt:
                with pytest.raises(StoreNotFound):
                    TakeStore.open(target, s3)
            else:
                assert survived >= 16
        store = TakeStore.create(target, layout, s3)
        fill(store)
        assert store.finish()
        report = verify(target, s3)
        assert report.ok, report.faults


def test_absent_store(tmp_path, s3):
    for uri, options in ((f"{tmp_path}/no.zarr", None), (f"{s3.uri}/no.zarr", s3.options)):
        with pytest.raises(StoreNotFound, match="takestream extract"):
            TakeStore.open(uri, options)
    assert not Path(f"{tmp_path}/no.zarr").exists()


def test_relative_and_file_uris_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = TakeStore.create("out/My take.zarr", make_layout())
    assert store.uri == f"{tmp_path}/out/My take.zarr"
    monkeypatch.chdir("/")
    fill(store)
    assert TakeStore.open(f"file://{tmp_path}/out/My take.zarr").missing() == []


# ---- more streams ------------------------------------------------------------------------------


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
        uri = f"memory://cut-{next(_numbers)}/t.zarr"
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


# ---- finishing, resetting, attributes ----------------------------------------------------------


def test_finish_counts_reasons_once_and_keeps_what_was_known(tmp_path):
    layout = make_layout(["a_0", "b_0"], clips=8, problems={"b_0": ["3 frames short"]})
    store = TakeStore.create(f"{tmp_path}/t.zarr", layout)
    assert not store.finish()
    for stream, reasons in (("a_0", [0] * 8), ("b_0", [0, 6, 5, 6, 0, 4, 4, 4])):
        reason = np.array(reasons, np.uint8)
        store.write(
            stream,
            0,
            features=np.ones((8, 5)),
            valid=reason == 0,
            frame_time=np.zeros(8),
            reason=reason,
        )
    assert store.finish()
    counted = (
        "6 of 8 clips are invalid: 3 past the end of the stream, 1 with a missing frame,"
        " 2 with a damaged frame"
    )
    assert store.attributes["problems"] == {"b_0": ["3 frames short", counted]}
    TakeStore.create(store.uri, make_layout(["c_0"], clips=8))
    fill(store := TakeStore.open(store.uri, writable=True))
    assert store.finish()
    assert store.attributes["problems"]["b_0"] == ["3 frames short", counted]


def test_a_reset_stream_is_extracted_again_and_the_others_are_not(place):
    uri, s3 = place
    provenance = {"streams": {name: {"etag": "old"} for name in STREAMS}}
    layout = make_layout(provenance=provenance, problems={"cam01_0": ["odd"]})
    store = TakeStore.create(uri, layout, s3)
    fill(store)
    assert store.finish()
    store.reset("cam01_0")
    assert store.status == "partial"
    assert {gap.streams for gap in store.missing()} == {("cam01_0",)}
    reopened = TakeStore.open(uri, s3, writable=True)
    assert set(reopened.attributes["provenance"]["streams"]) == set(STREAMS[:2])
    assert "cam01_0" not in reopened.attributes["problems"]
    assert not [key for key in Objects(uri, s3).listing() if key.startswith("valid/c/0/2")]
    reopened.update_attributes(provenance={"streams": {"cam01_0": {"etag": "new"}}})
    fill(reopened, seed=1)
    assert reopened.finish()
    etags = TakeStore.open(uri, s3).attributes["provenance"]["streams"]
    assert [etags[name]["etag"] for name in STREAMS] == ["old", "old", "new"]


def test_a_reset_cut_short_leaves_no_unit_that_looks_done(tmp_path, monkeypatch):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout())
    fill(store)
    assert store.finish()
    deleted = []

    def one_then_die(self, keys):
        deleted.extend(keys)
        raise KeyboardInterrupt

    monkeypatch.setattr(Objects, "delete_many", one_then_die)
    with pytest.raises(KeyboardInterrupt):
        store.reset("cam01_0")
    assert all(key.startswith("features/") for key in deleted)
    assert len(deleted) == 3
    assert TakeStore.open(store.uri).status == "partial"


def test_a_store_is_removed_and_another_takes_its_place(place):
    uri, s3 = place
    store = TakeStore.create(uri, make_layout(), s3)
    fill(store)
    store.finish()
    store.remove()
    assert Objects(uri, s3).listing() == set()
    assert TakeStore.create(uri, make_layout(clips=9), s3).clips == 9


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_removal_cut_short_can_be_repeated(tmp_path, monkeypatch, survived):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout())
    fill(store)
    store.finish()
    delete, count = Objects.delete_many, itertools.count()

    def dying(self, keys):
        if next(count) >= survived:
            raise KeyboardInterrupt
        delete(self, keys)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "delete_many", dying)
        with pytest.raises(KeyboardInterrupt):
            store.remove()
    left = TakeStore.open(store.uri, writable=True)
    assert left.status == "partial"
    left.remove()
    assert TakeStore.create(store.uri, make_layout(clips=9)).missing()[0] == Gap(0, 8, STREAMS)


def test_update_attributes_merges_and_protects(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(encoder={"name": "e", "dim": 5}))
    TakeStore.open(store.uri, writable=True).update_attributes(encoder={"weights": "w"})
    store.update_attributes(note="hello")
    assert TakeStore.open(store.uri).attributes["encoder"] == {
        "name": "e",
        "dim": 5,
        "weights": "w",
    }
    with pytest.raises(ValueError, match="status"):
        store.update_attributes(status="complete")


# ---- killed writers ----------------------------------------------------------------------------

_WRITER = """
import sys
import numpy as np
from workers.store.takestore import TakeStore
store = TakeStore.open(sys.argv[1], writable=True)
rng = np.random.default_rng(0)
for gap in store.missing():
    for stream in gap.streams:
        n = gap.stop - gap.start
        print(gap.start, stream, flush=True)
        store.write(stream, gap.start, features=rng.normal(size=(n, store.dim)),
                    valid=np.ones(n, bool), frame_time=np.zeros(n), reason=np.zeros(n, np.uint8))
"""


def test_a_killed_writer_leaves_whole_chunks_or_none(tmp_path):
    layout = make_layout(clips=1200, unit=300, dim=1500, streams=STREAMS[:2])
    store = TakeStore.create(f"{tmp_path}/t.zarr", layout)
    root = Path(__file__).parents[3]
    for i in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, store.uri],
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        with child, child.stdout as lines:
            announced = [lines.readline()]
            if announced[0]:
                announced.append(lines.readline())
            time.sleep(0.011 * i)
            child.send_signal(signal.SIGKILL)
            announced += lines.readlines()
        announced = [line.decode().split() for line in announced if line.strip()]
        faults = [fault for fault in verify(store.uri).faults if "missing" not in fault]
        assert faults == ["status is partial; `takestream extract` resumes"]
        # Everything announced before the last unit was returned from, so it is there.
        open_units = {(str(gap.start), s) for gap in store.missing() for s in gap.streams}
        assert not open_units & {tuple(line) for line in announced[:-1]}
    fill(store)
    assert store.finish()
    assert verify(store.uri).ok


def _write_every(uri, part):
    store = TakeStore.open(uri, writable=True)
    for gap in store.missing():
        if gap.start // store.unit_clips % 3 == part:
            for stream in gap.streams:
                store.write(stream, gap.start, **unit_of(store, stream, gap.start))


def test_three_processes_write_one_store(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(clips=60, unit=5))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import importlib.util as u; s = u.spec_from_file_location('t', sys.argv[2]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "m._write_every(sys.argv[3], int(sys.argv[4]))"
    )
    root = str(Path(__file__).parents[3])
    children = [
        subprocess.Popen([sys.executable, "-c", code, root, __file__, store.uri, str(part)])
        for part in range(3)
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert store.finish()
    for stream in STREAMS:
        for start in range(0, 60, 5):
            valid = unit_of(store, stream, start)["valid"]
            there = store.array("valid")[start : start + 5, STREAMS.index(stream)]
            assert there.tolist() == valid.tolist()


# ---- errors ------------------------------------------------------------------------------------


def test_probe_writable_leaves_nothing(place):
    uri, s3 = place
    probe_writable(uri, s3)
    assert Objects(uri, s3).listing() == set()


def test_probe_writable_says_what_is_wrong(tmp_path, s3, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageNotFound, match=r"cannot write to .*/file/out"):
        probe_writable(f"{tmp_path}/file/out")
    # SeaweedFS makes a bucket at the first PUT, so that one error is made up.
    with (
        pytest.raises(StorageNotFound, match=r"cannot write to s3://no/x: .*does the bucket exist"),
        translated("s3://no/x", "write to"),
    ):
        raise FileNotFoundError("The specified bucket does not exist")
    with pytest.raises(InvalidStorage, match="cannot open nosuch://x"):
        probe_writable("nosuch://x/y")
    dead = S3Options(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StorageUnavailable, match=r"cannot write to .*endpoint"):
        probe_writable(s3.uri, dead)
    with pytest.raises(CredentialsError, match="profile"):
        probe_writable(s3.uri, S3Options(profile="no-such", endpoint_url="http://127.0.0.1:9"))


def test_a_wrong_secret_is_told_as_such(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(CredentialsError, match="credentials"):
            probe_writable(s3.uri, s3.options)
        with pytest.raises(CredentialsError, match="credentials"):
            TakeStore.open(f"{s3.uri}/t.zarr", s3.options)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_plain_denial(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageDenied, match="no permission") as caught:
        probe_writable(f"{tmp_path}/out")
    assert caught.value.kind is ErrorKind.UNWRITABLE
