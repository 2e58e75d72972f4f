"""A store whose root was checked, as an xarray.Dataset."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from takestream import schema
from takestream.facts import in_span, task_span
from takestream.root import Root, StoreFault, arrays_named
from takestream.storage import S3Options
from takestream.stores import is_ego

if TYPE_CHECKING:
    import xarray

Span = Literal["take", "task"]


def open_checked(store: str, root: Root, s3: S3Options) -> "xarray.Dataset":
    """The dataset of a store whose root was checked. Raises StoreFault when it is damaged."""
    import xarray  # half a second that workers, who share this package, need not wait

    known = arrays_named(root.attributes)
    unknown = sorted(set(root.arrays) - set(known))
    try:
        dataset: xarray.Dataset = xarray.open_zarr(
            store,
            storage_options=s3.for_uri(store) or None,
            zarr_format=3,
            drop_variables=unknown,
            consolidated=root.consolidated,
        )
        # Without consolidated metadata xarray lists the arrays itself.
        dataset = dataset.drop_vars([name for name in dataset.variables if name not in known])
        # The attribute that names coordinates goes when xarray appends a variable.
        dataset = dataset.set_coords([name for name in known if schema.SPECS[name].coordinate])
        names = tuple(dataset[schema.STREAM].values.tolist())
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise StoreFault(f"{store} is damaged ({error}); `takestream verify` says more") from error
    if names != tuple(dataset.attrs.get("streams", ())):
        raise StoreFault(
            f"{store} is damaged: its array {schema.STREAM} does not hold the names in its"
            " attributes; `takestream verify` says more"
        )
    return _described(dataset, known, root)


def within(dataset: "xarray.Dataset", span: Span, store: str) -> "xarray.Dataset":
    """The clips of a dataset that lie in its take's task, or all of them.

    Raises:
        ValueError: The take does not say when its task is done.
    """
    if span == "take":
        return dataset
    if schema.IN_TASK not in dataset:
        raise ValueError(
            f"{store}: it does not say when the task of its take is done; `takestream facts"
            " --refresh` fills in what the data set says"
        )
    return dataset.isel({schema.CLIP: np.flatnonzero(dataset[schema.IN_TASK].values)})


def _described(dataset: "xarray.Dataset", known: Sequence[str], root: Root) -> "xarray.Dataset":
    """With numbers of clips, and with text as numpy has it: such axes can be plotted."""
    for name in known:
        if schema.SPECS[name].dtypes == (schema.TEXT,):
            column = dataset[name]
            text = np.array(column.values.tolist(), dtype=str)
            dataset = dataset.assign_coords({name: (column.dims, text, column.attrs)})
            dataset[name].encoding = column.encoding  # so that a copy is a store again
    numbers = (schema.CLIP, np.arange(root.sizes.clips), dict(schema.CLIP_NUMBER))
    worn = [is_ego(root.attributes, name) for name in root.streams]
    dataset = dataset.assign_coords(
        {
            schema.CLIP: numbers,
            schema.IS_EGO: (schema.STREAM, np.array(worn, dtype=bool), dict(schema.EGO_FLAG)),
        }
    )
    span = task_span(root.attributes.get("take", {}))
    if span is None:
        return dataset
    inside = in_span(dataset[schema.START_TIME].values, dataset[schema.END_TIME].values, span)
    return dataset.assign_coords({schema.IN_TASK: (schema.CLIP, inside, dict(schema.TASK_FLAG))})
