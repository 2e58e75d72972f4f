"""Open a store as an xarray.Dataset, by its own URI or by the take's name."""

import difflib
import json
import os
import posixpath
import warnings
from typing import TYPE_CHECKING, Any

from takestream import schema
from takestream.storage import S3Options, as_uri, reached
from takestream.stores import list_stores, read_roots, uid_of

if TYPE_CHECKING:
    import xarray


def open(
    uri: str | os.PathLike[str],
    take: str | None = None,
    *,
    encoder: str | None = None,
    profile: str | None = None,
    endpoint_url: str | None = None,
) -> "xarray.Dataset":
    """The features of one take, lazily: dims clip × stream × feature, with times and validity.

    uri: a `.zarr` store, or an output folder that holds stores, on any fsspec file system.
    take: the uid or the name of a take; needed when `uri` is a folder with more than one.
    encoder: an `encoder_id` or the preset it begins with; needed when several wrote there.
    profile, endpoint_url: how to reach S3; the usual AWS settings apply otherwise.

    Warns when the store is not complete. Raises FileNotFoundError when there is no such store and
    ValueError when several fit; both messages say what is there. Raises ConnectionError and
    PermissionError when S3 cannot be reached or refuses.
    """
    import xarray  # half a second that workers, who share this package, need not wait

    s3, where = S3Options(profile, endpoint_url), as_uri(uri)
    with reached(where, s3):
        store = where if where.endswith(".zarr") else _find(where, take, encoder, s3)
        try:
            dataset: xarray.Dataset = xarray.open_zarr(
                store, storage_options=s3.for_uri(store) or None, zarr_format=3
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{store}: no store there, or one half made") from error
    if take is not None and take not in _names(dataset.attrs):
        raise FileNotFoundError(f"{store} is of take {' / '.join(_names(dataset.attrs))}")
    known = dataset.attrs.get("encoder")
    wrote = known.get("encoder_id") if isinstance(known, dict) else None
    wrote = str(wrote or _encoder_id(store))
    if encoder is not None and not _is_of(wrote, encoder):
        raise FileNotFoundError(f"{store} is of encoder {wrote}, not {encoder}")
    if dataset.attrs.get("status") == schema.PARTIAL:
        # `valid` is not masked here: that would read all features now.
        warnings.warn(
            f"{store} is not complete: features that are not extracted yet are NaN, some of them"
            " where `valid` is True already",
            stacklevel=2,
        )
    return dataset


def _find(root: str, take: str | None, encoder: str | None, s3: S3Options) -> str:
    stores = list_stores(root, s3)
    if encoder is not None:
        ids = sorted({_encoder_id(store) for store in stores})
        if not any(_is_of(name, encoder) for name in ids):
            raise FileNotFoundError(f"{root}: nothing of encoder {encoder!r}; there is {ids}")
        stores = [store for store in stores if _is_of(_encoder_id(store), encoder)]
    if take is not None:
        stores = [store for store in stores if uid_of(store) == take] or _by_name(stores, take, s3)
    if len(stores) == 1:
        return stores[0]
    if not stores:
        raise FileNotFoundError(f"{root}: no store there")
    if len({uid_of(store) for store in stores}) > 1:
        raise ValueError(f"{root} holds {len(stores)} stores: say which take (its uid or name)")
    ids = sorted(_encoder_id(store) for store in stores)
    raise ValueError(f"{root} holds this take by several encoders: encoder= one of {ids}")


def _by_name(stores: list[str], take: str, s3: S3Options) -> list[str]:
    names = {}
    for store, data in read_roots(stores, s3).items():
        try:
            names[store] = str(json.loads(data)["attributes"]["take"]["take_name"])
        except (ValueError, KeyError, TypeError):
            continue  # no store of ours; another may be meant
    found = [store for store, name in names.items() if name == take]
    if not found:
        near = difflib.get_close_matches(take, [*names.values(), *map(uid_of, stores)], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(f"no store of take {take!r} among {len(stores)}{hint}")
    return found


def _encoder_id(store: str) -> str:
    return posixpath.basename(posixpath.dirname(store))


def _is_of(encoder_id: str, encoder: str) -> bool:
    """encoder: an id, or the preset that ids begin with."""
    return encoder in (encoder_id, encoder_id.rpartition("-")[0])


def _names(attributes: dict[str, Any]) -> list[str]:
    take = attributes.get("take", {})
    return [str(take.get("take_uid")), str(take.get("take_name"))]
