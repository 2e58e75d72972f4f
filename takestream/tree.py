"""All takes of an encoder as one xarray.DataTree."""

import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from takestream import schema
from takestream.choice import of_encoder, of_one_encoder
from takestream.dataset import Span, open_checked, within
from takestream.errors import StorageNotFound
from takestream.losses import loss_words, lost_objects
from takestream.root import Root, StoreFault, read_root
from takestream.storage import S3Options
from takestream.stores import list_stores, names_of, read_roots

if TYPE_CHECKING:
    import xarray

_PARALLEL = 16


def open_tree(
    root: str, encoder: str | None, s3: S3Options, span: Span = "take"
) -> "xarray.DataTree":
    """A tree with a node for each take of one encoder; see `takestream.open`.

    Args:
        root: An output, or the folder of an encoder.
        encoder: An `encoder_id` or a preset; needed when several wrote there.
        s3: How to reach it.
        span: `task` for only the clips in it; takes that do not say when it is are left out.

    Raises:
        StorageNotFound: There is no store, or none of that encoder.
        ValueError: Several encoders fit, or no take says when its task is done.
    """
    import xarray

    # Folders that a server kept of what was removed hold no root, and are no choice.
    found = read_roots(of_encoder(list_stores(root, s3), encoder, root), s3)
    chosen = set(of_one_encoder(list(found), encoder, root, s3))
    found = {uri: data for uri, data in found.items() if uri in chosen}
    roots: dict[str, Root] = {}
    damaged = []
    for store, data in found.items():
        try:
            roots[store] = read_root(data, store)
        except StoreFault as error:
            damaged.append(str(error))
    if not roots:
        raise StorageNotFound(damaged[0] if damaged else f"{root}: no store there")
    names = {store: names_of(found.attributes, store) for store, found in roots.items()}
    times = Counter(name for _, name in names.values())
    with ThreadPoolExecutor(_PARALLEL) as pool:
        nodes = list(pool.map(lambda store: open_checked(store, roots[store], s3), roots))
        losses = list(pool.map(lambda store: lost_objects(store, roots[store], s3), roots))
    partial = sum(node.attrs["status"] == schema.PARTIAL for node in nodes)
    if partial:
        warnings.warn(
            f"{root}: {partial} of {len(nodes)} takes are not complete: features that are not"
            " extracted yet are NaN; `takestream.ls` says which",
            stacklevel=5,
        )
    lossy = [(store, lost) for store, lost in zip(roots, losses, strict=True) if lost]
    if lossy:
        warnings.warn(
            f"{root}: {len(lossy)} of {len(nodes)} takes lost objects; {loss_words(*lossy[0])}",
            stacklevel=5,
        )
    if damaged:
        warnings.warn(
            f"{root}: {len(damaged)} stores are left out, e.g. {damaged[0]}", stacklevel=5
        )
    if span == "task":
        known = [number for number, node in enumerate(nodes) if schema.IN_TASK in node]
        if not known:
            within(nodes[0], span, root)
        if len(known) < len(nodes):
            warnings.warn(
                f"{root}: {len(nodes) - len(known)} of {len(nodes)} takes do not say when their"
                " task is done and are left out",
                stacklevel=5,
            )
        names = {store: names[store] for store in [list(names)[number] for number in known]}
        nodes = [within(nodes[number], span, root) for number in known]
    tree = {}
    for node, (uid, name) in zip(nodes, names.values(), strict=True):
        # A name may be that of two takes, or no name of a node.
        tree[uid if times[name] > 1 or "/" in name or name in ("", ".", "..") else name] = node
    return xarray.DataTree.from_dict(dict(sorted(tree.items())))
