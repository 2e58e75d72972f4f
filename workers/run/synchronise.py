"""What a job does with synchronisation: measures it once for a take, and keeps it in its stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from takestream.sync import SYNC_VERSION, TakeSync, offset_words
from workers.clock.probe import TakeProbe
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.media.video import Video
from workers.run.recipe import Recipe
from workers.store.errors import StoreMismatch
from workers.store.takestore import TakeStore

# How a sentence about a stream begins that is off by a frame or more.
OFF = "not in step"


class Synchronisation:
    """The synchronisation of a take that was probed, for the stores of one job.

    Args:
        recipe: the job's.
        take: whole.
        probed: what probing it found.
        counters: of what is read and decoded.
    """

    def __init__(
        self,
        recipe: Recipe,
        take: Take,
        probed: tuple[TakeProbe, Mapping[str, Video]],
        counters: Counters,
    ) -> None:
        self._recipe, self._take, self._probed, self._counters = recipe, take, probed, counters
        self._found: TakeSync | None = None

    @property
    def asked(self) -> bool:
        """Whether the job asks for it."""
        return self._recipe.job.sync.measure != "off"

    @property
    def now(self) -> TakeSync:
        """As measured, once; with the streams' shifts where the job applies them.

        Raises:
            StorageError: the storage fails.
        """
        if self._found is None:
            spec = self._recipe.job.sync
            # With SciPy it takes 50 MB, which commands that only plan need not have.
            from workers.sync.measure import measure_take

            found = measure_take(
                self._take, self._recipe.dataset, spec.measure, self._counters, self._probed
            )
            self._found = applied(found) if spec.apply else found
        return self._found

    def adopt(self, store: TakeStore) -> None:
        """Take what a store of this job says for what was measured, so that all stores agree."""
        self._found = self._found or TakeSync.of(store.attributes)

    def note(self, store: TakeStore) -> None:
        """Write it into a store that is there: the attribute, and a sentence for each stream."""
        said = sync_problems(self.now)
        kept = store.attributes.get("problems", {})
        problems = {
            name: [
                *(line for line in kept.get(name, []) if not line.startswith(OFF)),
                *([said[name]] if name in said else []),
            ]
            for name in store.streams
        }
        changed = {name: lines for name, lines in problems.items() if lines != kept.get(name, [])}
        store.update_attributes(sync=self.now.facts(), problems=changed)


def applied(found: TakeSync) -> TakeSync:
    """A measurement with the shifts by which it is corrected: where it is believed."""
    streams = {
        name: replace(one, shift_frames=one.frames) if one.believed and one.frames else one
        for name, one in found.streams.items()
    }
    return replace(found, streams=streams, applied=True)


def has_sync(recipe: Recipe, store: TakeStore) -> bool:
    """Whether a store says of synchronisation what the job asks for; so too where it asks none."""
    spec = recipe.job.sync
    if spec.measure == "off":
        return True
    found = TakeSync.of(store.attributes)
    return (
        found is not None
        and found.version == SYNC_VERSION
        and (found.measure, found.applied) == (spec.measure, spec.apply)
        and set(store.streams) <= set(found.streams)
    )


def shifted_otherwise(store: TakeStore, now: TakeSync) -> set[str]:
    """The streams of a store whose clips were made with another shift than is measured now."""
    before = shifts([store])
    return {
        name
        for name in store.streams
        if before.get(name, 0) != (now.streams[name].shift_frames if name in now.streams else 0)
    }


def shifts(stores: Sequence[TakeStore]) -> dict[str, int]:
    """By stream, by how many frames the timelines of some stores of one take are shifted.

    Raises:
        StoreMismatch: they are shifted differently, so that they cannot share one decoding.
    """
    found: dict[str, int] = {}
    for number, store in enumerate(stores):
        sync = TakeSync.of(store.attributes)
        streams = {} if sync is None or not sync.applied else sync.streams
        own = {name: one.shift_frames for name, one in streams.items() if one.shift_frames}
        if number and own != found:
            raise StoreMismatch(
                f"{store.uri} has streams shifted otherwise than {stores[0].uri}. Remove one of "
                "them, or extract with one encoder at a time"
            )
        found = own
    return found


def sync_problems(sync: TakeSync) -> dict[str, str]:
    """Per stream that is off by a frame or more, what was measured, and what was done about it."""
    found = {}
    for name, one in sync.streams.items():
        if one.believed and one.frames:
            said = f"{offset_words(one.offset_ms)} ms by {one.witness}, {one.verdict}"
            done = f"its timeline was shifted by {one.shift_frames:+d} frames"
            left = "frames were not shifted; `--sync apply` does it"
            found[name] = f"{OFF}: {said}; {done if one.shift_frames else left}"
    return found
