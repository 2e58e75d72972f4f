"""Optional coordinates of clips: what each segment of a grid from segments is."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import takestream
from takestream import schema
from workers.store.errors import StoreMismatch
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore
from workers.store.verify import verify

NAMES = ("Get tools", "Get tools", "", "Réparer la chaîne 🔧")
LABELS = ("12", "12", "13", "")
SEGMENTS = {schema.SEGMENT_NAME: NAMES, schema.SEGMENT_LABEL: LABELS}


def layout(extra: dict[str, Any], streams: tuple[str, ...] = ("cam01_0",)) -> StoreLayout:
    # Two segments begin in the same frame and at other times, one is inside another.
    start = np.array([0, 30, 30, 90])
    begin = np.array([0.0, 0.99, 1.01, 3.0])
    return StoreLayout(
        streams=streams,
        dim=4,
        dtype="float32",
        unit_clips=3,
        start_frame=start,
        stop_frame=start + np.array([20, 200, 10, 30]),
        start_time=begin,
        end_time=begin + np.array([0.5, 6.5, 0.3, 1.0]),
        attributes={"grid": {"segments": "digest", "fps": 30.0, "frames": 240, "clips": 4}},
        extra=extra,
    )


def fill(store: TakeStore) -> None:
    for gap in store.missing():
        n = gap.stop - gap.start
        for stream in gap.streams:
            store.write(
                stream,
                gap.start,
                features=np.ones((n, 4)),
                valid=np.ones(n, bool),
                frame_time=np.zeros(n),
                reason=np.zeros(n, np.uint8),
            )


def make(folder: Path, extra: dict[str, Any]) -> TakeStore:
    store = TakeStore.create(f"{folder}/e-0123456789/t.zarr", layout(extra))
    fill(store)
    assert store.finish()
    return store


def test_each_clip_carries_the_fields_of_its_segment(tmp_path: Path) -> None:
    store = make(tmp_path, SEGMENTS)
    report = verify(store.uri)
    assert report.ok, report.faults
    assert store.array_names[-2:] == (schema.SEGMENT_NAME, schema.SEGMENT_LABEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = takestream.open(store.uri).load()
        plain = xr.open_zarr(store.uri).load()
    # Clips are numbered and worn cameras named by `open` alone.
    assert data.drop_vars(("clip", "is_ego")).identical(plain)
    assert data.schema_version == "2.1"
    for name, values in SEGMENTS.items():
        assert data.coords[name].dims == ("clip",)
        assert data.coords[name].values.tolist() == list(values)
        assert "segment" in data.coords[name].attrs["long_name"]
    some = data.where(data.segment_label == "12", drop=True)
    assert some.sizes["clip"] == 2


def test_one_of_the_two_alone(tmp_path: Path) -> None:
    store = make(tmp_path, {schema.SEGMENT_LABEL: ["", "", "", ""]})
    assert verify(store.uri).ok
    data = takestream.open(store.uri)
    assert data.segment_label.values.tolist() == [""] * 4
    assert "segment_name" not in data.variables


def test_streams_are_added(tmp_path: Path) -> None:
    store = make(tmp_path, SEGMENTS)
    store = TakeStore.create(store.uri, layout(SEGMENTS, ("cam01_0", "cam02_0")))
    fill(store)
    assert store.finish()
    assert verify(store.uri).ok
    assert takestream.open(store.uri).segment_name.values.tolist() == list(NAMES)


@pytest.mark.parametrize(
    "other",
    [{}, {**SEGMENTS, schema.SEGMENT_NAME: ("a", "b", "c", "d")}, {schema.SEGMENT_NAME: NAMES}],
)
def test_clips_of_other_segments_are_other_clips(tmp_path: Path, other: dict[str, Any]) -> None:
    store = make(tmp_path, SEGMENTS)
    with pytest.raises(StoreMismatch, match="clips of other frames or segments"):
        TakeStore.create(store.uri, layout(other))


@pytest.mark.parametrize("wrong", [{"segment_name": ["a"]}, {"colour": ["a", "b", "c", "d"]}])
def test_coordinates_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"colour|lengths"):
        layout(wrong)


@pytest.mark.parametrize("lost", ["segment_name/zarr.json", "segment_name/c/0"])
def test_verify_misses_them(tmp_path: Path, lost: str) -> None:
    store = make(tmp_path, SEGMENTS)
    Path(store.uri, lost).unlink()
    assert any(lost in fault for fault in verify(store.uri).faults)


def test_a_newer_minor_version_is_read_and_not_written(tmp_path: Path) -> None:
    store = make(tmp_path, SEGMENTS)
    file = Path(store.uri, "zarr.json")
    root = json.loads(file.read_text())
    root["attributes"]["schema_version"] = "2.7"
    file.write_text(json.dumps(root))
    assert takestream.open(store.uri).sizes["clip"] == 4
    assert verify(store.uri).ok
    newer = TakeStore.open(store.uri, writable=True)
    for write in (newer.finish, lambda: newer.reset("cam01_0"), newer.remove):
        with pytest.raises(StoreMismatch, match="can read that store but not add to it"):
            write()
    with pytest.raises(StoreMismatch, match=r"Update takestream, or choose another --output"):
        TakeStore.create(store.uri, layout(SEGMENTS, ("cam09_0",)))
