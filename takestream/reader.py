"""Open a store as an xarray.Dataset, or all takes of an encoder as an xarray.DataTree."""

import difflib
import os
import warnings
from typing import TYPE_CHECKING, overload

from takestream import schema
from takestream.access import asked
from takestream.choice import of_encoder, of_one_encoder
from takestream.dataset import Span, open_checked, within
from takestream.errors import StorageNotFound
from takestream.losses import loss_words, lost_objects
from takestream.root import StoreFault, read_root
from takestream.storage import S3Options, as_uri
from takestream.stores import (
    encoder_id_of,
    is_of_encoder,
    is_store,
    list_stores,
    names_of,
    read_roots,
    uid_of,
)
from takestream.tree import open_tree

if TYPE_CHECKING:
    import xarray


@overload
def open(
    uri: str | os.PathLike[str],
    take: str,
    *,
    encoder: str | None = None,
    span: Span = "take",
    profile: str | None = None,
    endpoint_url: str | None = None,
    anon: bool = False,
) -> "xarray.Dataset": ...


@overload
def open(
    uri: str | os.PathLike[str],
    take: None = None,
    *,
    encoder: str | None = None,
    span: Span = "take",
    profile: str | None = None,
    endpoint_url: str | None = None,
    anon: bool = False,
) -> "xarray.Dataset | xarray.DataTree": ...


def open(
    uri: str | os.PathLike[str],
    take: str | None = None,
    *,
    encoder: str | None = None,
    span: Span = "take",
    profile: str | None = None,
    endpoint_url: str | None = None,
    anon: bool = False,
) -> "xarray.Dataset | xarray.DataTree":
    """The features of one take, lazily: dims clip × stream × feature, with times and validity.

    Of a folder, without a take: those of all its takes, as a tree with a node for each, by the
    take's name (its uid, where two have the same name). Opening it lists each store and reads some
    objects of it, and no features.

    Args:
        uri: A `.zarr` store, or an output folder that holds stores, on any fsspec file system.
        take: The uid or the name of a take; without, all takes of the folder.
        encoder: An `encoder_id` or the preset it begins with; needed when several wrote there.
        span: `task` for only the clips whose middle lies in the take's task, by the coordinate
            `in_task`, which datasets have of takes that say when their task is done.
        profile: A profile of the AWS files; the usual AWS settings apply without one.
        endpoint_url: Another S3 endpoint than that of AWS.
        anon: Without keys: of a bucket that anybody may read.

    Returns:
        The arrays of `takestream.schema.TABLE`, as a Dataset; as a DataTree without a take, where
        `uri` is no store. Warns when the store is not complete, or lacks
        objects that it had. Features are float16 in most stores: convert before you add them up
        (`ds.features.astype("float32")`; `takestream.mean` does), as sums of float16 lose digits.

    Raises:
        FileNotFoundError: There is no such store; the message says what is there.
        ValueError: Several stores fit, or what is there is no store that this version reads.
        ConnectionError: S3 cannot be reached.
        PermissionError: S3 refuses.
    """
    s3, where = S3Options(profile, endpoint_url, anon=anon), as_uri(uri)
    if span not in ("take", "task"):
        raise ValueError(f"span is take or task, not {span!r}")
    if take is None and not is_store(where):
        return asked(where, s3, lambda: open_tree(where, encoder, s3, span))
    store, dataset, lost = asked(where, s3, lambda: _opened(where, take, encoder, s3))
    names = names_of(dataset.attrs, store)
    if take is not None and take not in names:
        raise StorageNotFound(f"{store} is of take {' / '.join(names)}")
    wrote = str(dataset.attrs.get("encoder", {}).get("encoder_id") or encoder_id_of(store))
    if encoder is not None and not is_of_encoder(wrote, encoder):
        raise StorageNotFound(f"{store} is of encoder {wrote}, not {encoder}")
    if dataset.attrs["status"] == schema.PARTIAL:
        # `valid` is not masked here: that would read all features now.
        warnings.warn(
            f"{store} is not complete: features that are not extracted yet are NaN, some of them"
            " where `valid` is True already",
            stacklevel=2,
        )
    if lost:
        warnings.warn(loss_words(store, lost), stacklevel=2)
    return within(dataset, span, store)


def _opened(
    where: str, take: str | None, encoder: str | None, s3: S3Options
) -> "tuple[str, xarray.Dataset, list[str]]":
    """The store, its dataset, and the keys of chunks that it lacks though it is complete."""
    store = where if take is None or is_store(where) else _find(where, take, encoder, s3)
    data = read_roots([store], s3).get(store)
    if data is None:
        raise StorageNotFound(f"{store}: no store there, or one half made")
    # Checked before xarray takes memory for what the metadata say.
    root = read_root(data, store)
    dataset = open_checked(store, root, s3)
    return store, dataset, lost_objects(store, root, s3)


def _find(root: str, take: str, encoder: str | None, s3: S3Options) -> str:
    stores = of_encoder(list_stores(root, s3), encoder, root)
    if not stores:
        raise StorageNotFound(f"{root}: no store there")
    stores = [store for store in stores if uid_of(store) == take] or _by_name(stores, take, s3)
    if len(uids := sorted({uid_of(store) for store in stores})) > 1:
        raise ValueError(f"{root} holds several takes of that name: take= the uid of one, {uids}")
    return of_one_encoder(stores, encoder, root, s3)[0]


def _by_name(stores: list[str], take: str, s3: S3Options) -> list[str]:
    names = {}
    for store, data in read_roots(stores, s3).items():
        try:
            names[store] = names_of(read_root(data, store).attributes, store)[1]
        except StoreFault:
            continue  # no store of ours; another may be meant
    found = [store for store, name in names.items() if name == take]
    if not found:
        near = difflib.get_close_matches(take, [*names.values(), *map(uid_of, stores)], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StorageNotFound(f"no store of take {take!r} among {len(stores)}{hint}")
    return found
