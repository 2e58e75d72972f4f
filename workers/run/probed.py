"""The takes that a worker has probed, so that units which follow each other probe none again."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from takestream.errors import StorageError, StorageUnavailable
from workers.clock.probe import TakeProbe, probe_take
from workers.dataset.base import Dataset, Place
from workers.dataset.mirrors import distrust
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.media.video import Video

Probed = tuple[TakeProbe, dict[str, Video]]

# Takes whose indexes stay in memory: units of one take tend to follow each other.
KEPT_TAKES = 8


class ProbedTakes:
    """What probing found of the takes used last. Safe to use from several threads."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._lock = threading.Lock()
        self._takes: OrderedDict[str, Probed] = OrderedDict()

    def get(self, take: Take, counters: Counters, *, whole: bool = False) -> Probed:
        """What probing the take found, by probing it where that is not known.

        Args:
            take: whole.
            counters: of requests and bytes.
            whole: Whether to probe again what could not all be read last time.

        Raises:
            StorageError: As `probe_take`.
        """
        with self._lock:
            found = self._takes.get(take.uid)
        if found is None or (whole and found[0].unread):
            found = probe_take(take, self._dataset, counters)
        self.keep(take, found)
        return found

    def keep(self, take: Take, probed: Probed) -> None:
        """Remember what probing a take found."""
        with self._lock:
            self._takes[take.uid] = probed
            self._takes.move_to_end(take.uid)
            while len(self._takes) > KEPT_TAKES:
                self._takes.popitem(last=False)

    def forget(self, take: Take) -> None:
        """Probe the take anew next time."""
        with self._lock:
            self._takes.pop(take.uid, None)

    def without_copy(self, take: Take, error: StorageError) -> bool:
        """Whether an error is a mirror's; then its copy is read no more, and the take probed anew.

        Args:
            take: that was read.
            error: of one of its objects.
        """
        with self._lock:
            found = self._takes.get(take.uid)
        streams = found[0].streams.values() if found else ()
        places = [probe.place for probe in streams if probe.place and probe.place.mirror]
        for place in places:
            if place.uri == error.uri:
                distrust(place, f"the mirror's file cannot be used ({error})")
                self.forget(take)
                return True
        return False

    def leave_out(self, take: Take, stream: str, error: StorageError) -> None:
        """One stream's object can be read no longer: later units of the take pass over it."""
        with self._lock:
            if (found := self._takes.get(take.uid)) is None:
                return
            probe, videos = found
            readable = {name: video for name, video in videos.items() if name != stream}
            self._takes[take.uid] = probe.without(stream, error), readable


def places_of(probe: TakeProbe, streams: Iterable[str]) -> dict[str, str]:
    """By stream that has an object, of those named, where it is read, as reports name it."""
    places = {name: probe.streams[name].place for name in streams}
    return {name: place.name for name, place in places.items() if place}


def damaged_copy(place: Place) -> StorageUnavailable:
    """The error of a mirror's copy that shows damage: the release's object may be whole."""
    error = StorageUnavailable("pictures in it are damaged")
    error.uri = place.uri
    return error
