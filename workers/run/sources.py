"""Whether the objects that a store was made from are still the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.clock.probe import TakeProbe
from workers.dataset.base import Dataset, source_of
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.media.source import ObjectIdentity
from workers.store.takestore import TakeStore


@dataclass(frozen=True)
class SourceObject:
    """A stream's object as it is now.

    Attributes:
        uri: where it lies.
        identity: which version of it is there.
        listed: its size as the data set has it, where it does.
        start_offset: where on the take's clock it begins, if not with the take.
    """

    uri: str | None
    identity: ObjectIdentity
    listed: int | None
    start_offset: float | None

    def differs(self, facts: Mapping[str, Any]) -> bool:
        """Whether it, or where it lies on the take's clock, is another than a provenance says.

        The same video of a release may be read from its bucket or from a mirror: then its size,
        which the release lists, has to tell.
        """
        known = facts.get("size"), facts.get("etag")
        if not known[1] or (facts.get("start_offset") or 0.0) != (self.start_offset or 0.0):
            return True
        if known == (self.identity.size, self.identity.etag):
            return False
        moved = facts.get("uri") != self.uri
        return not (moved and self.listed == known[0] == self.identity.size)


def objects_now(
    take: Take, streams: Sequence[str], dataset: Dataset, counters: Counters
) -> dict[str, SourceObject]:
    """By stream, its object now; those that are gone are left out.

    One HEAD for each. Raises StorageError when the storage fails.
    """
    found = {}
    for stream in take.streams:
        if stream.key in streams and stream.uri is not None:
            try:
                identity = source_of(dataset, stream, counters).identity()
            except FileNotFoundError:
                continue
            found[stream.key] = SourceObject(stream.uri, identity, stream.size, stream.start_offset)
    return found


def differ(store: TakeStore, now: Mapping[str, SourceObject]) -> bool:
    """Whether any of these objects is another one than the store was made from."""
    known = _known(store)
    return any(there.differs(known.get(key, {})) for key, there in now.items())


def _known(store: TakeStore) -> Mapping[str, Mapping[str, Any]]:
    """By stream, what its provenance says."""
    facts: Mapping[str, Mapping[str, Any]] = store.attributes.get("provenance", {}).get(
        "streams", {}
    )
    return facts


def changed_streams(store: TakeStore, probe: TakeProbe) -> set[str]:
    """The streams whose object is another one than the store was made from."""
    known = _known(store)
    return {
        name
        for name, now in probe.streams.items()
        if name in store.streams
        and now.identity is not None
        and SourceObject(now.uri, now.identity, now.listed, now.start_offset).differs(
            known.get(name, {})
        )
    }
