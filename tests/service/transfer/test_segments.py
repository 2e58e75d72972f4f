"""Stored clips pooled over segments, for all takes at once."""

import contextlib
import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr

from configs.load import SettingsError
from service.cli.main import run
from service.transfer import segments as pooling_module
from service.transfer.pooling import members, pooled
from service.transfer.segments import PoolingJob, pool_to
from service.transfer.stored import choose_stores
from takestream.storage import S3Options
from tests.support.features import ENCODER_ID, features_of, make_features
from tests.support.takestores import die_after
from workers.dataset.segments import read_segments
from workers.dataset.take import DatasetError

S3 = S3Options()
STEPS = [
    ("tea", 0.0, 1.0, "boil", 3), ("tea", 0.9, 1.0, "pour", 7), ("name of bike", 0.0, 3.0, "", 0),
    ("tea", 50.0, 60.0, "later", 1), ("nobody", 0.0, 1.0, "x", 2),
]  # fmt: skip
_numbers = itertools.count()


@pytest.fixture
def annotations(tmp_path: Path) -> str:
    """In the shape of `keystep_segment_train.json`."""
    found = [
        {"take_uid": take, "take_name": take, "start_time": start, "end_time": end,
         "step_name": name, "label_id": label, "segment_name_list": [], "step_unique_id": 9}
        for take, start, end, name, label in STEPS
    ]  # fmt: skip
    (tmp_path / "steps.json").write_text(json.dumps({"segments": found}))
    return str(tmp_path / "steps.json")


@pytest.fixture
def output(tmp_path: Path) -> str:
    """tea has 7 clips and two cameras, bike 5 clips and one of them; a third is not complete."""
    root = str(tmp_path / "features")
    make_features(root, "tea", 120, {"aria01_rgb": 100, "cam01_0": 200}, invalid={"cam01_0": [1]})
    make_features(root, "bike", 96, {"cam01_0": 300})
    make_features(root, "half", 96, {"cam01_0": 300}, finish=False)
    return root


