"""The stores of one encoder under an output, described."""

import difflib
import warnings
from collections.abc import Sequence

from takestream import schema
from takestream.choice import are_empty, of_one_encoder
from takestream.errors import StorageNotFound
from takestream.licence import Licences
from takestream.root import Root, arrays_named, read_root
from takestream.storage import S3Options
from takestream.stores import (
    StoredTake,
    list_stores,
    names_of,
    read_roots,
    sources_of,
    uid_of,
)


def find_takes(
    output: str,
    encoder: str | None,
    takes: Sequence[str] | None,
    partial: bool,
    s3: S3Options,
) -> list[StoredTake]:
    """The stores under `output` by one encoder, sorted by the uid of their take.

    Args:
        output: A folder of stores, of encoders, or a store.
        encoder: An encoder_id or a preset; needed when several wrote there.
        takes: Uids or names; all without.
        partial: Whether stores that are not complete are taken as they are. Without, they are left
            out with a warning.
        s3: How to reach S3.

    Raises:
        FileNotFoundError: There is none, or none of a take that was asked for.
        ValueError: Several encoders fit, a take that was asked for is not complete, the stores do
            not fit together, or one is no store that this version reads.
    """
    if takes is not None and not takes:
        raise ValueError("takes=[] chooses none; leave it out for all")
    stores = of_one_encoder(list_stores(output, s3), encoder, output, s3)
    if takes is not None and set(takes) <= {uid_of(uri) for uri in stores}:
        stores = [uri for uri in stores if uid_of(uri) in set(takes)]
    found = [_described(uri, read_root(data, uri)) for uri, data in read_roots(stores, s3).items()]
    if takes is not None:
        found = _named(found, takes, output)
    waiting = [take for take in found if not take.complete]
    if waiting:
        # What nobody has computed anything of is as if it were not there.
        empty = are_empty([take.uri for take in waiting], s3)
        none = {take.uri for take, is_empty in zip(waiting, empty, strict=True) if is_empty}
        if len(none) < len(found):
            found = [take for take in found if take.uri not in none]
            waiting = [take for take in waiting if take.uri not in none]
    if waiting and not partial:
        what = f"{len(waiting)} of {len(found)} stores are not complete"
        how = "extract the rest, or take them as they are with partial=True"
        if takes is not None or len(waiting) == len(found):
            raise ValueError(f"{output}: {what} (first: {waiting[0].name}): {how}")
        warnings.warn(f"{output}: {what} and left out; {how}", stacklevel=5)
        found = [take for take in found if take.complete]
    if not found:
        raise StorageNotFound(f"{output}: no store there")
    if len(kinds := {(take.dim, take.dtype) for take in found}) > 1:
        raise ValueError(f"{output}: stores of different dim and dtype, {sorted(kinds)}")
    return found


def _described(uri: str, root: Root) -> StoredTake:
    uid, name = names_of(root.attributes, uri)
    return StoredTake(
        uri,
        uid,
        name,
        root.streams,
        root.sizes,
        root.attributes.get("clips_sha256"),
        root.attributes["status"] == schema.COMPLETE,
        tuple(sources_of(root.attributes).items()),
        schema.SEGMENT_LABEL in arrays_named(root.attributes),
        dict(root.attributes.get("take", {})),
        licences=Licences.of(root.attributes),
    )


def _named(found: list[StoredTake], takes: Sequence[str], output: str) -> list[StoredTake]:
    by_name = {name: take for take in found for name in (take.name, take.uid)}
    for name in takes:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StorageNotFound(f"{output}: no store of take {name!r}{hint}")
    chosen = {by_name[name].uri: by_name[name] for name in takes}
    return sorted(chosen.values(), key=lambda take: take.uid)
