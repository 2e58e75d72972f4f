"""A dataset as a netCDF file, for programs that read no Zarr."""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from takestream import schema

if TYPE_CHECKING:
    import xarray


def to_netcdf(dataset: "xarray.Dataset", path: str | os.PathLike[str]) -> None:
    """Write a dataset as netCDF 4, which xarray's own method cannot.

    netCDF knows neither float16 nor attributes of several levels: features become float32, and such
    attributes JSON, which `json.loads(ds.attrs["encoder"])` reads back.

    Args:
        dataset: As `takestream.open`, `concat` or `Client.features` give it.
        path: A local file; one that is there is replaced.

    Raises:
        ModuleNotFoundError: h5netcdf is not installed.
    """
    try:
        import h5netcdf  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "netCDF needs h5netcdf: install it (pip install h5netcdf)"
        ) from error
    plain = dataset.assign({schema.FEATURES: dataset[schema.FEATURES].astype("float32")})
    # The encoding is what Zarr would be told: chunks and codecs that are none of HDF5's.
    plain = plain.assign_attrs(_plain(dataset.attrs)).drop_encoding()
    packed = {schema.FEATURES: {"zlib": True, "complevel": 3}}
    plain.to_netcdf(path, engine="h5netcdf", encoding=packed)


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(value)
        for name, value in attributes.items()
    }
