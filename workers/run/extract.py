"""One unit in, its features in the store, a record out. No Ray inside."""

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import MappingProxyType

import torch

from models.encoder import Encoder
from takestream.errors import ErrorKind, StorageError, StorageUnavailable
from takestream.schema import Reason
from workers.clock.clips import ClipBatch, ClipReader, ClipRequest, Decode, StreamInput
from workers.clock.timeline import make_timeline
from workers.dataset.base import source_of
from workers.dataset.layouts import mirrors_of
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.media.reader import Reader
from workers.media.source import SourceChanged
from workers.media.video import Video
from workers.run.block import (
    Block,
    frame_times,
    no_features,
    note_handed_over,
    note_places,
    unit_record,
    unreadable_part,
    whole_units,
    write_unit,
)
from workers.run.decoding import on_cpu, on_device
from workers.run.passes import Collect, Passes, clips_of_a_batch, clips_of_a_pass
from workers.run.pooling import FramePool
from workers.run.prepare import invalid_in, prepare, problems_of
from workers.run.probed import ProbedTakes, damaged_copy, places_of
from workers.run.recipe import Recipe
from workers.run.sources import check_unchanged, refuse_contradiction
from workers.run.synchronise import shifts
from workers.run.tasks import (
    ClipPart,
    ClipRange,
    Failure,
    FinishedTake,
    PreparedTake,
    Unit,
    UnitRecord,
)
from workers.store.errors import StoreNotFound
from workers.store.takestore import TakeStore

NO_PLACES: Mapping[str, Sequence[str]] = MappingProxyType({})


class Stopped(Exception):
    """The unit was told to stop; nothing half-done was written."""


