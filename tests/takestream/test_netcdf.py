"""Datasets as netCDF files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

import takestream
from tests.takestream.training.test_windows import write


@pytest.mark.parametrize("joined", [False, True])
def test_a_file_holds_all_of_a_dataset(tmp_path: Path, joined: bool) -> None:
    one = takestream.open(write(str(tmp_path), "uid-a").uri)
    dataset = takestream.concat([one, takestream.open(write(str(tmp_path), "uid-b").uri)])
    dataset = dataset if joined else one
    takestream.to_netcdf(dataset, tmp_path / "a.nc")
    assert one.valid.encoding  # the dataset itself stays as it is
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as found:
        assert set(found.variables) == set(dataset.variables)
        for name in dataset.variables:
            np.testing.assert_array_equal(found[name].values, dataset[name].values)
            assert found[name].dims == dataset[name].dims
        assert (found.features.dtype, found.valid.dtype) == (np.float32, bool)
        if not joined:
            assert json.loads(found.attrs["take"]) == dataset.attrs["take"]
            assert found.attrs["status"] == "complete"


def test_without_h5netcdf_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5netcdf", None)
    with pytest.raises(ModuleNotFoundError, match="pip install h5netcdf"):
        takestream.to_netcdf(xarray.Dataset(), tmp_path / "a.nc")
