"""All streams of a take into aligned batches of clips; each frame is decoded and resized once."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from takestream.schema import Reason
from workers.clock.grid import Grid
from workers.media.decode import Decoded

# Decodes frames [first, last) of one stream; `wanted` says which of them become pictures.
Decoder = Callable[[int, int, Callable[[int], bool]], Iterator[Decoded[Tensor]]]


@dataclass(frozen=True)
class ClipBatch:
    """Consecutive clips of one stream.

    first: number of the first clip. reason: uint8 [clips].
    clips: uint8 [valid clips, T, 3, H, W], the valid ones only, or none when no clip is valid.
    """

    stream: str
    first: int
    reason: NDArray[np.uint8]
    clips: Tensor | None


class ClipReader:
    """Clips `[start, stop)` of several streams, decoded by one thread each.

    Iterating gives batches of `batch` clips, stream by stream for the same moment of the take, so
    that a batch never mixes streams and a stream's batches are the same whatever else is read with
    it. Each thread runs at most one batch and one window ahead: that is the memory bound.
    Use as a context manager; leaving it stops the threads. Errors of a thread are raised here.
    """

    def __init__(
        self,
        grid: Grid,
        decoders: Mapping[str, Decoder],
        start: int,
        stop: int,
        *,
        frames: int,
        batch: int,
    ) -> None:
        self._grid, self._start, self._stop, self._batch = grid, start, stop, batch
        self._seen = grid.source[grid.sampled(frames)[start:stop]]
        windows = (grid.start[start:stop], grid.stop[start:stop])
        self._first = grid.source[windows[0]]
        self._last = grid.source[windows[1] - 1] + 1
        spread = int(np.diff(self._first).max(initial=1))
        ahead = max(4, batch * spread + int((self._last - self._first).max(initial=1)))
        self._stopped = threading.Event()
        wanted = frozenset(self._seen.ravel().tolist())
        self._readers = {
            name: _StreamReader(
                name, decoder, self._first, self._last, wanted, ahead, self._stopped
            )
            for name, decoder in decoders.items()
        }

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
        count = self._stop - self._start
        for at in range(0, count, self._batch):
            rows = range(at, min(at + self._batch, count))
            for name, reader in self._readers.items():
                results = [
                    reader.clip(int(self._first[i]), int(self._last[i]), self._seen[i])
                    for i in rows
                ]
                pictures = [clip for _, clip in results if clip is not None]
                yield ClipBatch(
                    stream=name,
                    first=self._start + at,
                    reason=np.array([reason for reason, _ in results], dtype=np.uint8),
                    clips=torch.stack(pictures).permute(0, 1, 4, 2, 3) if pictures else None,
                )


class _StreamReader:
    """One stream's decode thread and the frames that coming clips still need."""

    def __init__(
        self,
        name: str,
        decoder: Decoder,
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        wanted: frozenset[int],
        ahead: int,
        stopped: threading.Event,
    ) -> None:
        self._decoder = decoder
        self._range = (int(first.min()), int(last.max()))
        self._wanted = wanted
        self._stopped = stopped
        self._queue: queue.Queue[Decoded[Tensor] | BaseException] = queue.Queue(ahead)
        self._frames: dict[int, Decoded[Tensor]] = {}
        self._next = self._range[0]
        self.thread = threading.Thread(target=self._run, name=f"decode {name}", daemon=True)

    def clip(self, first: int, last: int, seen: NDArray[np.int64]) -> tuple[Reason, Tensor | None]:
        """The clip over source frames `[first, last)`: why it is invalid, or [T, H, W, 3]."""
        while self._next < last:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            self._frames[item.frame] = item
            self._next = item.frame + 1
        for old in [number for number in self._frames if number < first]:
            del self._frames[old]
        reason = max(self._frames[number].reason for number in range(first, last))
        if reason is not Reason.VALID:
            return reason, None
        pictures = [self._frames[number].picture for number in seen.tolist()]
        # Channels last, as the pictures lie in memory: stacking them is a plain copy.
        return reason, torch.stack([p.permute(1, 2, 0) for p in pictures if p is not None])

    def drain(self) -> None:
        """Let the thread end, wherever it waits, and wait for it."""
        while self.thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                self.thread.join(0.05)

    def _run(self) -> None:
        try:
            for decoded in self._decoder(*self._range, self._wanted.__contains__):
                if self._stopped.is_set():
                    return
                self._queue.put(decoded)
            # Read only if a frame is missing; without it the reader would wait for ever.
            self._queue.put(RuntimeError(f"{self.thread.name}: ended before its last frame"))
        except BaseException as error:  # noqa: BLE001 - handed to the reader, which raises it
            self._queue.put(error)