@pytest.fixture(params=["local", "memory"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "pooled") if request.param == "local" else f"memory://p/{next(_numbers)}"


def job(output: str, annotations: str, how: Any = "mean", count: int = 1) -> PoolingJob:
    stores = choose_stores(output, None, None, S3)
    return PoolingJob(stores, read_segments(annotations), how, count, S3)


def test_one_store_of_all_takes(output: str, annotations: str, target: str) -> None:
    result = pool_to(job(output, annotations), target, "zarr", S3)
    assert (result.segments, result.done) == (4, 4)
    found = xr.open_zarr(target)
    assert dict(found.sizes) == {"segment": 4, "stream": 2, "feature": 4}
    assert found.take.values.tolist() == ["bike", "tea", "tea", "tea"]
    assert found.take_name.values.tolist() == ["name of bike", *["name of tea"] * 3]
    assert found.segment_name.values.tolist() == ["", "boil", "pour", "later"]
    assert found.segment_label.values.tolist() == ["0", "3", "7", "1"]
    assert found.start_time.values.tolist() == [0.0, 0.0, 0.9, 50.0]
    assert found.valid.values.tolist() == [
        [False, True], [True, True], [True, False], [False, False],
    ]  # fmt: skip
    assert result.empty == 4
    cam, aria = found.sel(stream="cam01_0"), found.sel(stream="aria01_rgb")
    # The middles of the clips are at 16/30 s, 32/30 s, …: one is in the first second.
    np.testing.assert_array_equal(cam.features[0], features_of(300, 5).mean(axis=0))
    np.testing.assert_array_equal(aria.features[1], features_of(100, 7)[0])
    # Too short for any, so its nearest clip; of cam01 that one is damaged.
    np.testing.assert_array_equal(aria.features[2], features_of(100, 7)[1])
    assert found.attrs["status"] == "complete"
    assert found.attrs["encoder_id"] == ENCODER_ID
    assert found.attrs["segments_sha256"] == read_segments(annotations).digest
    assert found.attrs["licences"] == [{"dataset": None, "encoder": None}]


def test_the_other_poolings(output: str, annotations: str, tmp_path: Path) -> None:
    pool_to(job(output, annotations, "max"), str(tmp_path / "max"), "zarr", S3)
    found = xr.open_zarr(tmp_path / "max").sel(stream="cam01_0")
    np.testing.assert_array_equal(found.features[0], features_of(300, 5).max(axis=0))
    pool_to(job(output, annotations, "nearest", 3), str(tmp_path / "near"), "zarr", S3)
    found = xr.open_zarr(tmp_path / "near")
    assert found.features.dims == ("segment", "stream", "sample", "feature")
    middle = found.sel(stream="cam01_0").features[0]  # of 3 s: 1.5 s
    np.testing.assert_array_equal(middle, features_of(300, 5)[1:4])
    # A damaged clip is passed over: the nearest to 0.5 s that are whole.
    np.testing.assert_array_equal(
        found.sel(stream="cam01_0").features[1], features_of(200, 7)[[0, 2, 3]]
    )
    with pytest.raises(SettingsError, match="add --format npy"):
        pool_to(job(output, annotations, "all"), str(tmp_path / "all"), "zarr", S3)


def load(target: str, name: str) -> Any:
    return np.load(io.BytesIO(fsspec.open(f"{target}/{name}").open().read()), allow_pickle=False)


def test_a_file_for_each_segment_with_labels_of_the_same_length(
    output: str, annotations: str, target: str
) -> None:
    pool_to(job(output, annotations, "all"), target, "npy", S3)
    text = fsspec.open(f"{target}/segments.csv", "rt").open().read()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 1 + 3 * 2
    # As keystep recognition code reads them: features and labels, file by file, of one length.
    lengths = {}
    for row in rows:
        features = load(target, row["file"])
        labels = load(target, row["file"].replace(".npy", "_labels.npy"))
        assert features.shape == (len(labels), 4)
        assert set(labels.tolist()) <= {row["label"]}
        lengths[row["name"], row["stream"]] = len(labels)
    assert lengths["", "cam01_0"] == 5
    assert lengths["later", "aria01_rgb"] == 0
    pool_to(job(output, annotations), f"{target}-mean", "npy", S3)
    np.testing.assert_array_equal(
        load(f"{target}-mean", "bike_cam01_0/0000.npy"), features_of(300, 5).mean(axis=0)
    )


@pytest.mark.parametrize("form", ["zarr", "npy"])
@pytest.mark.parametrize("writes", [0, 1, 3, 12, 17])
def test_a_run_that_was_cut_short_goes_on(
    output: str, annotations: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any,
    writes: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(pooling_module, "BLOCK", 2)
    whole, cut = str(tmp_path / "whole"), str(tmp_path / "cut")
    pool_to(job(output, annotations), whole, form, S3)
    with monkeypatch.context() as patch:
        die_after(writes, patch, ConnectionError)
        with contextlib.suppress(ConnectionError):
            pool_to(job(output, annotations), cut, form, S3)
    pool_to(job(output, annotations), cut, form, S3)
    files = {p.relative_to(whole): p.read_bytes() for p in Path(whole).rglob("*") if p.is_file()}
    assert files == {
        p.relative_to(cut): p.read_bytes() for p in Path(cut).rglob("*") if p.is_file()
    }
    assert pool_to(job(output, annotations), cut, form, S3).done == 0


@pytest.mark.parametrize("form", ["zarr", "npy"])
def test_an_output_of_something_else_is_left_alone(
    output: str, annotations: str, tmp_path: Path, form: Any
) -> None:
    target = str(tmp_path / "pooled")
    pool_to(job(output, annotations), target, form, S3)
    with pytest.raises(SettingsError, match=r"something else \(other pooling\): remove it"):
        pool_to(job(output, annotations, "max"), target, form, S3)
    with pytest.raises(SettingsError, match="something else"):
        pool_to(job(output, annotations), f"{output}/{ENCODER_ID}/tea.zarr", "zarr", S3)
    make_features(output, "new", 96, {"cam01_0": 1})
    with pytest.raises(SettingsError, match="other stores_sha256"):
        pool_to(job(output, annotations), target, form, S3)


def test_the_command(output: str, annotations: str, tmp_path: Path, capsys: Any) -> None:
    arguments = ["segments", output, "--annotations", annotations, "--output", str(tmp_path / "p")]
    assert run([*arguments, "--json"]) == 1  # one store is not complete
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["segments"], facts["takes_without_store"]) == (4, 1)
    assert facts["takes_left_out"] == ["name of half"]
    assert "1 stores are not complete and were left out (name of half" in err
    assert run([*arguments[:-1], str(tmp_path / "q"), "--streams", "cam*", "--pool", "max"]) == 1
    assert "4 segments of 1 streams" in capsys.readouterr()[0]
    make_features(output, "tea", 96, {"cam01_0": 1}, encoder_id="other-0123456789")
    assert run(arguments) == 2
    assert "choose by --encoder one of" in capsys.readouterr()[1]
    assert run([*arguments, "--encoder", "tiny"]) == 1
    capsys.readouterr()
    (tmp_path / "none.csv").write_text("take,start,end\nnobody,0,1\n")
    arguments[3] = str(tmp_path / "none.csv")
    assert run([*arguments, "--encoder", "tiny"]) == 2
    assert "none of its 1 takes has a complete store" in capsys.readouterr()[1]


def test_members_and_an_empty_store() -> None:
    none = np.array([])
    assert members(none, none, 0, 1).shape == (0,)
    empty = np.zeros((0, 3), dtype=np.float32)
    found = pooled(empty, none.astype(bool), none, none, (0.0, 1.0), "mean")
    assert np.isnan(found).all()
    assert found.shape == (3,)


def test_takes_without_segments_are_an_error(output: str, annotations: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("take,start,end\nother,0,1\n")
    with pytest.raises(DatasetError, match="none of its 1 takes"):
        job(output, str(tmp_path / "s.csv")).rows()
