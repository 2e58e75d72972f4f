"""Which encoder's stores are meant where a folder holds those of several."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from takestream import schema
from takestream.errors import StorageNotFound
from takestream.root import Root, StoreFault, read_root
from takestream.storage import S3Options, open_filesystem
from takestream.stores import encoder_id_of, is_of_encoder, read_roots

_AT_ONCE = 16


def of_encoder(stores: Sequence[str], encoder: str | None, output: str) -> list[str]:
    """Those of these stores whose encoder_id fits.

    Args:
        stores: URIs of stores below `output`.
        encoder: An encoder_id or a preset; None for any.
        output: For the message.

    Raises:
        StorageNotFound: None fits.
    """
    if encoder is None:
        return list(stores)
    fit = [uri for uri in stores if is_of_encoder(encoder_id_of(uri), encoder)]
    if not fit:
        ids = sorted({encoder_id_of(uri) for uri in stores})
        raise StorageNotFound(f"{output}: nothing of encoder {encoder!r}; there is {ids}")
    return fit


def of_one_encoder(
    stores: Sequence[str], encoder: str | None, output: str, s3: S3Options
) -> list[str]:
    """Those of these stores that one encoder wrote.

    Where several encoder_ids fit, one that has complete stores is preferred to those that have
    none, and one that has a chunk to those whose stores are empty.

    Args:
        stores: URIs of stores below `output`.
        encoder: An encoder_id or a preset; None for any.
        output: For the messages.
        s3: How to reach them.

    Raises:
        StorageNotFound: None is of that encoder.
        ValueError: Several encoders fit; the message says what each is.
        StorageError: The storage cannot be reached.
    """
    stores = of_encoder(stores, encoder, output)
    by_id: dict[str, list[str]] = defaultdict(list)
    for uri in stores:
        by_id[encoder_id_of(uri)].append(uri)
    if len(by_id) < 2:
        return stores
    roots = _roots(stores, s3)
    complete = {encoder_id_of(uri) for uri, root in roots.items() if _is_complete(root)}
    fit = sorted(complete)
    if not fit:
        partial = list(roots)
        begun = [not empty for empty in are_empty(partial, s3)]
        fit = sorted({encoder_id_of(u) for u, some in zip(partial, begun, strict=True) if some})
    if len(fit) == 1:
        return by_id[fit[0]]
    listed = "; ".join(_words(name, by_id[name], roots) for name in sorted(by_id))
    raise ValueError(
        f"{output} holds features of several encoders: encoder= one of {sorted(by_id)} ({listed})"
    )


def are_empty(stores: Sequence[str], s3: S3Options) -> list[bool]:
    """Whether each of these stores holds no chunk of features, by one listing each.

    Raises:
        StorageError: The storage cannot be reached.
    """

    def is_empty(uri: str) -> bool:
        fs, path = open_filesystem(uri, s3)
        try:
            return not fs.ls(f"{path.rstrip('/')}/{schema.FEATURES}/c", detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except PermissionError:
            return False  # whoever may read objects need not be allowed to list them

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(is_empty, stores))


def _roots(stores: Sequence[str], s3: S3Options) -> dict[str, Root]:
    found = {}
    for uri, data in read_roots(stores, s3).items():
        try:
            found[uri] = read_root(data, uri)
        except StoreFault:
            continue  # no store of ours; another may be meant
    return found


def _is_complete(root: Root) -> bool:
    return bool(root.attributes["status"] == schema.COMPLETE)


def _words(encoder_id: str, stores: Sequence[str], roots: Mapping[str, Root]) -> str:
    """What an encoder's stores are: its clips, and how many takes are complete."""
    known = [roots[uri] for uri in stores if uri in roots]
    complete = sum(map(_is_complete, known))
    grid = known[0].attributes.get("grid", {}) if known else {}
    clips = " ".join(
        f"{word} {grid[word]:g}"
        for word in ("fps", "window", "stride")
        if isinstance(grid.get(word), int | float)
    )
    about = f"{clips}, " if clips else ""
    return f"{encoder_id}: {about}{complete} of {len(stores)} takes complete"
