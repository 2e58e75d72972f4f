"""A take made ready: probed, its store there, and the units still to do named."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from configs.schema import GridSpec, SegmentGridSpec
from takestream import schema
from takestream.errors import ErrorKind, StorageError
from takestream.facts import NOTES
from takestream.schema import COMPLETE
from takestream.storage import S3Options
from workers.clock.grid import Grid
from workers.clock.probe import TakeProbe, probe_take
from workers.dataset.base import Dataset
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.run.probed import Probed
from workers.run.provenance import store_attributes, stream_facts
from workers.run.recipe import Recipe, Target
from workers.run.sources import (
    SourceObject,
    changed_streams,
    differ,
    objects_now,
    unread_then,
)
from workers.run.synchronise import Synchronisation, has_sync, shifted_otherwise
from workers.run.task_span import span_changed
from workers.run.tasks import ClipRange, Failure, PreparedTake, Unit
from workers.store.errors import StoreMismatch, StoreNotFound
from workers.store.gap import Gap
from workers.store.layout import StoreLayout, unit_clips
from workers.store.takestore import TakeStore


def prepare(
    recipe: Recipe,
    take: Take,
    streams: Sequence[str],
    counters: Counters,
    runtimes: Sequence[str] = (),
) -> tuple[PreparedTake, Probed | None]:
    """Make `take` ready for `streams` of it, for every target of the recipe.

    A complete store whose source objects are still the same is left alone; when all are, that costs
    one HEAD per stream. Otherwise the take is probed once, the stores made or extended, and streams
    whose object changed are forgotten so that they are extracted again. An object that vanished
    loses nothing, and one that cannot be read is left out, in `failures`: its streams' gaps stay
    for a later run. `runtimes` name, target by target, what runs the networks.

    Returns:
        The take with its units, and what probing found; None when nothing was probed.

    Raises:
        StorageError: The videos' or the stores' storage fails.
    """
    before = counters.snapshot()
    ready, away = _ready(recipe, take, streams, counters)
    probed = None
    found = _Found({}, {}, [], runtimes)
    if len(ready) < len(recipe.targets):
        probe, indexes = probed = probe_take(take, recipe.dataset, counters)
        if not set(indexes) & set(streams):
            return PreparedTake(take, (), (), failures=_hopeless(take, streams, probe)), None
        sync = Synchronisation(recipe, take, probed, counters)
        for store in ready.values():
            sync.adopt(store)
        away = {name: error for name, error in probe.unread.items() if name in streams}
        for number, target in enumerate(recipe.targets):
            if number not in ready:
                found.add(recipe, number, target, take, streams, probe, sync)
    kept = dict(sorted({**ready, **found.stores}.items()))
    clips = sum(store.clips for store in kept.values()) * len(streams) - found.clips_away
    units = make_units(take, found.gaps, recipe.job.store.unit_frames)
    after = counters.snapshot()
    prepared = PreparedTake(
        take=take,
        stores=tuple(store.uri for store in kept.values()),
        units=units,
        clips=clips,
        clips_done=clips - sum(unit.clips for unit in units),
        frames=probed[0].frames if probed else 0,
        bytes=sum(probed[0].streams[name].size or 0 for name in streams) if probed else 0,
        problems=problems_of([(store, recipe.targets[n]) for n, store in kept.items()]),
        invalid=invalid_in(kept.values()),
        failures=(*found.failures, *(Failure.of(take.name, e, name) for name, e in away.items())),
        counts={name: after[name] - before.get(name, 0) for name in after},
    )
    return prepared, probed


def complete_already(
    recipe: Recipe, take: Take, streams: Sequence[str], counters: Counters
) -> PreparedTake | None:
    """What `prepare` gives for a take that has nothing left to do; None when something is.

    Raises:
        StorageError: The videos' or the stores' storage fails.
    """
    ready, away = _ready(recipe, take, streams, counters)
    if away or len(ready) < len(recipe.targets):
        return None
    clips = sum(store.clips for store in ready.values()) * len(streams)
    return PreparedTake(
        take=take,
        stores=tuple(store.uri for store in ready.values()),
        units=(),
        clips=clips,
        clips_done=clips,
        problems=problems_of([(store, recipe.targets[n]) for n, store in ready.items()]),
        invalid=invalid_in(ready.values()),
    )


def _ready(
    recipe: Recipe, take: Take, streams: Sequence[str], counters: Counters
) -> tuple[dict[int, TakeStore], dict[str, StorageError]]:
    """By number of the target, the stores that are complete and whose videos are the same.

    Also, by stream, why its object could not be compared.
    """
    stores = [
        _existing(recipe.store_uri(take.uid, target), recipe.output_s3) for target in recipe.targets
    ]
    now: dict[str, SourceObject] = {}
    away: dict[str, StorageError] = {}
    if any(store and store.status == COMPLETE for store in stores):
        now, away = objects_now(take, streams, recipe.dataset, counters)
    ready = {
        number: store
        for number, store in enumerate(stores)
        if store is not None and _is_up_to_date(recipe, store, take, streams, now)
    }
    return ready, away


@dataclass
class _Found:
    """What is still to do for the targets that are not complete."""

    stores: dict[int, TakeStore]
    gaps: dict[int, tuple[Grid, list[Gap]]]
    failures: list[Failure]
    runtimes: Sequence[str] = ()
    # Clips, times streams, that are missing and whose objects cannot be read.
    clips_away: int = 0

    def add(
        self,
        recipe: Recipe,
        number: int,
        target: Target,
        take: Take,
        streams: Sequence[str],
        probe: TakeProbe,
        sync: Synchronisation,
    ) -> None:
        """Make or extend the target's store and see what it lacks."""
        grid = recipe.grid(target, take, probe.frames, probe.rate)
        if not grid.clips:
            why = f"too short for one clip ({probe.frames} frames; the grid drops the tail)"
            if (span := recipe.span(take)) is not None:
                why = f"no clip lies in its task, {span[0]:g} to {span[1]:g} s"
            reason = f"{target.encoder_id}: {why}" if len(recipe.targets) > 1 else why
            self.failures.append(Failure(take.name, None, reason, ErrorKind.UNREADABLE))
            return
        if sync.asked:
            before = _existing(recipe.store_uri(take.uid, target), recipe.output_s3)
            if before and has_sync(recipe, before) and not changed_streams(before, probe):
                sync.adopt(before)
        measured = sync.now if sync.asked else None
        runtime = self.runtimes[number] if number < len(self.runtimes) else None
        attributes = store_attributes(recipe, target, take, streams, probe, grid, runtime, measured)
        store = _store(recipe, target, take, streams, probe, grid, attributes)
        _forget_changed(store, take, streams, probe, sync)
        if not has_sync(recipe, store):
            sync.note(store)
        if span_changed(recipe, store, take):
            # The same clips lie in both spans.
            store.update_attributes(provenance={schema.TASK_SPAN: recipe.span(take)})
        if unread_then(store) and not probe.unread:
            store.update_attributes(provenance={schema.UNREAD: []})
        self.stores[number] = store
        gaps = store.missing(list(streams))
        here = [gap.of(name for name in gap.streams if name not in probe.unread) for gap in gaps]
        self.clips_away += sum(gap.clips for gap in gaps) - sum(gap.clips for gap in here)
        self.gaps[number] = grid, [gap for gap in here if gap.streams]


