"""A store whose root was checked, as an xarray.Dataset."""

from typing import TYPE_CHECKING

from takestream import schema
from takestream.root import Root, StoreFault, arrays_named
from takestream.storage import S3Options

if TYPE_CHECKING:
    import xarray


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
    return dataset
