"""One unit in, its features in the store, a record out. No Ray inside."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import Encoder
from models.preprocess import frame_to_tensor, resize_and_crop
from takestream.schema import Reason
from workers.clips import ClipReader, Decoder
from workers.dataset import Take
from workers.decode import Decoded, decode, rgb
from workers.grid import Grid, make_grid
from workers.index import Index
from workers.nvdec import cuda_picture, open_cuda_decoder
from workers.prepare import Probed, prepare
from workers.probe import TakeProbe, probe_take
from workers.recipe import Recipe
from workers.source import Counters, Source, SourceChanged
from workers.store import TakeStore
from workers.unit import FinishedTake, PreparedTake, Unit, UnitRecord

# Takes whose indexes stay in memory: units of one take tend to follow each other.
KEPT_TAKES = 2
FRAMES_PER_PASS = 64


class Stopped(Exception):
    """The unit was told to stop; nothing half-done was written."""


class UnitExtractor:
    """Runs units of one recipe on one device, with one copy of the encoder.

    `counters` may be read from another thread while a unit runs.
    """

    def __init__(self, recipe: Recipe, encoder: Encoder, device: torch.device) -> None:
        self.recipe = recipe
        self.encoder = encoder
        self.device = device
        self.counters = Counters()
        self._probed: OrderedDict[str, Probed] = OrderedDict()
        batch = recipe.job.run.batch_size
        self._batch = max(1, FRAMES_PER_PASS // recipe.encoder.frames) if batch == "auto" else batch

    def prepare(self, take: Take, streams: Sequence[str]) -> PreparedTake:
        """Probe the take, make or check its store, and name the units still to do.

        Raises SourceError and StoreError.
        """
        prepared, probed = prepare(self.recipe, take, streams, self.counters)
        if probed is not None:
            self._keep(take.uid, probed)
        return prepared

    def finish(self, take: Take) -> FinishedTake:
        """Mark the take's store complete if it is. Raises StoreError."""
        store = TakeStore.open(
            self.recipe.store_uri(take.uid), self.recipe.output_s3, writable=True
        )
        complete = store.finish()
        problems = store.attributes.get("problems", {})
        return FinishedTake(
            take, store.uri, complete, {name: tuple(lines) for name, lines in problems.items()}
        )

    def extract(self, unit: Unit, stop: Callable[[], bool] = lambda: False) -> UnitRecord:
        """Decode, encode and write `unit`; `stop` is asked once per batch.

        Raises Stopped; SourceError and StoreError when the storage fails; SourceChanged when an
        object is not the one that was probed.
        """
        began = time.monotonic()
        before = self.counters.snapshot()
        store = TakeStore.open(
            self.recipe.store_uri(unit.take.uid), self.recipe.output_s3, writable=True
        )
        probe, indexes = self._probe(unit)
        grid = make_grid(probe.frames, probe.rate, self.recipe.grid)
        if grid.clips != store.clips:
            raise SourceChanged(
                f"take {unit.take.name}: its videos changed since its store was made; run again"
            )
        features, reasons = self._features(unit, grid, probe, indexes, stop)
        self._check_unchanged(unit, indexes)
        for name in unit.streams:
            ok = reasons[name] == Reason.VALID
            written = store.write(
                name,
                unit.start,
                features=features[name],
                valid=ok,
                frame_time=self._frame_times(grid, unit, indexes.get(name)),
                reason=reasons[name],
            )
            self.counters.add(bytes_written=written)
        after = self.counters.snapshot()
        return UnitRecord(
            unit=unit,
            outcome="done",
            seconds=time.monotonic() - began,
            invalid={name: int((reasons[name] != 0).sum()) for name in unit.streams},
            counts={name: after[name] - before.get(name, 0) for name in after},
        )

    def _features(
        self,
        unit: Unit,
        grid: Grid,
        probe: TakeProbe,
        indexes: Mapping[str, Index],
        stop: Callable[[], bool],
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.uint8]]]:
        count = unit.stop - unit.start
        dim = self.recipe.encoder.dim
        assert dim is not None
        features = {n: np.full((count, dim), np.nan, dtype=np.float32) for n in unit.streams}
        reasons = {
            name: np.full(count, probe.streams[name].reason, dtype=np.uint8)
            for name in unit.streams
        }
        readable = [name for name in unit.streams if name in indexes]
        decoders = {name: self._decoder(unit, name, indexes[name]) for name in readable}
        reader = ClipReader(
            grid,
            decoders,
            unit.start,
            unit.stop,
            frames=self.recipe.encoder.frames,
            batch=self._batch,
        )
        with reader:
            for batch in reader:
                if stop():
                    raise Stopped(unit.name)
                rows = slice(batch.first - unit.start, batch.first - unit.start + len(batch.reason))
                reasons[batch.stream][rows] = batch.reason
                if batch.clips is not None:
                    encoded = self._encode(batch.clips)
                    features[batch.stream][rows][batch.reason == Reason.VALID] = encoded
                self.counters.add(clips=len(batch.reason))
        return features, reasons

    def _encode(self, clips: Tensor) -> NDArray[np.float32]:
        parts = []
        at = 0
        while at < len(clips):
            part = clips[at : at + self._batch]
            try:
                parts.append(self.encoder.encode(part.to(self.device)).float().cpu().numpy())
            except torch.cuda.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._batch = max(1, len(part) // 2)
                torch.cuda.empty_cache()
                continue
            at += len(part)
        return np.concatenate(parts)

    def _decoder(self, unit: Unit, name: str, index: Index) -> Decoder:
        stream = next(s for s in unit.take.streams if s.key == name)
        assert stream.uri is not None
        source = Source(stream.uri, self.recipe.source_s3, self.counters)
        spec = self.recipe.encoder.preprocess
        assert spec is not None
        turns = self.recipe.quarter_turns(name)

        def convert(frame: VideoFrame) -> Tensor:
            on_gpu = frame.format.name == "cuda"
            picture = cuda_picture(frame) if on_gpu else frame_to_tensor(rgb(frame))
            if turns:
                picture = torch.rot90(picture, turns, (-2, -1))
            self.counters.add(frames_converted=1)
            return resize_and_crop(picture, spec)[0]

        def run(first: int, last: int, wanted: Callable[[int], bool]) -> Iterator[Decoded[Tensor]]:
            opener = open_cuda_decoder if self.device.type == "cuda" else None
            return decode(source, index, first, last, wanted, convert, open_decoder=opener)

        return run

    def _frame_times(self, grid: Grid, unit: Unit, index: Index | None) -> NDArray[np.float64]:
        first = grid.source[grid.start[unit.start : unit.stop]]
        times = np.full(len(first), np.nan)
        if index is not None:
            there = first < index.frames
            times[there] = index.times()[first[there]]
        return times

    def _probe(self, unit: Unit) -> Probed:
        uid = unit.take.uid
        if uid not in self._probed:
            self._keep(uid, probe_take(unit.take, self.recipe.source_s3, self.counters))
        self._probed.move_to_end(uid)
        return self._probed[uid]

    def _keep(self, uid: str, probed: Probed) -> None:
        self._probed[uid] = probed
        while len(self._probed) > KEPT_TAKES:
            self._probed.popitem(last=False)

    def _check_unchanged(self, unit: Unit, indexes: Mapping[str, Index]) -> None:
        for stream in unit.take.streams:
            if stream.key in unit.streams and stream.key in indexes and stream.uri:
                now = Source(stream.uri, self.recipe.source_s3, self.counters).identity()
                if now != indexes[stream.key].identity:
                    self._probed.pop(unit.take.uid, None)
                    raise SourceChanged(
                        f"{stream.uri}: the object changed while it was read; run again"
                    )
