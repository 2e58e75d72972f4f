"""What is missing, and stores that are there already or half made."""

import json
from pathlib import Path

import fsspec
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.takestores import NUMBERS, STREAMS, die_after, fill, make_layout, unit_of
from workers.store.errors import StoreMismatch, StoreNotFound
from workers.store.gap import Gap
from workers.store.objects import Objects
from workers.store.takestore import TakeStore
from workers.store.verify import verify


@settings(max_examples=25, deadline=None)
@given(data=st.data(), clips=st.integers(1, 30), unit=st.integers(1, 12))
def test_missing_names_exactly_what_is_not_written(data, clips, unit):
    uri = f"memory://missing-{next(NUMBERS)}/t.zarr"
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
