"""Which takes have features that are not those of today's videos and settings, and why."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from takestream.catalogue import EncoderFolder, folders_of
from takestream.errors import StorageNotFound
from takestream.root import StoreFault, read_root
from takestream.schema import COMPLETE
from takestream.storage import open_filesystem, translated
from takestream.stores import is_encoder_id, preset_of, read_roots, uid_of
from workers.dataset.base import Dataset
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.run.recipe import Recipe, Target
from workers.run.sources import SourceObject, objects_now
from workers.run.synchronise import has_sync
from workers.run.task_span import Span, span_changed, span_then
from workers.store.errors import StoreNotFound
from workers.store.objects import written_at
from workers.store.takestore import TakeStore

State = Literal["current", "partial", "stale", "missing"]
Chosen = Sequence[tuple[Take, tuple[str, ...]]]

_PARALLEL = 16
# Enough of a digest or an ETag to tell two apart.
_SHOWN = 12


@dataclass(frozen=True)
class TakeState:
    """How the features of a take and a target stand.

    Attributes:
        take: Whole.
        streams: Names of those asked for.
        encoder_id: Of the target.
        state: `current`: complete, of today's videos and settings. `partial`: of today's, and
            not complete. `stale`: made from other videos, or there by another version of the
            encoder alone. `missing`: not there at all.
        reasons: Why it is stale, in words.
        version: The encoder_id of the store that is there; None where it is missing.
    """

    take: Take
    streams: tuple[str, ...]
    encoder_id: str
    state: State
    reasons: tuple[str, ...] = ()
    version: str | None = None


def states(recipe: Recipe, takes: Chosen) -> list[TakeState]:
    """How every take and target of a job stands: one HEAD for each stream of what is there.

    Raises:
        StorageError: The storage of the videos or of the stores fails.
    """
    others = {target.encoder_id: _others(recipe, target) for target in recipe.targets}

    def look(item: tuple[Take, tuple[str, ...]]) -> list[TakeState]:
        take, streams = item
        now: dict[str, SourceObject] | None = None
        found = []
        for target in recipe.targets:
            try:
                store = TakeStore.open(recipe.store_uri(take.uid, target), recipe.output_s3)
            except StoreNotFound:
                found.append(_elsewhere(take, streams, target, others[target.encoder_id]))
                continue
            if now is None:
                now, _ = objects_now(take, streams, recipe.dataset, Counters())
            found.append(_of_store(recipe, store, take, streams, target, now))
        return found

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return [state for part in pool.map(look, takes) for state in part]


def only_changed(recipe: Recipe, takes: Chosen) -> list[tuple[Take, tuple[str, ...]]]:
    """The takes that are stale for a target of a job. Raises StorageError."""
    stale = {state.take.uid for state in states(recipe, takes) if state.state == "stale"}
    return [item for item in takes if item[0].uid in stale]


def modified_since(
    dataset: Dataset, takes: Chosen, moment: datetime
) -> list[tuple[Take, tuple[str, ...]]]:
    """The takes of which a stream's object was written at `moment` or later.

    An object whose storage does not say when counts as written since; one that is absent does not.

    Raises:
        StorageError: The storage of the videos fails.
    """

    def since(item: tuple[Take, tuple[str, ...]]) -> bool:
        take, streams = item
        for stream in take.streams:
            if stream.key not in streams or stream.uri is None:
                continue
            uri, s3 = dataset.where(stream)
            try:
                with translated(uri, "read", s3):
                    fs, path = open_filesystem(uri, s3)
                    when = written_at(fs.info(path))
            except FileNotFoundError:
                continue
            if when is None or when >= moment.timestamp():
                return True
        return False

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return [item for item, kept in zip(takes, pool.map(since, takes), strict=True) if kept]


def settings_changed(attributes: Mapping[str, Any], recipe: Recipe, target: Target) -> list[str]:
    """Why a store with these attributes is not of a target, in words; never empty.

    Args:
        attributes: Of a store of another encoder_id.
        recipe: Of the job.
        target: One of its.
    """
    encoder, grid = attributes.get("encoder", {}), attributes.get("grid", {})
    provenance, job = attributes.get("provenance", {}), recipe.job
    wanted = target.encoder.model_dump(mode="json", exclude={"grid"})
    found = list(
        _changes(
            {"weights": encoder.get("sha256"), "preprocessing": encoder.get("preprocess")},
            {"weights": wanted.get("sha256"), "preprocessing": wanted.get("preprocess")},
        )
    )
    own = ("family", "frames", "sampling", "pool", "dim", "precision")
    found += _changes(
        {f"encoder: {name}": encoder.get(name) for name in own},
        {f"encoder: {name}": wanted.get(name) for name in own},
    )
    cut = target.grid.model_dump(mode="json")
    if cut.get("fps") == "auto":
        del cut["fps"]
    names = dict.fromkeys([*cut, *(name for name in ("segments",) if name in grid)])
    found += _changes(
        {f"grid: {name}": grid.get(name) for name in names},
        {f"grid: {name}": cut.get(name) for name in names},
    )
    found += _changes(
        {
            "resolution": provenance.get("resolution"),
            "rotation": {k: v for k, v in provenance.get("rotate", {}).items() if v},
            "timeline": provenance.get("timeline", {}).get("kind", "frames"),
            "the task's span alone": bool(provenance.get("task_span")),
            "sync correction": bool(provenance.get("sync", {}).get("apply")),
        },
        {
            "resolution": job.select.resolution,
            "rotation": {k: v for k, v in job.rotate.items() if v},
            "timeline": job.timeline.kind,
            "the task's span alone": job.select.task_span,
            "sync correction": job.sync.apply,
        },
    )
    return found or ["the version of preprocessing, of picture making or of synchronisation"]


def _of_store(
    recipe: Recipe,
    store: TakeStore,
    take: Take,
    streams: tuple[str, ...],
    target: Target,
    now: Mapping[str, SourceObject],
) -> TakeState:
    known = store.attributes.get("provenance", {}).get("streams", {})
    reasons = [
        f"source of {name}: {_source_change(known[name], there)}"
        for name, there in now.items()
        if name in store.streams and name in known and there.differs(known[name])
    ]
    if span_changed(recipe, store, take):
        reasons.append(f"span of the task: {_span(span_then(store))} → {_span(recipe.span(take))}")
    if not has_sync(recipe, store):
        reasons.append("sync correction: measured otherwise, or not at all")
    whole = store.status == COMPLETE and set(streams) <= set(store.streams)
    state: State = "stale" if reasons else "current" if whole else "partial"
    return TakeState(take, streams, target.encoder_id, state, tuple(reasons), target.encoder_id)


def _span(span: Span) -> str:
    return "the whole take" if span is None else f"{span[0]:g} to {span[1]:g} s"


def _source_change(facts: Mapping[str, Any], now: SourceObject) -> str:
    said = []
    if facts.get("size") != now.identity.size:
        said.append(f"size {facts.get('size')} → {now.identity.size}")
    if facts.get("etag") != now.identity.etag:
        if "://" in (now.uri or ""):
            said.append(f"ETag {_short(facts.get('etag'))} → {_short(now.identity.etag)}")
        else:  # its time of modification stands in for one, and says nothing to a person
            said.append("the file was written again")
    if (facts.get("start_offset") or 0.0) != (now.start_offset or 0.0):
        said.append(f"start {facts.get('start_offset') or 0.0:g} → {now.start_offset or 0.0:g} s")
    return ", ".join(said) or "another object"


def _elsewhere(
    take: Take,
    streams: tuple[str, ...],
    target: Target,
    others: Sequence[tuple[str, frozenset[str], tuple[str, ...]]],
) -> TakeState:
    for encoder_id, uids, reasons in others:
        if take.uid in uids:
            return TakeState(take, streams, target.encoder_id, "stale", reasons, encoder_id)
    return TakeState(take, streams, target.encoder_id, "missing")


def _others(recipe: Recipe, target: Target) -> list[tuple[str, frozenset[str], tuple[str, ...]]]:
    """Other versions of a target's preset: encoder_id, uids of their takes, what is other.

    The one with the fewest differences first.
    """
    preset = preset_of(target.encoder_id)
    try:
        folders = folders_of(recipe.job.output, None, recipe.output_s3)
    except StorageNotFound:
        return []
    found: list[tuple[str, frozenset[str], tuple[str, ...]]] = []
    for folder in folders:
        name = folder.encoder_id
        if name == target.encoder_id or not is_encoder_id(name) or preset_of(name) != preset:
            continue
        attributes = next(_attributes(folder, recipe), None)
        if attributes is not None:
            reasons = tuple(settings_changed(attributes, recipe, target))
            found.append((name, frozenset(map(uid_of, folder.stores)), reasons))
    return sorted(found, key=lambda one: (len(one[2]), one[0]))


def _attributes(folder: EncoderFolder, recipe: Recipe) -> Iterator[Mapping[str, Any]]:
    """Attributes of the stores that can be read, one after the other."""
    for store in folder.stores:
        for uri, data in read_roots([store], recipe.output_s3).items():
            try:
                yield read_root(data, uri).attributes
            except StoreFault:
                continue


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    return [
        f"{name} {_short(before[name])} → {_short(now[name])}"
        for name in now
        if before[name] != now[name]
    ]


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) > 2 * _SHOWN:
        return f"{value[:_SHOWN]}…"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
    return "none" if value is None else str(value)
