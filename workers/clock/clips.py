"""All streams of a take into aligned batches of clips; each frame is decoded once.

Several targets (encoders on grids of their own) may be fed from one decoding: a frame is turned
into a picture once for each preprocessing that a target asks for it with.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import Sampling
from models.preprocess import stacked
from takestream.schema import Reason
from workers.clock.grid import Grid
from workers.clock.timeline import NONE, Timeline
from workers.media.pictures import Pictures, Wanted
from workers.media.session import Decoded

# Frames that a decode thread hands over together, at most.
TOGETHER = 16

# Decodes samples [first, last) of one stream, each exactly once; the sets name, by preprocessing,
# the samples of which a picture is made.
Decode = Callable[[int, int, Wanted], Iterator[Decoded[Pictures]]]


@dataclass(frozen=True)
class StreamInput:
    """A stream to read clips of: how its samples are decoded, and when they are shown."""

    decode: Decode
    timeline: Timeline


@dataclass(frozen=True, eq=False)
class ClipRequest:
    """Clips `[start, stop)` of a grid, for some streams.

    Attributes:
        grid: where the clips lie.
        start, stop: the clips.
        streams: keys of the streams.
        frames: frames of a clip that the encoder sees.
        batch: clips of one batch.
        preprocessing: which of a frame's pictures the clips are made of.
        sampling: which frames of a clip the encoder sees. With `lattice` each comes once, for all
            clips that it is in.
    """

    grid: Grid
    start: int
    stop: int
    streams: tuple[str, ...]
    frames: int
    batch: int
    preprocessing: int = 0
    sampling: Sampling = "spread"


@dataclass(frozen=True, eq=False)
class SharedFrames:
    """The frames of a batch's clips, those left out that came with an earlier batch.

    Attributes:
        numbers: of the samples that come now.
        pictures: uint8 [3, H, W] each, as many as `numbers`.
        seen: int64 [valid clips, T], the samples that each clip is made of.
        lowest: samples below this are in no later clip of the request.
    """

    numbers: tuple[int, ...]
    pictures: Sequence[Tensor]
    seen: NDArray[np.int64]
    lowest: int


@dataclass(frozen=True)
class ClipBatch:
    """Consecutive clips of one stream.

    Attributes:
        request: number of the request that they are for.
        stream: key of the stream.
        first: number of the first clip.
        reason: uint8 [clips].
        clips: uint8 [T, 3, H, W] each, the valid ones only; none where they are made of shared
            frames.
        shared: what the valid clips are made of, where they share frames.
    """

    request: int
    stream: str
    first: int
    reason: NDArray[np.uint8]
    clips: Sequence[Tensor]
    shared: SharedFrames | None = None


class ClipReader:
    """Clips of several streams, for one or more requests, decoded by one thread for each stream.

    Iterating gives batches, stream by stream for the same moment of the take, so that a batch never
    mixes streams, and a stream's batches are the same whatever else is read with it. Each thread
    runs at most one batch and one window ahead: that is the memory bound.

    Use as a context manager; leaving it stops the threads. Errors of a thread are raised here.

    Args:
        requests: the clips wanted.
        inputs: by key, the streams that can be read.
    """

    def __init__(self, requests: Sequence[ClipRequest], inputs: Mapping[str, StreamInput]) -> None:
        self._requests = requests
        self._stopped = threading.Event()
        self._readers: dict[str, _StreamReader] = {}
        for name, stream in inputs.items():
            parts = {
                number: _Part(request, stream.timeline.samples(request.grid))
                for number, request in enumerate(requests)
                if name in request.streams and request.start < request.stop
            }
            if parts:
                self._readers[name] = _StreamReader(name, stream.decode, parts, self._stopped)

    def __enter__(self) -> "ClipReader":
        for reader in self._readers.values():
            reader.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for reader in self._readers.values():
            reader.drain()

    def __iter__(self) -> Iterator[ClipBatch]:
        for number, first, stop in self._batches():
            for name, reader in self._readers.items():
                if name not in self._requests[number].streams:
                    continue
                yield reader.batch(number, first, stop)

    def _batches(self) -> list[tuple[int, int, int]]:
        """Request, first clip and clip after the last of each batch, as the take goes on."""
        batches = []
        for number, request in enumerate(self._requests):
            last = 0
            for first in range(request.start, request.stop, request.batch):
                stop = min(first + request.batch, request.stop)
                shown = request.grid.source[request.grid.stop[first:stop] - 1]
                # Segments may lie within others; a request's batches stay in order.
                last = max(last, int(shown.max()))
                batches.append((last, number, first, stop))
        return [(number, first, stop) for _, number, first, stop in sorted(batches)]


class _Part:
    """One request as one stream sees it: in numbers of the stream's samples.

    Attributes:
        first, last: by clip, the samples `[first, last)` that it needs; empty when there are none.
        absent: by clip, VALID, or why some of its grid frames have no sample.
        seen: int64 [clips, T], the samples that the encoder sees, -1 for none.
    """

    def __init__(self, request: ClipRequest, samples: NDArray[np.int64]) -> None:
        grid, clips = request.grid, slice(request.start, request.stop)
        self.request = request
        self.seen = samples[grid.sampled(request.frames, request.sampling)[clips]]
        there = np.flatnonzero(samples != NONE)
        end = int(there[-1]) + 1 if len(there) else 0
        self.first: list[int] = []
        self.last: list[int] = []
        self.absent: list[Reason] = []
        for row, (start, stop) in enumerate(zip(grid.start[clips], grid.stop[clips], strict=True)):
            # A segment may take minutes, of which the encoder sees few frames: they decide.
            shown = self.seen[row] if grid.segments else samples[start:stop]
            known = shown[shown != NONE]
            absent = Reason.VALID
            if len(known) < len(shown):
                absent = Reason.PAST_END if stop > end else Reason.MISSING_FRAME
            self.absent.append(absent)
            self.first.append(int(known.min()) if len(known) else 0)
            self.last.append(int(known.max()) + 1 if len(known) else 0)
        # By clip, the lowest sample that it or a later one needs.
        lowest = np.where(np.array(self.last) > 0, self.first, np.iinfo(np.int64).max)
        self._lowest = np.minimum.accumulate(lowest[::-1])[::-1]
        self._row = 0
        # Samples that were given away already, as far as coming clips need them.
        self.given: set[int] = set()

    @property
    def wanted(self) -> frozenset[int]:
        """The samples that become pictures."""
        return frozenset(self.seen[self.seen != NONE].tolist())

    @property
    def ahead(self) -> int:
        """Samples that a batch and a clip span: how far decoding runs ahead."""
        first = np.array([a for a, b in zip(self.first, self.last, strict=True) if b])
        longest = max((b - a for a, b in zip(self.first, self.last, strict=True)), default=0)
        return self.request.batch * int(np.diff(first).max(initial=1)) + longest

    @property
    def needed(self) -> int:
        """The lowest sample that a coming clip needs."""
        past = self._row >= len(self._lowest)
        return int(np.iinfo(np.int64).max if past else self._lowest[self._row])

    def judged(self, row: int) -> Sequence[int]:
        """The samples that decide whether a clip is valid."""
        if self.request.grid.segments:
            return [number for number in self.seen[row].tolist() if number != NONE]
        return range(self.first[row], self.last[row])

    def done(self, row: int) -> None:
        """The clip needs nothing more."""
        self._row = row + 1
        lowest = self.needed
        self.given = {sample for sample in self.given if sample >= lowest}


class _StreamReader:
    """One stream's decode thread and the frames that coming clips still need."""

    def __init__(
        self, name: str, decode: Decode, parts: Mapping[int, _Part], stopped: threading.Event
    ) -> None:
        self._name = name
        self._decode, self._parts, self._stopped = decode, parts, stopped
        needing = [
            (a, b)
            for part in parts.values()
            for a, b in zip(part.first, part.last, strict=True)
            if b
        ]
        self._range = (min(a for a, _ in needing), max(b for _, b in needing)) if needing else None
        self._next = self._oldest = self._range[0] if self._range else 0
        self._frames: dict[int, Decoded[Pictures]] = {}
        ahead = max(4, *(part.ahead for part in parts.values()))
        # Frames are handed over several at a time: at each hand-over two threads wake each other
        # and pass the interpreter on, which costs more than all else that is done for a frame here.
        self._together = max(1, min(TOGETHER, ahead // 4))
        self._queue: queue.SimpleQueue[list[Decoded[Pictures]] | BaseException]
        self._queue = queue.SimpleQueue()
        # A token for each hand-over that the thread may be ahead, besides the one that it fills and
        # the one that is being used.
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(max(1, ahead // self._together - 2)):
            self._room.put(None)
        self.thread = threading.Thread(target=self._run, name=f"decode {name}", daemon=True)

    def batch(self, request: int, first: int, stop: int) -> ClipBatch:
        """Clips `[first, stop)` of a request."""
        part = self._parts[request]
        share = part.request.sampling == "lattice"
        reasons, clips, seen = [], [], []
        new: dict[int, Tensor] = {}
        for number in range(first, stop):
            reason, frames = self._clip(part, number, new if share else None)
            reasons.append(reason)
            if reason is Reason.VALID:
                seen.append(part.seen[number - part.request.start])
            if frames is not None:
                clips.append(frames)
        shared = None
        if share and seen:
            pictures = tuple(new.values())
            shared = SharedFrames(tuple(new), pictures, np.array(seen), part.needed)
        reason_of = np.array(reasons, dtype=np.uint8)
        return ClipBatch(request, self._name, first, reason_of, clips, shared)

    def _clip(
        self, part: _Part, number: int, new: dict[int, Tensor] | None
    ) -> tuple[Reason, Tensor | None]:
        """A clip: why it is invalid, or its pictures uint8 [T, 3, H, W].

        With `new` its pictures go there instead, by sample, unless they were given before.
        """
        row = number - part.request.start
        while self._next < part.last[row]:
            item = self._queue.get()
            self._room.put(None)
            if isinstance(item, BaseException):
                raise item
            self._frames.update((decoded.frame, decoded) for decoded in item)
            self._next = item[-1].frame + 1
        reasons = [self._frames[sample].reason for sample in part.judged(row)]
        reason = max([part.absent[row], *reasons])
        clip = None
        if reason is Reason.VALID and new is None:
            clip = stacked([self._picture(part, sample) for sample in part.seen[row].tolist()])
        elif reason is Reason.VALID and new is not None:
            for sample in part.seen[row].tolist():
                if sample not in part.given:
                    new[sample] = self._picture(part, sample)
                    part.given.add(sample)
        part.done(row)
        needed = min(part.needed for part in self._parts.values())
        while self._oldest < min(needed, self._next):
            self._frames.pop(self._oldest, None)
            self._oldest += 1
        return reason, clip

    def _picture(self, part: _Part, sample: int) -> Tensor:
        made = self._frames[sample].picture
        picture = made[part.request.preprocessing] if made else None
        assert picture is not None  # its sample is good, and it was wanted
        return picture

    def drain(self) -> None:
        """Let the thread end, wherever it waits, and wait for it."""
        while self.thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
                self._room.put(None)
            except queue.Empty:
                self.thread.join(0.05)

    def _run(self) -> None:
        if self._range is None:
            return
        count = 1 + max(part.request.preprocessing for part in self._parts.values())
        wanted = [
            frozenset[int]().union(
                *(p.wanted for p in self._parts.values() if p.request.preprocessing == number)
            )
            for number in range(count)
        ]
        waiting: list[Decoded[Pictures]] = []
        try:
            for decoded in self._decode(*self._range, wanted):
                if self._stopped.is_set():
                    return
                waiting.append(decoded)
                if len(waiting) == self._together:
                    self._room.get()
                    self._queue.put(waiting)
                    waiting = []
            if waiting:
                self._queue.put(waiting)
                waiting = []
            # Read only if a frame is missing; without it the reader would wait for ever.
            self._queue.put(RuntimeError(f"{self.thread.name}: ended before its last frame"))
        except BaseException as error:  # noqa: BLE001 - handed to the reader, which raises it
            if waiting:
                self._queue.put(waiting)
            self._queue.put(error)
