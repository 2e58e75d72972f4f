"""The takes that a worker has probed, so that units which follow each other probe none again."""

import threading
from collections import OrderedDict

from takestream.errors import StorageError
from workers.clock.probe import TakeProbe, probe_take
from workers.dataset.base import Dataset
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

    def leave_out(self, take: Take, stream: str, error: StorageError) -> None:
        """One stream's object can be read no longer: later units of the take pass over it."""
        with self._lock:
            if (found := self._takes.get(take.uid)) is None:
                return
            probe, videos = found
            readable = {name: video for name, video in videos.items() if name != stream}
            self._takes[take.uid] = probe.without(stream, error), readable
