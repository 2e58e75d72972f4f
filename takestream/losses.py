"""Objects that a complete store has lost: what they held would read as other values."""

import itertools
from collections.abc import Sequence

from takestream import schema
from takestream.root import Root, arrays_named
from takestream.storage import S3Options, open_filesystem
from takestream.stores import uid_of


def lost_objects(store: str, root: Root, s3: S3Options) -> list[str]:
    """Keys of chunks that a store lacks though it is complete, by one listing of it.

    None where listing is not allowed: whoever may read objects need not be allowed to list them.

    Args:
        store: Its URI.
        root: Its checked root.
        s3: How to reach it.

    Raises:
        StorageError: The storage cannot be reached.
    """
    if root.attributes["status"] != schema.COMPLETE:
        return []
    fs, path = open_filesystem(store, s3)
    try:
        fs.invalidate_cache(path)
        found = {name.rpartition(f"{uid_of(store)}.zarr/")[2] for name in fs.find(path)}
    except (NotImplementedError, PermissionError):
        return []
    if not found:
        return []
    wanted = []
    for name in arrays_named(root.attributes):
        spec = schema.SPECS[name]
        shape, chunks = spec.shape(root.sizes), spec.chunk_shape(root.sizes)
        counts = [range(-(-length // step)) for length, step in zip(shape, chunks, strict=True)]
        wanted += ["/".join([name, "c", *map(str, at)]) for at in itertools.product(*counts)]
    return [key for key in wanted if key not in found]


def loss_words(store: str, lost: Sequence[str]) -> str:
    """What a reader is told of a store that lost these objects."""
    some = f"{', '.join(lost[:3])}{f' and {len(lost) - 3} more' if len(lost) > 3 else ''}"
    return (
        f"{store} lacks objects though it was complete: {some}. What they held reads as"
        " invalid, not extracted or NaN; `takestream verify --repair` extracts it again"
    )
