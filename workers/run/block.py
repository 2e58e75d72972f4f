"""Computed clips on their way into a store."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from takestream.errors import ErrorKind, StorageError
from takestream.schema import READ_FROM, Reason
from workers.clock.clips import StreamInput
from workers.clock.grid import Grid
from workers.clock.timeline import NONE
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.media.reader import Reader
from workers.media.video import Video
from workers.run.memory import peak_mib
from workers.run.tasks import ClipPart, ClipRange, Failure, Unit, UnitRecord
from workers.store.takestore import TakeStore


class Block:
    """The clips of a range, put together from its parts."""

    def __init__(self, clips: ClipRange, dim: int) -> None:
        self.clips = clips
        count = clips.stop - clips.start
        self._features = {name: no_features(count, dim) for name in clips.streams}
        self.reason = {name: np.zeros(count, dtype=np.uint8) for name in clips.streams}
        self._frame_time = {name: np.full(count, np.nan) for name in clips.streams}

    def take_in(self, part: ClipPart) -> None:
        """Put in some clips of one stream."""
        at = part.first - self.clips.start
        rows = slice(at, at + len(part.reason))
        self._features[part.stream][rows] = part.features
        self.reason[part.stream][rows] = part.reason
        self._frame_time[part.stream][rows] = part.frame_time

    def write(self, store: TakeStore, name: str, start: int) -> int:
        """Write one unit of the store, from clip `start`; the bytes written."""
        at = start - self.clips.start
        rows = slice(at, at + min(store.unit_clips, store.clips - start))
        reason = self.reason[name][rows]
        return store.write(
            name,
            start,
            features=self._features[name][rows],
            valid=reason == Reason.VALID,
            frame_time=self._frame_time[name][rows],
            reason=reason,
        )

    def write_all(self, store: TakeStore, starts: Iterable[int], counters: Counters) -> None:
        """Write the units that begin with these clips, of all streams; bytes and time are counted.

        Raises StorageError.
        """
        began = time.monotonic()
        for start in starts:
            for name in self.clips.streams:
                counters.add(bytes_written=self.write(store, name, start))
        counters.add(write_seconds=time.monotonic() - began)


def write_unit(
    unit: Unit,
    stores: Sequence[TakeStore],
    parts: Iterable[tuple[int, ClipPart]],
    counters: Counters,
) -> tuple[list[Block], list[Failure]]:
    """The clips of a unit, put together and written; and why those of some streams are not.

    Args:
        unit: Its ranges are whole units of the stores.
        stores: Range by range.
        parts: Its clips, each with the number of its range.
        counters: Of bytes and time.

    Raises:
        StorageError: Nothing could be written, the storage left two streams in a row without an
            answer, or the job cannot go on.
    """
    blocks = [Block(part, store.dim) for part, store in zip(unit.ranges, stores, strict=True)]
    for number, part in parts:
        blocks[number].take_in(part)
    failures: list[Failure] = []
    began, written, silent = time.monotonic(), 0, 0
    for block, store in zip(blocks, stores, strict=True):
        for name in block.clips.streams:
            try:
                counters.add(bytes_written=block.write(store, name, block.clips.start))
            except StorageError as error:
                silent = silent + 1 if error.kind is ErrorKind.UNAVAILABLE else 0
                last = not written and len(failures) + 1 == sum(
                    len(b.clips.streams) for b in blocks
                )
                # Each waits for its own time: of a storage that is gone two have to be enough.
                if error.kind.fatal or silent > 1 or last:
                    raise
                failures.append(Failure.of(unit.take.name, error, name))
            else:
                written, silent = written + 1, 0
    counters.add(write_seconds=time.monotonic() - began)
    return blocks, failures


def _width(block: Block) -> int:
    return len(block.clips.streams)


def unit_record(
    take: Take,
    blocks: Sequence[Block],
    seconds: float,
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> UnitRecord:
    """The record of clips that were computed; counts are those between `before` and `after`."""
    invalid: Counter[str] = Counter()
    for block in blocks:
        invalid.update({name: int((why != 0).sum()) for name, why in block.reason.items()})
    return UnitRecord(
        take=take,
        ranges=tuple(block.clips for block in blocks),
        outcome="done",
        seconds=seconds,
        invalid=dict(invalid),
        counts={name: after[name] - before.get(name, 0) for name in after},
        peak_mib=peak_mib(),
    )


def whole_units(store: TakeStore, clips: ClipRange) -> list[int]:
    """The first clips of the store's units that lie wholly in the range."""
    size = store.unit_clips
    return [
        start
        for start in range(0, store.clips, size)
        if clips.start <= start and min(start + size, store.clips) <= clips.stop
    ]


def no_features(clips: int, dim: int) -> NDArray[np.float32]:
    """Features of clips that have none; float32 [clips, dim] of NaN."""
    return np.full((clips, dim), np.nan, dtype=np.float32)


def unreadable_part(
    clips: ClipRange, stream: str, reason: Reason, dim: int, times: NDArray[np.float64]
) -> ClipPart:
    """The clips of a stream of which nothing can be decoded.

    Args:
        clips: all of them.
        stream: its key.
        reason: why.
        dim: of the features.
        times: float64 [clips], as `frame_times`.
    """
    count = clips.stop - clips.start
    reasons = np.full(count, reason, dtype=np.uint8)
    return ClipPart(stream, clips.start, no_features(count, dim), reasons, times)


def frame_times(
    grid: Grid, clips: ClipRange, reader: Reader | None, stream: StreamInput | None
) -> NDArray[np.float64]:
    """Seconds at which each clip's first frame is shown; float64 [clips], NaN for none."""
    times = np.full(clips.stop - clips.start, np.nan)
    if reader is not None and stream is not None:
        shown = stream.timeline.samples(grid)[grid.start[clips.start : clips.stop]]
        times[shown != NONE] = reader.times()[shown[shown != NONE]]
    return times


def note_places(store: TakeStore, places: Mapping[str, Iterable[str]]) -> None:
    """Add to a store's provenance where its streams were read; what is there costs nothing.

    Args:
        store: Open for writing.
        places: By stream, as `Place.name`.
    """
    known = store.attributes.get("provenance", {}).get("streams", {})
    new = {}
    for name, some in places.items():
        before = set(known.get(name, {}).get(READ_FROM, ()))
        if name in store.streams and not before.issuperset(some):
            new[name] = {READ_FROM: sorted(before.union(some))}
    if new:
        store.update_attributes(provenance={"streams": new})


def note_handed_over(
    blocks: Sequence[Block], stores: Sequence[TakeStore], videos: Mapping[str, Video]
) -> None:
    """Write into the stores which streams proved, while read, not to be what their index says."""
    for block, store in zip(blocks, stores, strict=True):
        for name in block.clips.streams:
            if name in videos and (why := videos[name].handed_over):
                store.note(name, f"read from its beginning from some frame on, because {why}")
