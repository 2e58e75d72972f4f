"""One unit in, its features in the store, a record out. No Ray inside."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import Encoder
from models.preprocess import frame_to_tensor, resize_and_crop
from takestream.schema import Reason
from workers.clock.clips import ClipReader, Decoder
from workers.clock.grid import Grid, make_grid
from workers.clock.probe import probe_take
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.media.decode import Decoded, open_cpu_decoder, rgb
from workers.media.index import Index
from workers.media.nvdec import cuda_picture, open_cuda_decoder
from workers.media.reader import VideoReader
from workers.media.source import Source, SourceChanged
from workers.run.prepare import Probed, changed_streams, prepare
from workers.run.recipe import Recipe
from workers.run.tasks import ClipPart, FinishedTake, PreparedTake, Unit, UnitRecord
from workers.store.takestore import TakeStore

# Takes whose indexes stay in memory: units of one take tend to follow each other.
KEPT_TAKES = 8
FRAMES_PER_PASS = 64


class Stopped(Exception):
    """The unit was told to stop; nothing half-done was written."""


class UnitExtractor:
    """Runs units of one recipe on one device, with an encoder that several recipes may share.

    Methods may run in several threads at once; `encoding` is held for one batch at a time by
    whoever uses the encoder.
    """

    def __init__(
        self,
        recipe: Recipe,
        encoder: Encoder,
        device: torch.device,
        encoding: AbstractContextManager[object] | None = None,
    ) -> None:
        self.recipe = recipe
        self.encoder = encoder
        self.device = device
        self._encoding = encoding or threading.Lock()
        self._lock = threading.Lock()
        self._probed: OrderedDict[str, Probed] = OrderedDict()
        batch = recipe.job.run.batch_size
        self._batch = max(1, FRAMES_PER_PASS // recipe.encoder.frames) if batch == "auto" else batch

    def prepare(
        self, take: Take, streams: Sequence[str], counters: Counters | None = None
    ) -> PreparedTake:
        """Probe the take, make or check its store, and name the units still to do.

        Raises SourceError and StoreError.
        """
        prepared, probed = prepare(self.recipe, take, streams, counters or Counters())
        if probed is not None:
            self._keep(take.uid, probed)
        return prepared

    def finish(self, take: Take) -> FinishedTake:
        """Mark the take's store complete if it is. Raises StoreError."""
        store = self._store(take)
        complete = store.finish()
        problems = store.attributes.get("problems", {})
        return FinishedTake(
            take, store.uri, complete, {name: tuple(lines) for name, lines in problems.items()}
        )

    def extract(
        self,
        unit: Unit,
        stop: Callable[[], bool] = lambda: False,
        counters: Counters | None = None,
    ) -> UnitRecord:
        """Decode, encode and write `unit`; `stop` is asked once per batch, and may wait.

        Raises Stopped; SourceError and StoreError when the storage fails; SourceChanged when an
        object is not the one that was probed.
        """
        counters = counters or Counters()
        began, before = time.monotonic(), counters.snapshot()
        store = self._store(unit.take)
        work = self._parts(store, unit, stop, counters)
        block = _Block(unit, store.dim)
        for part in work:
            block.take_in(part)
        for name in unit.streams:
            counters.add(bytes_written=block.write(store, name, unit.start))
        return block.record(time.monotonic() - began, before, counters.snapshot())

    def window(
        self,
        unit: Unit,
        stop: Callable[[], bool] = lambda: False,
        counters: Counters | None = None,
    ) -> Iterator[ClipPart | UnitRecord]:
        """The clips of `unit`, any range of them, part by part as they are encoded; then a record.

        The store has to be there (`prepare`). Units that the range covers whole are written to it,
        and it is finished when they were its last. Raises as `extract` does; parts that came
        before an error are right unless it is SourceChanged.
        """
        counters = counters or Counters()
        began, before = time.monotonic(), counters.snapshot()
        store = self._store(unit.take)
        starts = _whole_units(store, unit)
        block = _Block(unit, store.dim)
        for part in self._parts(store, unit, stop, counters):
            block.take_in(part)
            yield part
        for start in starts:
            for name in unit.streams:
                counters.add(bytes_written=block.write(store, name, start))
        if starts and not store.missing():
            store.finish()
        yield block.record(time.monotonic() - began, before, counters.snapshot())

    def _store(self, take: Take) -> TakeStore:
        return TakeStore.open(self.recipe.store_uri(take.uid), self.recipe.output_s3, writable=True)

    def _parts(
        self, store: TakeStore, unit: Unit, stop: Callable[[], bool], counters: Counters
    ) -> Iterator[ClipPart]:
        probe, indexes = self._probe(unit, counters)
        grid = make_grid(probe.frames, probe.rate, self.recipe.grid)
        if grid.clips != store.clips or changed_streams(store, probe) & set(unit.streams):
            self._forget(unit.take.uid)
            raise SourceChanged(
                f"take {unit.take.name}: its videos changed since its store was made; run again"
            )
        times = {n: self._frame_times(grid, unit, indexes.get(n)) for n in unit.streams}
        readable = [name for name in unit.streams if name in indexes]
        for name in unit.streams:
            if name not in indexes:
                reason = np.full(unit.stop - unit.start, probe.streams[name].reason, dtype=np.uint8)
                yield ClipPart(name, unit.start, _nothing(len(reason), store.dim), reason,
                               times[name])  # fmt: skip
        reader = ClipReader(
            grid,
            {name: self._decoder(unit, name, indexes[name], counters) for name in readable},
            unit.start,
            unit.stop,
            frames=self.recipe.encoder.frames,
            batch=self._batch,
        )
        with reader:
            for batch in reader:
                if stop():
                    raise Stopped(unit.name)
                features = _nothing(len(batch.reason), store.dim)
                if batch.clips is not None:
                    features[batch.reason == Reason.VALID] = self._encode(batch.clips, counters)
                counters.add(clips=len(batch.reason))
                at = slice(batch.first - unit.start, batch.first - unit.start + len(batch.reason))
                yield ClipPart(
                    batch.stream, batch.first, features, batch.reason, times[batch.stream][at]
                )
        self._check_unchanged(unit, indexes, counters)

    def _encode(self, clips: Tensor, counters: Counters) -> NDArray[np.float32]:
        parts = []
        at = 0
        while at < len(clips):
            part = clips[at : at + self._batch]
            try:
                with self._encoding:
                    began = time.monotonic()
                    parts.append(self.encoder.encode(part.to(self.device)).float().cpu().numpy())
                    counters.add(encode_seconds=time.monotonic() - began)
            except torch.cuda.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._batch = max(1, len(part) // 2)
                torch.cuda.empty_cache()
                continue
            at += len(part)
        return np.concatenate(parts)

    def _decoder(self, unit: Unit, name: str, index: Index, counters: Counters) -> Decoder:
        stream = next(s for s in unit.take.streams if s.key == name)
        assert stream.uri is not None
        source = Source(stream.uri, self.recipe.source_s3, counters)
        on_gpu = self.device.type == "cuda"
        reader = VideoReader(source, index, open_cuda_decoder if on_gpu else open_cpu_decoder)
        spec = self.recipe.encoder.preprocess
        assert spec is not None
        turns = self.recipe.quarter_turns(name)

        def convert(number: int, frame: VideoFrame) -> Tensor:
            nv12 = frame.format.name == "cuda"
            picture = cuda_picture(frame) if nv12 else frame_to_tensor(rgb(frame))
            if turns:
                picture = torch.rot90(picture, turns, (-2, -1))
            counters.add(frames_converted=1)
            return resize_and_crop(picture, spec)[0]

        def run(first: int, last: int, wanted: Callable[[int], bool]) -> Iterator[Decoded[Tensor]]:
            return reader.read(first, last, wanted, convert)

        return run

    def _frame_times(self, grid: Grid, unit: Unit, index: Index | None) -> NDArray[np.float64]:
        first = grid.source[grid.start[unit.start : unit.stop]]
        times = np.full(len(first), np.nan)
        if index is not None:
            there = first < index.frames
            times[there] = index.times()[first[there]]
        return times

    def _probe(self, unit: Unit, counters: Counters) -> Probed:
        uid = unit.take.uid
        with self._lock:
            found = self._probed.get(uid)
        if found is None:
            found = probe_take(unit.take, self.recipe.source_s3, counters)
        self._keep(uid, found)
        return found

    def _keep(self, uid: str, probed: Probed) -> None:
        with self._lock:
            self._probed[uid] = probed
            self._probed.move_to_end(uid)
            while len(self._probed) > KEPT_TAKES:
                self._probed.popitem(last=False)

    def _forget(self, uid: str) -> None:
        with self._lock:
            self._probed.pop(uid, None)

    def _check_unchanged(
        self, unit: Unit, indexes: Mapping[str, Index], counters: Counters
    ) -> None:
        for stream in unit.take.streams:
            if stream.key in unit.streams and stream.key in indexes and stream.uri:
                now = Source(stream.uri, self.recipe.source_s3, counters).identity()
                if now != indexes[stream.key].identity:
                    self._forget(unit.take.uid)
                    raise SourceChanged(
                        f"{stream.uri}: the object changed while it was read; run again"
                    )


class _Block:
    """The clips of a unit, put together from its parts."""

    def __init__(self, unit: Unit, dim: int) -> None:
        self._unit = unit
        count = unit.stop - unit.start
        self._features = {name: _nothing(count, dim) for name in unit.streams}
        self._reason = {name: np.zeros(count, dtype=np.uint8) for name in unit.streams}
        self._frame_time = {name: np.full(count, np.nan) for name in unit.streams}

    def take_in(self, part: ClipPart) -> None:
        at = part.first - self._unit.start
        rows = slice(at, at + len(part.reason))
        self._features[part.stream][rows] = part.features
        self._reason[part.stream][rows] = part.reason
        self._frame_time[part.stream][rows] = part.frame_time

    def write(self, store: TakeStore, name: str, start: int) -> int:
        """Write one unit of the store, from clip `start`; the bytes written."""
        at = start - self._unit.start
        rows = slice(at, at + min(store.unit_clips, store.clips - start))
        reason = self._reason[name][rows]
        return store.write(
            name,
            start,
            features=self._features[name][rows],
            valid=reason == Reason.VALID,
            frame_time=self._frame_time[name][rows],
            reason=reason,
        )

    def record(
        self, seconds: float, before: Mapping[str, float], after: Mapping[str, float]
    ) -> UnitRecord:
        return UnitRecord(
            unit=self._unit,
            outcome="done",
            seconds=seconds,
            invalid={name: int((why != 0).sum()) for name, why in self._reason.items()},
            counts={name: after[name] - before.get(name, 0) for name in after},
        )


def _whole_units(store: TakeStore, unit: Unit) -> list[int]:
    """The first clips of the store's units that lie wholly in `unit`'s range."""
    size = store.unit_clips
    return [
        start
        for start in range(0, store.clips, size)
        if unit.start <= start and min(start + size, store.clips) <= unit.stop
    ]


def _nothing(clips: int, dim: int) -> NDArray[np.float32]:
    return np.full((clips, dim), np.nan, dtype=np.float32)
