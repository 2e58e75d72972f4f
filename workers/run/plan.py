"""What a job would do: takes × grid × store, from `takes.json` and listings alone.

Lengths come from `duration_sec` until a take was probed or has a store, so counts are estimates to
a clip or two; `exact` probes every take.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

from takestream.schema import COMPLETE
from workers.clock.grid import make_grid
from workers.clock.probe import probe_take
from workers.dataset.base import object_sizes
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.run.recipe import Recipe
from workers.store.errors import StoreNotFound
from workers.store.layout import unit_clips
from workers.store.takestore import TakeStore

NOMINAL_RATE = 30


@dataclass(frozen=True)
class PlannedTake:
    """One take of a plan. Clips are counted per stream.

    frames: grid frames; exact when `exact`. clips, clips_done; units still to do (estimated).
    bytes: size of the objects still to read; absent: streams without an object.
    """

    take: Take
    frames: int
    clips: int
    clips_done: int
    units: int
    bytes: int
    absent: tuple[str, ...]
    exact: bool


def plan(
    recipe: Recipe, takes: Sequence[tuple[Take, tuple[str, ...]]], *, probe: bool = False
) -> list[PlannedTake]:
    """The plan of every take. Raises SourceError and StoreError when the storage fails."""
    chosen = [take.only(streams) for take, streams in takes]
    sizes = object_sizes(chosen, recipe.source_s3)
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda item: _planned(recipe, item[0], item[1], sizes, probe), takes))


def _planned(
    recipe: Recipe,
    take: Take,
    streams: tuple[str, ...],
    sizes: dict[str, int | None],
    probe: bool,
) -> PlannedTake:
    size = {s.key: sizes.get(s.uri) if s.uri else None for s in take.streams if s.key in streams}
    absent = tuple(key for key, found in size.items() if found is None)
    try:
        store = TakeStore.open(recipe.store_uri(take.uid), recipe.output_s3)
    except StoreNotFound:
        frames, clips = _length(recipe, take, probe)
        per_unit = unit_clips(recipe.job.store.unit_frames, recipe.grid.stride)
        units = -(-clips // per_unit)
        total = sum(found or 0 for found in size.values())
        return PlannedTake(take, frames, clips * len(streams), 0, units, total, absent, probe)
    frames = int(store.attributes["grid"]["frames"])
    there = [name for name in streams if name in store.streams]
    gaps = [] if store.status == COMPLETE else store.missing(there)
    new = [name for name in streams if name not in there]
    missing = sum((gap.stop - gap.start) * len(gap.streams) for gap in gaps)
    missing += store.clips * len(new)
    units = max(len(gaps), -(-store.clips // store.unit_clips) if new else 0)
    waiting = {name for gap in gaps for name in gap.streams} | set(new)
    clips = store.clips * len(streams)
    left = sum(size[name] or 0 for name in waiting)
    return PlannedTake(take, frames, clips, clips - missing, units, left, absent, True)


def _length(recipe: Recipe, take: Take, probe: bool) -> tuple[int, int]:
    if probe:
        found, _ = probe_take(take, recipe.source_s3, Counters())
        grid = make_grid(found.frames, found.rate, recipe.grid)
    else:
        frames = round((take.duration or 0) * NOMINAL_RATE)
        grid = make_grid(frames, Fraction(NOMINAL_RATE), recipe.grid)
    return grid.frames, grid.clips
