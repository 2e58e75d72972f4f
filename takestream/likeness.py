"""How alike the streams of a take see each clip: one measure for notebook, page and picture.

`service.report.similarity` compares streams pair by pair, for the matrix of `inspect --picture`;
here each is compared to the others together, by the same measure.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from takestream import schema

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float32]

# Numbers in float32 at a time: a take with a clip per frame has a gigabyte of features.
_BLOCK = 2**24
NAME = "similarity: mean cosine to the same clip in the other streams"


def similarity(dataset: "xarray.Dataset") -> "xarray.DataArray":
    """The mean cosine of each clip's features to those of the same clip in the other valid streams.

    Args:
        dataset: As `takestream.open` or `Client.features` give it. Its features are read, some
            clips at a time.

    Returns:
        float32 [clip, stream] in [-1, 1], with the dataset's coordinates. NaN where there is
        nothing to compare: invalid clips, no other valid stream.
    """
    import xarray

    dims = (schema.CLIP, schema.STREAM)
    features = dataset[schema.FEATURES].transpose(*dims, schema.FEATURE)
    valid = dataset[schema.VALID].transpose(*dims)
    found = np.full(valid.shape, np.nan, dtype=np.float32)
    for rows in blocks(features):
        found[rows] = mean_cosines(features[rows].values, valid[rows].values)
    attributes = {"long_name": NAME}
    return xarray.DataArray(found, valid.coords, dims, name="similarity", attrs=attributes)


def directions(features: ArrayLike, valid: ArrayLike) -> Floats:
    """Features [..., D] as float32 of length 1; zeros where invalid or without direction.

    valid: [...]. What is not finite has no direction.
    """
    values = np.where(np.asarray(valid)[..., None], np.asarray(features, np.float32), 0)
    # By the largest number first: squares of large or tiny ones leave float32's range.
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0)
    scaled = _divided(values, largest)
    return _divided(scaled, np.linalg.norm(scaled, axis=-1, keepdims=True))


def mean_cosines(features: ArrayLike, valid: ArrayLike) -> Floats:
    """Mean cosine of each clip to the same clip in the other valid streams.

    features [n, S, D], valid [n, S] → float32 [n, S] in [-1, 1], NaN where there is nothing to
    compare: invalid clips, no other valid stream.
    """
    features, valid = np.asarray(features), np.asarray(valid)
    result = np.full(valid.shape, np.nan, dtype=np.float32)
    for rows in blocks(features):
        unit = directions(features[rows], valid[rows])
        there = unit.any(axis=-1)
        others = unit.sum(axis=1, keepdims=True) - unit
        count = there.sum(axis=1, keepdims=True) - there
        # The mean of the cosines is the product with the mean of the other directions.
        cosines = np.einsum("nsd,nsd->ns", unit, others)
        np.divide(cosines, count, out=result[rows], where=there & (count > 0))
    return np.clip(result, -1, 1)


def _divided(values: Floats, by: Floats) -> Floats:
    return np.divide(values, by, out=np.zeros_like(values), where=np.isfinite(by) & (by > 0))


def blocks(features: "NDArray[np.floating] | xarray.DataArray") -> Iterator[slice]:
    """Rows [n, …] some at a time."""
    count, *rest = features.shape
    step = max(1, _BLOCK // max(1, int(np.prod(rest))))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
