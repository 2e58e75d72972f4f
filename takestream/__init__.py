"""Synchronised per-camera video features: read what `takestream extract` wrote, or ask for them.

import takestream
ds = takestream.open("s3://bucket/features", take="cmu_bike01_2")  # a store
takes = takestream.ls("s3://bucket/features")  # which there are, as a table
takestream.plot(ds)  # its streams along time
windows = takestream.Windows("s3://bucket/features")  # all of them, for PyTorch
client = takestream.Client("http://127.0.0.1:8000")  # the service
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from takestream.catalogue import ls
    from takestream.client.client import Client
    from takestream.combine import concat, mean
    from takestream.drawing import plot
    from takestream.errors import TakestreamError
    from takestream.glance import overview
    from takestream.likeness import similarity
    from takestream.netcdf import to_netcdf
    from takestream.reader import open
    from takestream.training.windows import Windows

__all__ = [
    "Client",
    "TakestreamError",
    "Windows",
    "concat",
    "ls",
    "mean",
    "open",
    "overview",
    "plot",
    "similarity",
    "to_netcdf",
]

# Imported when they are asked for: the workers import this package for its schema, and should not
# wait for xarray, httpx and torch.
_HOMES = {
    "Client": "takestream.client.client",
    "TakestreamError": "takestream.errors",
    "Windows": "takestream.training.windows",
    "concat": "takestream.combine",
    "ls": "takestream.catalogue",
    "mean": "takestream.combine",
    "open": "takestream.reader",
    "overview": "takestream.glance",
    "plot": "takestream.drawing",
    "similarity": "takestream.likeness",
    "to_netcdf": "takestream.netcdf",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("takestream.version").own_version()
    if name in ("errors", "schema"):
        return importlib.import_module(f"takestream.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'takestream' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
