"""Datasets of `takestream.open` put together, and summed up, without changing what they mean."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from takestream import schema
from takestream.schema import Reason

if TYPE_CHECKING:
    import xarray


def concat(datasets: "Sequence[xarray.Dataset]") -> "xarray.Dataset":
    """Takes of one encoder, one after the other along `clip`, with every array of its own kind.

    xarray's own `concat` turns `valid` into numbers where takes have different cameras. Here a
    camera that a take has not is invalid there: `valid` False, `reason` `STREAM_ABSENT`, features
    and times NaN.

    Args:
        datasets: As `takestream.open` gives them.

    Returns:
        Their clips, with the coordinate `take_uid` [clip] and the streams of all. `clip` counts
        in each take: with `take_uid` it says which clip it is.

    Raises:
        ValueError: There are none, or they are of different dim or dtype.
    """
    import xarray

    if not datasets:
        raise ValueError("concat needs at least one dataset")
    kinds = {(ds.sizes[schema.FEATURE], str(ds[schema.FEATURES].dtype)) for ds in datasets}
    if len(kinds) > 1:
        raise ValueError(f"datasets of different dim and dtype, {sorted(kinds)}")
    streams = list(
        dict.fromkeys(name for ds in datasets for name in ds[schema.STREAM].values.tolist())
    )
    fills = {
        schema.FEATURES: float("nan"),
        schema.VALID: False,
        schema.FRAME_TIME: float("nan"),
        schema.REASON: int(Reason.STREAM_ABSENT),
    }
    parts, worn = [], dict[str, bool]()
    for ds in datasets:
        kinds_of = {name: ds[name].dtype for name in fills}
        worn |= (
            {}
            if schema.IS_EGO not in ds
            else dict(
                zip(
                    ds[schema.STREAM].values.tolist(),
                    ds[schema.IS_EGO].values.tolist(),
                    strict=True,
                )
            )
        )
        whole = ds.drop_vars(schema.IS_EGO, errors="ignore").reindex(
            {schema.STREAM: streams}, fill_value=fills
        )
        whole = whole.assign({n: whole[n].astype(kind) for n, kind in kinds_of.items()})
        uid = str(ds.attrs.get("take", {}).get("take_uid", ""))
        parts.append(whole.assign_coords(take_uid=(schema.CLIP, [uid] * ds.sizes[schema.CLIP])))
    # `in_task` is kept only where all takes say when their task is done.
    if not all(schema.IN_TASK in part for part in parts):
        parts = [part.drop_vars(schema.IN_TASK, errors="ignore") for part in parts]
    found = xarray.concat(parts, dim=schema.CLIP, join="exact", combine_attrs="drop_conflicts")
    if len(worn) < len(streams):
        return found
    flags = np.array([worn[name] for name in streams], dtype=bool)
    return found.assign_coords({schema.IS_EGO: (schema.STREAM, flags, dict(schema.EGO_FLAG))})


def mean(dataset: "xarray.Dataset") -> "xarray.DataArray":
    """The mean feature vector of each stream over its valid clips; float32 [stream, feature].

    Sums of float16 lose digits long before a take ends, so values are converted before they are
    added up; `ds.features.mean("clip")` does not do that. NaN for a stream without a valid clip.
    """
    features = dataset[schema.FEATURES].where(dataset[schema.VALID]).astype("float64")
    return features.mean(schema.CLIP, skipna=True).astype("float32")
