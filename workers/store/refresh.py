"""What the data set says of a take, put into a store that is there already."""

from collections.abc import Mapping
from typing import Any

from takestream.facts import NOTES, notes_of
from workers.store.takestore import TakeStore


def refresh_facts(store: TakeStore, take: Mapping[str, Any]) -> bool:
    """Make the attribute `take` of a store what the data set says now; whether that was another.

    Facts that the data set does not state, or states no more, become null.

    Args:
        store: Writable.
        take: As `Take.facts` gives it.

    Raises:
        StorageError: The store cannot be written.
    """
    notes = notes_of(take)
    said = store.attributes.get("problems", {}).get(NOTES, [])
    if store.attributes.get("take") == dict(take) and said == notes:
        return False

    def change(attributes: dict[str, Any]) -> None:
        attributes["take"] = dict(take)
        problems = attributes.setdefault("problems", {})
        problems.pop(NOTES, None)
        if notes:
            problems[NOTES] = notes

    store.change_attributes(change)
    return True
