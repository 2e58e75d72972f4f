"""Whether the objects that a store was made from are still the same."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from takestream.errors import StorageError, StorageUnavailable
from takestream.schema import UNREAD
from workers.clock.probe import StreamProbe, TakeProbe
from workers.dataset.base import Dataset, place_of
from workers.dataset.take import Stream, Take
from workers.media.counters import Counters
from workers.media.source import ObjectIdentity, SourceChanged
from workers.store.takestore import TakeStore


@dataclass(frozen=True)
class SourceObject:
    """A stream's object as it is now.

    Attributes:
        uri: where it lies.
        identity: which version of it is there.
        host: whose disk it is on, where that is a mirror's.
        listed: its size as the data set has it, where it does.
        start_offset: where on the take's clock it begins, if not with the take.
    """

    uri: str | None
    identity: ObjectIdentity
    listed: int | None
    start_offset: float | None
    host: str | None = None

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
        moved = (facts.get("uri"), facts.get("host")) != (self.uri, self.host)
        return not (moved and self.listed == known[0] == self.identity.size)


def objects_now(
    take: Take, streams: Sequence[str], dataset: Dataset, counters: Counters
) -> tuple[dict[str, SourceObject], dict[str, StorageError]]:
    """By stream, its object now, and why it cannot be looked at; not those gone.

    One HEAD for each. Raises StorageError when none can be looked at, or for a reason that ends a
    job.
    """
    there = [stream for stream in take.streams if stream.key in streams and stream.uri is not None]

    def look(stream: Stream) -> SourceObject | StorageError | None:
        try:
            place = place_of(dataset, stream, counters)
            identity = place.source(counters).identity()
        except FileNotFoundError:
            return None
        except StorageError as error:
            if error.kind.fatal:
                raise
            return error
        return SourceObject(
            place.uri, identity, stream.size, stream.start_offset, place.host or None
        )

    with ThreadPoolExecutor(max(1, len(there)), thread_name_prefix="head") as pool:
        seen = dict(zip((stream.key for stream in there), pool.map(look, there), strict=True))
    found = {key: one for key, one in seen.items() if isinstance(one, SourceObject)}
    unread = {key: one for key, one in seen.items() if isinstance(one, StorageError)}
    if unread and not found:
        raise next(iter(unread.values()))
    return found, unread


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


def unread_then(store: TakeStore) -> bool:
    """Whether streams of the take could not be read, nor vote on its length, when it was made."""
    return bool(store.attributes.get("provenance", {}).get(UNREAD))


def changed_streams(store: TakeStore, probe: TakeProbe) -> set[str]:
    """The streams whose object is another one than the store was made from."""
    known = _known(store)
    return {
        name
        for name, now in probe.streams.items()
        if name in store.streams
        and now.identity is not None
        and SourceObject(now.uri, now.identity, now.listed, now.start_offset, now.host).differs(
            known.get(name, {})
        )
    }


def refuse_contradiction(streams: Iterable[str], store: TakeStore, probe: TakeProbe) -> None:
    """Trust no object that is, or reads, otherwise than when the store was made.

    Raises:
        SourceChanged: It is another version.
        StorageUnavailable: The same version's index shows another number of frames than the
            store's provenance.
    """
    known, changed = _known(store), changed_streams(store, probe)
    for name in streams:
        facts, now = known.get(name, {}), probe.streams[name]
        if name in changed:
            raise _changed(now.uri or name, "since the store was made")
        same = bool(now.etag) and facts.get("etag") == now.etag
        if same and facts.get("frames", now.frames) != now.frames:
            error = StorageUnavailable(
                f"{now.uri}: its index shows {now.frames} frames, and {facts['frames']} when "
                "the store was made from the same version of it, so it is the storage that is "
                "at fault; run again"
            )
            error.uri = now.uri or ""
            raise error


def check_unchanged(probed: Iterable[StreamProbe], counters: Counters) -> None:
    """Look once more whether objects that were read are the ones that were probed.

    One HEAD for each.

    Raises:
        SourceChanged: One is not.
        StorageError: The storage fails.
    """
    streams = list(probed)
    with ThreadPoolExecutor(max(1, len(streams)), thread_name_prefix="head") as pool:
        now = list(pool.map(lambda stream: stream.source(counters).identity(), streams))
    for stream, identity in zip(streams, now, strict=True):
        if identity != stream.identity:
            raise _changed(stream.uri or "", "while it was read")


def _changed(uri: str, when: str) -> SourceChanged:
    error = SourceChanged(f"{uri}: the object changed {when}; run again")
    error.uri = uri
    return error