def make_units(
    take: Take, gaps: Mapping[int, tuple[Grid, Sequence[Gap]]], unit_frames: int
) -> tuple[Unit, ...]:
    """The units that fill the gaps of a take's stores.

    Gaps of several targets that begin near the same multiple of `unit_frames` become one unit, so
    that their frames are decoded once; two gaps of one target never do.

    Args:
        take: whole.
        gaps: by target, its grid and what its store lacks.
        unit_frames: frames of the take that a unit is meant to cover.
    """
    found: dict[tuple[int, int], list[tuple[int, int, ClipRange]]] = {}
    for number, (grid, missing) in gaps.items():
        times: Counter[int] = Counter()
        for gap in missing:
            clips = slice(gap.start, gap.stop)
            first = int(grid.source[grid.start[clips].min()])
            last = int(grid.source[grid.stop[clips].max() - 1]) + 1
            cell = round(first / unit_frames)
            part = ClipRange(number, gap.start, gap.stop, gap.streams)
            found.setdefault((cell, times[cell]), []).append((first, last, part))
            times[cell] += 1
    return tuple(
        Unit(
            take,
            min(first for first, _, _ in parts),
            max(last for _, last, _ in parts),
            tuple(part for _, _, part in parts),
        )
        for _, parts in sorted(found.items())
    )


def _existing(uri: str, s3: S3Options) -> TakeStore | None:
    try:
        return TakeStore.open(uri, s3, writable=True)
    except StoreNotFound:
        return None


def _is_up_to_date(
    recipe: Recipe,
    store: TakeStore,
    take: Take,
    streams: Sequence[str],
    now: Mapping[str, SourceObject],
) -> bool:
    if not has_sync(recipe, store) or span_changed(recipe, store, take):
        return False
    if store.status != COMPLETE or not set(streams) <= set(store.streams):
        return False
    return not differ(store, now) and not store.missing(list(streams))


