"""Marks that a complete store is being changed, for whoever believes a catalogue of it."""

import contextlib
import uuid
from collections.abc import Iterator

from takestream.catalogue import CHANGED
from takestream.schema import COMPLETE
from takestream.stores import encoder_id_of, is_encoder_id, is_store, uid_of
from workers.store.objects import Objects


@contextlib.contextmanager
def marked(objects: Objects, status: str) -> Iterator[None]:
    """Mark a store around a change of its root, if it was complete and lies in an output.

    Before, so that no end of this process leaves a change without a mark; and after, as whoever
    writes the catalogue in between has read the old root, and removes the marks that it saw.

    Args:
        objects: Of the store.
        status: That it has before the change.

    Raises:
        StorageError: The mark cannot be written.
    """
    uri = objects.uri
    if status != COMPLETE or not is_store(uri) or not is_encoder_id(encoder_id_of(uri)):
        yield
        return
    folder, mark = objects.beside(), f"{CHANGED}/{uid_of(uri)}"
    folder.put(f"{mark}.{uuid.uuid4().hex[:8]}", b"")
    yield
    folder.put(f"{mark}.{uuid.uuid4().hex[:8]}", b"")
