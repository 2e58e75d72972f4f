"""Open a store as an xarray.Dataset, by its own URI or by the take's name."""

import difflib
import json
import posixpath
from typing import TYPE_CHECKING, Any

from takestream.storage import S3Options, join, open_filesystem

if TYPE_CHECKING:
    import xarray


def open(
    uri: str,
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

    Raises FileNotFoundError when there is no such store and ValueError when several fit; both
    messages say what is there.
    """
    import xarray  # half a second that workers, who share this package, need not wait

    s3 = S3Options(profile, endpoint_url)
    store = uri.rstrip("/")
    if not store.endswith(".zarr"):
        store = _find(store, take, encoder, s3)
    options = s3.for_uri(store)
    dataset: xarray.Dataset = xarray.open_zarr(
        store, storage_options=options or None, zarr_format=3
    )
    if take is not None and take not in _names(dataset.attrs):
        raise FileNotFoundError(f"{store} is of take {' / '.join(_names(dataset.attrs))}")
    return dataset


def _find(root: str, take: str | None, encoder: str | None, s3: S3Options) -> str:
    fs, path = open_filesystem(root, s3)
    if not fs.exists(path):
        raise FileNotFoundError(f"{root}: no such folder")
    stores = _stores(fs, path, root)
    if encoder is not None:
        ids = sorted({posixpath.basename(posixpath.dirname(store)) for store in stores})
        kept = [name for name in ids if name == encoder or name.rpartition("-")[0] == encoder]
        if not kept:
            raise FileNotFoundError(f"{root}: nothing of encoder {encoder!r}; there is {ids}")
        stores = [s for s in stores if posixpath.basename(posixpath.dirname(s)) in kept]
    if take is not None:
        stores = [store for store in stores if _uid(store) == take] or _by_name(stores, take, s3)
    if len(stores) == 1:
        return stores[0]
    if not stores:
        raise FileNotFoundError(f"{root}: no store there")
    if len({_uid(store) for store in stores}) > 1:
        raise ValueError(f"{root} holds {len(stores)} stores: say which take (its uid or name)")
    ids = sorted(posixpath.basename(posixpath.dirname(store)) for store in stores)
    raise ValueError(f"{root} holds this take by several encoders: encoder= one of {ids}")


def _stores(fs: Any, path: str, root: str) -> list[str]:
    found = []
    for entry in _folders(fs, path):
        if entry.endswith(".zarr"):
            found.append(join(root, entry))
        else:
            below = _folders(fs, f"{path.rstrip('/')}/{entry}")
            found += [join(root, entry, name) for name in below if name.endswith(".zarr")]
    return sorted(found)


def _folders(fs: Any, path: str) -> list[str]:
    entries = fs.ls(path, detail=True)
    return [
        posixpath.basename(entry["name"].rstrip("/"))
        for entry in entries
        if entry["type"] == "directory"
    ]


def _by_name(stores: list[str], take: str, s3: S3Options) -> list[str]:
    names = {}
    for store in stores:
        fs, path = open_filesystem(store, s3)
        attributes = json.loads(fs.cat_file(f"{path}/zarr.json"))["attributes"]
        names[store] = str(attributes.get("take", {}).get("take_name"))
    found = [store for store, name in names.items() if name == take]
    if not found:
        near = difflib.get_close_matches(take, [*names.values(), *map(_uid, stores)], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(f"no store of take {take!r} among {len(stores)}{hint}")
    return found


def _uid(store: str) -> str:
    return posixpath.basename(store).removesuffix(".zarr")


def _names(attributes: dict[str, Any]) -> list[str]:
    take = attributes.get("take", {})
    return [str(take.get("take_uid")), str(take.get("take_name"))]
