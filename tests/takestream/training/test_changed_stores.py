"""Stores that are not what they were, or not whole: never another number without a word."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

import takestream
from tests.takestream.training.test_windows import EXO, write


def test_names_decide_and_never_their_order_alone(tmp_path: Path) -> None:
    uri = Path(write(str(tmp_path), "uid-a").uri)
    root = json.loads((uri / "zarr.json").read_bytes())
    root["attributes"]["streams"].reverse()
    (uri / "zarr.json").write_text(json.dumps(root))
    windows = takestream.Windows(tmp_path, streams=EXO)
    with pytest.raises(ValueError, match="does not hold the names in its attributes"):
        list(windows)


def test_a_store_that_is_written_again_is_noticed(tmp_path: Path) -> None:
    store = write(str(tmp_path), "uid-a")
    windows = takestream.Windows(tmp_path)
    assert list(windows)
    store.reset(EXO)
    with pytest.raises(ValueError, match="was complete and is being written again"):
        list(windows)
    store.update_attributes(provenance={"streams": {EXO: {"etag": "another"}}})
    write(str(tmp_path), "uid-a")
    with pytest.raises(ValueError, match="extracted again from other videos"):
        list(windows)
    assert list(takestream.Windows(tmp_path))


@pytest.mark.parametrize(
    ("lost", "words"), [("valid/c/0/1", "chunks of valid"), ("end_time/c/0", "times of clips")]
)
def test_what_a_copy_lacks_is_no_value(tmp_path: Path, lost: str, words: str) -> None:
    uri = Path(write(str(tmp_path), "uid-c").uri)
    (uri / lost).unlink()
    with pytest.raises(ValueError, match=f"{words}.*are missing"):
        list(takestream.Windows(tmp_path))


def test_an_array_and_its_proof_lost_together_are_noticed(tmp_path: Path) -> None:
    uri = Path(write(str(tmp_path), "uid-c").uri)
    for lost in ("valid/c/0/1", "features/c/0/1/0"):
        (uri / lost).unlink()
    with pytest.raises(ValueError, match="chunks of valid or reason are missing"):
        list(takestream.Windows(tmp_path))
    (uri / "reason/c/0/1").unlink()
    with pytest.raises(ValueError, match="chunks of valid or reason are missing"):
        list(takestream.Windows(tmp_path))


def test_names_written_anew_while_someone_trains_are_noticed(tmp_path: Path) -> None:
    uri = write(str(tmp_path), "uid-a").uri
    windows = takestream.Windows(tmp_path)
    assert list(windows)
    names = zarr.open_group(uri, mode="r+")["stream"]
    names[:] = np.asarray(names[:])[::-1]
    with pytest.raises(ValueError, match="does not hold the names in its attributes"):
        list(windows)


def test_some_streams_written_anew_say_what_to_write(tmp_path: Path) -> None:
    write(str(tmp_path), "uid-a")
    own = tmp_path / "encoder-0123456789" / "uid-b.zarr"
    dataset = takestream.open(tmp_path, "uid-a")[["features", "valid", "frame_time", "reason"]]
    some = dataset.sel(stream=[EXO])
    some.to_zarr(own, zarr_format=3)
    with pytest.raises(ValueError, match=r"gives their names in attrs\['streams'\]"):
        takestream.open(own)
    some.attrs["streams"] = [EXO]
    some.to_zarr(own, zarr_format=3, mode="w")
    assert takestream.open(own).stream.values.tolist() == [EXO]
    sample = next(iter(takestream.Windows(own, shuffle=False)))
    np.testing.assert_array_equal(sample["features"][:, 0], some.features[:16, 0].fillna(0))


def test_a_store_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(str(tmp_path / "features"), "uid-a")
    monkeypatch.chdir(tmp_path)
    windows, rows = takestream.Windows("features"), takestream.ls("features")
    dataset = takestream.open("features", "uid-a")
    monkeypatch.chdir("/")
    assert len(list(windows)) == len(windows)
    assert dataset.valid.values.sum() == 72
    assert takestream.open(rows.store[0]).sizes["clip"] == 37


def test_metadata_in_each_array_alone_will_do(tmp_path: Path) -> None:
    uri = Path(write(str(tmp_path), "uid-a").uri)
    root = json.loads((uri / "zarr.json").read_bytes())
    before = takestream.open(uri).load()
    attributes_alone = {k: v for k, v in root.items() if k != "consolidated_metadata"}
    for without in ({**root, "consolidated_metadata": None}, attributes_alone):
        (uri / "zarr.json").write_text(json.dumps(without))
        assert takestream.open(uri).load().identical(before)
        assert list(takestream.Windows(tmp_path))
        assert takestream.ls(tmp_path).status.tolist() == ["complete"]


def test_a_variable_that_xarray_appended_harms_nothing(tmp_path: Path) -> None:
    uri = write(str(tmp_path), "uid-a").uri
    dataset = takestream.open(uri)
    score = xarray.Dataset({"score": ("clip", np.arange(37.0))}, attrs=dataset.attrs)
    for consolidated in (True, False):
        score.to_zarr(uri, mode="a", zarr_format=3, consolidated=consolidated)
        found = takestream.open(uri)
        assert set(found) == {"features", "valid", "frame_time", "reason"}
        assert set(found.coords) == set(dataset.coords)
        assert list(takestream.Windows(tmp_path))
    score.drop_attrs().to_zarr(uri, mode="a", zarr_format=3)
    with pytest.raises(ValueError, match="puts the attrs of what it appends in place"):
        takestream.open(uri)