class UnitExtractor:
    """Runs units of one recipe on one device, with encoders that several recipes may share.

    Methods may run in several threads at once; whoever uses an encoder holds `encoding` for one
    batch at a time.

    Args:
        recipe: the job's.
        encoders: target by target.
        device: where frames are encoded.
        encoding: the lock; one of its own by default.
    """

    def __init__(
        self,
        recipe: Recipe,
        encoders: Sequence[Encoder],
        device: torch.device,
        encoding: AbstractContextManager[object] | None = None,
    ) -> None:
        self.recipe = recipe
        self.encoders = tuple(encoders)
        self.device = device
        self._probed = ProbedTakes(recipe.dataset)
        self._absent_mirrors = tuple(mirrors_of(recipe.job).absent())
        encoding = encoding or threading.Lock()
        run = recipe.job.run
        self._passes = [
            Passes(
                encoder,
                device,
                encoding,
                clips_of_a_pass(run, target.encoder, device),
                whole=run.compile,
            )
            for target, encoder in zip(recipe.targets, encoders, strict=True)
        ]
        # Targets that see frames in the same size share the pictures made of them.
        self._sizings = list(dict.fromkeys(target.sizing for target in recipe.targets))

    def prepare(
        self, take: Take, streams: Sequence[str], counters: Counters | None = None
    ) -> PreparedTake:
        """Probe the take, make or check its stores, and name the units still to do.

        Raises StorageError.
        """
        runtimes = [getattr(encoder, "runtime", "") for encoder in self.encoders]
        prepared, probed = prepare(self.recipe, take, streams, counters or Counters(), runtimes)
        if probed is not None:
            self._probed.keep(take, probed)
        return prepared

    def finish(self, take: Take, places: Mapping[str, Sequence[str]] = NO_PLACES) -> FinishedTake:
        """Mark the take's stores complete if they are. Raises StorageError.

        Args:
            take: whose units are done.
            places: by stream, where its object was read; kept where the job has mirrors.
        """
        finished, complete = [], True
        missing: Counter[str] = Counter()
        for number, target in enumerate(self.recipe.targets):
            try:
                store = self._store(take, number)
            except StoreNotFound:
                complete = False  # its grid has no clip of this take: a failure said so
                continue
            note_places(store, places if self.recipe.job.mirrors else {})
            if not store.finish():
                complete = False
                for gap in store.missing():
                    missing.update(dict.fromkeys(gap.streams, gap.stop - gap.start))
            finished.append((store, target))
        invalid = invalid_in(store for store, _ in finished)
        return FinishedTake(take, complete, problems_of(finished), invalid, missing=dict(missing))

    def extract(
        self,
        unit: Unit,
        stop: Callable[[], bool] = lambda: False,
        counters: Counters | None = None,
    ) -> UnitRecord:
        """Decode, encode and write `unit`; `stop` is asked once per batch, and may wait.

        A stream whose object alone cannot be read is left out: the record's failures name it.

        Raises Stopped; StorageError when the storage fails; SourceChanged when an
        object is not the one that was probed.
        """
        counters = counters or Counters()
        began, before = time.monotonic(), counters.snapshot()
        left, failures = unit, list[Failure]()
        while True:
            try:
                blocks, unwritten = self._written(left, stop, counters)
                break
            except StorageError as error:
                name = self._left_out(left, error, counters)
                if name is None:
                    raise
                failures.append(Failure.of(unit.take.name, error, name))
                left = left.without(name)
        seconds = time.monotonic() - began
        record = unit_record(unit.take, blocks, seconds, before, counters.snapshot())
        return replace(
            record,
            ranges=unit.ranges,
            failures=(*failures, *unwritten),
            places=places_of(self._probed.get(unit.take, counters)[0], left.streams),
            notes=self._absent_mirrors,
        )

    def _written(
        self, unit: Unit, stop: Callable[[], bool], counters: Counters
    ) -> tuple[Sequence[Block], Sequence[Failure]]:
        """The clips of a unit once they are in its stores, and why some streams' are not."""
        stores = [self._store(unit.take, part.target) for part in unit.ranges]
        parts = self._parts(unit.take, unit.ranges, stores, stop, counters)
        found = write_unit(unit, stores, parts, counters)
        self._note(unit.take, found[0], stores, counters)
        return found

    def _note(
        self, take: Take, blocks: Sequence[Block], stores: Sequence[TakeStore], counters: Counters
    ) -> None:
        """Say in the stores what showed while their clips were read."""
        probe, videos = self._probed.get(take, counters)
        note_handed_over(blocks, stores, videos)
        for block, store in zip(blocks, stores, strict=True) if self.recipe.job.mirrors else ():
            places = places_of(probe, block.clips.streams)
            note_places(store, {name: (place,) for name, place in places.items()})

    def _left_out(self, unit: Unit, error: StorageError, counters: Counters) -> str | None:
        """The stream whose object is at fault, when the others of the unit can go on without it."""
        if error.kind.fatal or len(unit.streams) < 2:
            return None
        here = [stream for stream in unit.take.streams if stream.key in unit.streams]
        lost = next((s for s in here if s.uri and error.uri in (s.uri, *s.others)), None)
        if lost is None:
            return None
        if error.kind is ErrorKind.UNAVAILABLE:
            # Where the whole storage is away, each of the others would be waited for as long.
            other = next((stream for stream in here if stream.uri not in (None, lost.uri)), None)
            if other and not source_of(self.recipe.dataset, other, counters).answers():
                return None
        self._probed.leave_out(unit.take, lost.key, error)
        return lost.key

    def window(
        self,
        take: Take,
        clips: ClipRange,
        stop: Callable[[], bool] = lambda: False,
        counters: Counters | None = None,
    ) -> Iterator[ClipPart | UnitRecord]:
        """The clips of a range, any of them, part by part as they are encoded; then a record.

        The store has to be there (`prepare`). Units that the range covers whole are written to it,
        and it is finished when they were its last. Raises as `extract` does; parts that came
        before an error are right unless it is SourceChanged.
        """
        counters = counters or Counters()
        began, before = time.monotonic(), counters.snapshot()
        store = self._store(take, clips.target)
        starts = whole_units(store, clips)
        block = Block(clips, store.dim)
        self._probed.get(take, counters, whole=True)
        for _, part in self._parts(take, [clips], [store], stop, counters):
            block.take_in(part)
            yield part
        block.write_all(store, starts, counters)
        if starts:
            self._note(take, [block], [store], counters)
        if starts and not store.missing():
            store.finish()
        yield unit_record(take, [block], time.monotonic() - began, before, counters.snapshot())

    def compute(self, take: Take, clips: ClipRange) -> Iterator[ClipPart]:
        """The clips of a range, computed again and written nowhere. Raises as `extract` does."""
        store = self._store(take, clips.target)
        for _, part in self._parts(take, [clips], [store], lambda: False, Counters()):
            yield part

    def _store(self, take: Take, target: int) -> TakeStore:
        uri = self.recipe.store_uri(take.uid, self.recipe.targets[target])
        return TakeStore.open(uri, self.recipe.output_s3, writable=True)

    def _parts(
        self,
        take: Take,
        ranges: Sequence[ClipRange],
        stores: Sequence[TakeStore],
        stop: Callable[[], bool],
        counters: Counters,
    ) -> Iterator[tuple[int, ClipPart]]:
        """The clips of the ranges, with the number of the range that each part is of.

        Where a mirror's copy fails or is damaged they begin again, read from elsewhere.
        """
        while True:
            try:
                yield from self._read_parts(take, ranges, stores, stop, counters)
            except StorageError as error:
                if not self._probed.without_copy(take, error):
                    raise
            else:
                return

    def _read_parts(
        self,
        take: Take,
        ranges: Sequence[ClipRange],
        stores: Sequence[TakeStore],
        stop: Callable[[], bool],
        counters: Counters,
    ) -> Iterator[tuple[int, ClipPart]]:
        probe, indexes = self._probed.get(take, counters)
        names = dict.fromkeys(name for part in ranges for name in part.streams)
        for name in names:
            if away := probe.streams[name].unread:
                raise away.with_traceback(None)
        grids = []
        for part, store in zip(ranges, stores, strict=True):
            target = self.recipe.targets[part.target]
            grid = self.recipe.grid(target, take, probe.frames, probe.rate)
            with self._forgetting(take):
                if grid.clips != store.clips:
                    raise SourceChanged(
                        f"take {take.name}: its videos changed since its store was made; run again"
                    )
                refuse_contradiction(part.streams, store, probe)
            grids.append(grid)
        readers = {
            name: indexes[name].reader(probe.streams[name].source(counters))
            for name in names
            if name in indexes
        }
        timeline, rate = self.recipe.job.timeline, float(probe.rate)
        shifted = shifts(stores)
        inputs = {
            name: StreamInput(
                self._decode(name, indexes[name], reader, len(readers)),
                make_timeline(
                    timeline,
                    reader,
                    rate,
                    probe.streams[name].begins(probe.rate),
                    shifted.get(name, 0),
                ),
            )
            for name, reader in readers.items()
        }
        times = [
            {name: frame_times(grid, part, readers.get(name), inputs.get(name))
             for name in part.streams}
            for grid, part in zip(grids, ranges, strict=True)
        ]  # fmt: skip
        for number, (part, store) in enumerate(zip(ranges, stores, strict=True)):
            for name in part.streams:
                if name not in inputs:
                    reason, shown = probe.streams[name].reason, times[number][name]
                    yield number, unreadable_part(part, name, reason, store.dim, shown)
        requests = [
            ClipRequest(
                grid,
                part.start,
                part.stop,
                tuple(name for name in part.streams if name in inputs),
                frames=self.recipe.targets[part.target].encoder.frames,
                batch=clips_of_a_batch(
                    self._passes[part.target].clips, self.recipe.targets[part.target]
                ),
                preprocessing=self._sizings.index(self.recipe.targets[part.target].sizing),
                sampling=self.recipe.targets[part.target].encoder.sampling,
            )
            for grid, part in zip(grids, ranges, strict=True)
        ]
        damaged: set[str] = set()
        under_way: deque[tuple[ClipBatch, Collect | None]] = deque()
        pools: defaultdict[tuple[int, str], FramePool] = defaultdict(FramePool)

        def encoded() -> tuple[int, ClipPart]:
            batch, collect = under_way.popleft()
            number, part = batch.request, ranges[batch.request]
            features = no_features(len(batch.reason), stores[number].dim)
            made = collect() if collect is not None else None
            if batch.shared is not None:
                made = pools[number, batch.stream].clips(batch.shared, made)
            if made is not None:
                features[batch.reason == Reason.VALID] = made
            counters.add(clips=len(batch.reason))
            at = slice(batch.first - part.start, batch.first - part.start + len(batch.reason))
            shown = times[number][batch.stream][at]
            return number, ClipPart(batch.stream, batch.first, features, batch.reason, shown)

        with ClipReader(requests, inputs) as reader:
            for batch in reader:
                if stop():
                    raise Stopped(take.name)
                passes, collect = self._passes[ranges[batch.request].target], None
                clips, shared = batch.clips, batch.shared
                if shared is not None:
                    clips = [picture.unsqueeze(0) for picture in shared.pictures]
                    shared = replace(shared, pictures=())
                if clips:
                    collect = passes.begin(clips, counters)
                if (batch.reason == Reason.DAMAGED_FRAME).any():
                    damaged.add(batch.stream)
                under_way.append((replace(batch, clips=(), shared=shared), collect))
                while len(under_way) > passes.ahead:
                    yield encoded()
        while under_way:
            yield encoded()
        for name in sorted(damaged):
            if (place := probe.streams[name].place) and place.mirror:
                raise damaged_copy(place)
        with self._forgetting(take):
            for name in sorted(damaged):
                readers[name].source.confirm()
            check_unchanged((probe.streams[name] for name in readers), counters)

    @contextmanager
    def _forgetting(self, take: Take) -> Iterator[None]:
        """Probe the take anew where what was probed turns out to be another object's."""
        try:
            yield
        except (SourceChanged, StorageUnavailable):
            self._probed.forget(take)
            raise

    def _decode(self, name: str, video: Video, reader: Reader, streams: int) -> Decode:
        turns = self.recipe.quarter_turns(name)
        if self.device.type == "cpu":
            return on_cpu(reader, self._sizings, turns)
        return on_device(video, reader, self._sizings, turns, self.device, streams)
