"""What a job would do: takes × grid × store, from `takes.json` and listings alone.

Lengths come from `duration_sec` until a take was probed or has a store, so counts are estimates to
a clip or two; `exact` probes every take.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache

from takestream.errors import StorageError
from takestream.schema import COMPLETE
from takestream.storage import join
from workers.clock.probe import probe_take
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.run.prepare import clips_per_unit
from workers.run.recipe import Recipe, Target
from workers.store.errors import StoreNotFound
from workers.store.objects import Objects
from workers.store.takestore import TakeStore

NOMINAL_RATE = 30
# Of so many takes the stores are listed; of fewer each is looked for.
MANY_TAKES = 100


@dataclass(frozen=True)
class PlannedTake:
    """One take of a plan. Clips are counted per stream, of all targets together.

    Attributes:
        take: whole.
        frames: grid frames of the first target; exact when `exact`.
        clips, clips_done: of all targets, and of them in the stores already.
        units: still to do (estimated).
        bytes: size of the objects still to read.
        absent: streams without an object.
        exact: whether the counts are more than estimates.
        targets: by encoder_id, clips and clips_done.
        unread: by stream, why its object could not be probed; the counts are estimates where that
            left none.
    """

    take: Take
    frames: int
    clips: int
    clips_done: int
    units: int
    bytes: int
    absent: tuple[str, ...]
    exact: bool
    targets: Mapping[str, tuple[int, int]]
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Length:
    """How long a take is.

    Attributes:
        frames: of it, at `rate` frames per second.
        exact: whether it was probed.
        unread: as `PlannedTake`.
    """

    frames: int
    rate: Fraction
    exact: bool = False
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Share:
    """One target's part of a planned take."""

    frames: int
    clips: int
    done: int
    units: int
    waiting: frozenset[str]
    exact: bool


def plan(
    recipe: Recipe, takes: Sequence[tuple[Take, tuple[str, ...]]], *, probe: bool = False
) -> list[PlannedTake]:
    """The plan of every take.

    Raises:
        StorageError: the output or the list of takes cannot be read, or probing failed in a way
            that would end a job.
    """
    chosen = [take.only(streams) for take, streams in takes]
    sizes = recipe.dataset.sizes(chosen)
    there = _stores_there(recipe) if len(takes) > MANY_TAKES else None

    def planned(item: tuple[Take, tuple[str, ...]]) -> PlannedTake:
        return _planned(recipe, item[0], item[1], sizes, there, probe)

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(planned, takes))


def _stores_there(recipe: Recipe) -> frozenset[str]:
    """URIs of all stores of the recipe's targets, by one listing for each."""
    return frozenset(
        join(recipe.job.output, encoder_id, name)
        for encoder_id in recipe.encoder_ids
        for name in Objects(join(recipe.job.output, encoder_id), recipe.output_s3).folders()
    )


def _planned(
    recipe: Recipe,
    take: Take,
    streams: tuple[str, ...],
    sizes: dict[str, int | None],
    there: Container[str] | None,
    probe: bool,
) -> PlannedTake:
    size = {s.key: sizes.get(s.uri) if s.uri else None for s in take.streams if s.key in streams}
    length = cache(lambda: _length(recipe, take, probe))
    shares = {
        target.encoder_id: _share(recipe, target, take, streams, length, there)
        for target in recipe.targets
    }
    waiting = frozenset[str]().union(*(share.waiting for share in shares.values()))
    return PlannedTake(
        take=take,
        frames=next(iter(shares.values())).frames,
        clips=sum(share.clips for share in shares.values()),
        clips_done=sum(share.done for share in shares.values()),
        # Units of several targets are decoded together.
        units=max(share.units for share in shares.values()),
        bytes=sum(size[name] or 0 for name in waiting),
        absent=tuple(key for key, found in size.items() if found is None),
        exact=all(share.exact for share in shares.values()),
        targets={name: (share.clips, share.done) for name, share in shares.items()},
        unread=length().unread if length.cache_info().currsize else {},
    )


def _share(
    recipe: Recipe,
    target: Target,
    take: Take,
    streams: tuple[str, ...],
    length: Callable[[], _Length],
    there: Container[str] | None,
) -> _Share:
    uri = recipe.store_uri(take.uid, target)
    try:
        if there is not None and uri not in there:
            raise StoreNotFound(uri)
        store = TakeStore.open(uri, recipe.output_s3)
    except StoreNotFound:
        long = length()
        grid = recipe.grid(target, take, long.frames, long.rate)
        per_unit = clips_per_unit(recipe.job.store.unit_frames, target.grid, long.rate, grid)
        units, clips = -(-grid.clips // per_unit), grid.clips * len(streams)
        return _Share(grid.frames, clips, 0, units, frozenset(streams), long.exact)
    kept = [name for name in streams if name in store.streams]
    gaps = [] if store.status == COMPLETE else store.missing(kept)
    new = [name for name in streams if name not in kept]
    missing = sum((gap.stop - gap.start) * len(gap.streams) for gap in gaps)
    missing += store.clips * len(new)
    units = max(len(gaps), -(-store.clips // store.unit_clips) if new else 0)
    waiting = frozenset(name for gap in gaps for name in gap.streams) | frozenset(new)
    clips = store.clips * len(streams)
    frames = int(store.attributes["grid"]["frames"])
    return _Share(frames, clips, clips - missing, units, waiting, True)


def _length(recipe: Recipe, take: Take, probe: bool) -> _Length:
    """How long a take is: probed, or by what the data set says."""
    listed = _Length(round((take.duration or 0) * NOMINAL_RATE), Fraction(NOMINAL_RATE))
    if not probe:
        return listed
    try:
        found, _ = probe_take(take, recipe.dataset, Counters())
    except StorageError as error:
        if error.kind.fatal:
            raise
        return replace(listed, unread={stream.key: str(error) for stream in take.streams})
    unread = {key: str(error) for key, error in found.unread.items()}
    return _Length(found.frames, found.rate, True, unread)