def videos_changed(
    store: TakeStore, take: Take, streams: Sequence[str], dataset: Dataset, counters: Counters
) -> bool:
    """Whether any of the streams' objects is another one than the store was made from.

    One HEAD per stream; an object that is gone has not changed.

    Raises:
        StorageError: the storage fails.
    """
    now, away = objects_now(take, streams, dataset, counters)
    if away:
        raise next(iter(away.values()))
    return differ(store, now)


def _store(
    recipe: Recipe,
    target: Target,
    take: Take,
    streams: Sequence[str],
    probe: TakeProbe,
    grid: Grid,
    attributes: dict[str, Any],
) -> TakeStore:
    assert target.encoder.dim is not None
    uri = recipe.store_uri(take.uid, target)
    layout = StoreLayout(
        streams=tuple(streams),
        dim=target.encoder.dim,
        dtype=recipe.job.store.dtype,
        unit_clips=clips_per_unit(recipe.job.store.unit_frames, target.grid, probe.rate, grid),
        start_frame=grid.start,
        stop_frame=grid.stop,
        start_time=grid.start_time(),
        end_time=grid.end_time(),
        extra={
            schema.SEGMENT_NAME: [segment.name for segment in grid.segments],
            schema.SEGMENT_LABEL: [segment.label for segment in grid.segments],
        }
        if grid.segments
        else {},
        attributes=attributes,
    )
    try:
        return TakeStore.create(uri, layout, recipe.output_s3)
    except StoreMismatch:
        old = _existing(uri, recipe.output_s3)
        if old is None:
            raise
        if probe.unread:
            # Whoever could not be read had no vote on the take's length.
            raise next(iter(probe.unread.values())) from None
        moved = span_changed(recipe, old, take)
        if not moved and not changed_streams(old, probe) and not unread_then(old):
            raise
        # The take or its task has another length: clips of the old grid have other numbers now.
        old.remove()
        return TakeStore.create(uri, layout, recipe.output_s3)


def clips_per_unit(
    unit_frames: int, spec: GridSpec | SegmentGridSpec, rate: Fraction, grid: Grid
) -> int:
    """Clips of one unit of a new store, so that it covers about `unit_frames` of the take."""
    if isinstance(spec, SegmentGridSpec):
        frames = int(grid.source[-1]) + 1 if len(grid.source) else 1
        return max(1, min(grid.clips, unit_frames * grid.clips // max(1, frames)))
    return unit_clips(max(1, int(unit_frames * grid.fps / rate)), spec.stride)


def _forget_changed(
    store: TakeStore,
    take: Take,
    streams: Sequence[str],
    probe: TakeProbe,
    sync: Synchronisation,
) -> None:
    """Forget the streams whose object changed, and those that are shifted otherwise by it."""
    changed = changed_streams(store, probe)
    others = shifted_otherwise(store, sync.now) if sync.asked and changed else set()
    for name in sorted(changed & set(streams) | others):
        store.reset(name)
        store.update_attributes(
            provenance={"streams": {name: stream_facts(take, name, probe)}},
            problems={name: list(probe.problems().get(name, ()))},
        )
    if sync.asked and changed:
        sync.note(store)


def problems_of(stores: Sequence[tuple[TakeStore, Target]]) -> dict[str, tuple[str, ...]]:
    """Per stream, what the stores of a take say is wrong with it, each sentence once.

    A sentence that not all stores have (numbers of clips differ) names the encoder.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for store, target in stores:
        for stream, lines in store.attributes.get("problems", {}).items():
            # What the data set says against a take is a note in its stores, no outcome of a run.
            for line in () if stream == NOTES else lines:
                found.setdefault(stream, {}).setdefault(line, []).append(target.encoder.name)
    return {
        stream: tuple(
            line if len(names) == len(stores) else f"{', '.join(names)}: {line}"
            for line, names in lines.items()
        )
        for stream, lines in found.items()
    }


def invalid_in(stores: Iterable[TakeStore]) -> dict[str, int]:
    """Per stream, the invalid clips that the stores of a take count, of all of them together."""
    found: Counter[str] = Counter()
    for store in stores:
        for stream, lines in store.attributes.get("problems", {}).items():
            found[stream] += schema.invalid_of(lines)
    return dict(+found)


def _hopeless(take: Take, streams: Sequence[str], probe: TakeProbe) -> tuple[Failure, ...]:
    return tuple(
        Failure.of(take.name, away, name)
        if (away := probe.streams[name].unread)
        else Failure(take.name, name, probe.streams[name].fault, ErrorKind.UNREADABLE)
        for name in streams
    )
