"""A take made ready: probed, its store there, and the units still to do named."""

import platform
from collections.abc import Sequence
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import av

from takestream.schema import COMPLETE, Reason
from takestream.storage import S3Options
from takestream.version import own_version
from workers.clock.grid import Grid, make_grid
from workers.clock.probe import StreamProbe, TakeProbe, probe_take
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.media.index import Index
from workers.media.source import ObjectIdentity, Source
from workers.run.recipe import Recipe
from workers.run.tasks import Failure, PreparedTake, Unit
from workers.store.errors import StoreMismatch, StoreNotFound
from workers.store.layout import StoreLayout, unit_clips
from workers.store.takestore import TakeStore

Probed = tuple[TakeProbe, dict[str, Index]]
RECORDED = ("av", "numpy", "ray", "s3fs", "torch", "transformers", "zarr")


def prepare(
    recipe: Recipe, take: Take, streams: Sequence[str], counters: Counters
) -> tuple[PreparedTake, Probed | None]:
    """Make `take` ready for `streams` of it.

    A complete store whose source objects are still the same is left alone, at one HEAD per stream.
    Otherwise the take is probed, the store made or extended, and streams whose object changed are
    forgotten so that they are extracted again. An object that vanished loses nothing.
    Raises SourceError and StoreError.
    """
    uri = recipe.store_uri(take.uid)
    before = counters.snapshot()
    existing = _existing(uri, recipe.output_s3)
    if existing and _is_up_to_date(existing, take, streams, recipe.source_s3, counters):
        clips = existing.clips * len(streams)
        return PreparedTake(take, uri, (), clips, clips, problems=_problems(existing)), None
    probe, indexes = probed = probe_take(take, recipe.source_s3, counters)
    grid = make_grid(probe.frames, probe.rate, recipe.grid)
    if not grid.clips or not set(indexes) & set(streams):
        return PreparedTake(take, uri, (), failures=_hopeless(take, streams, probe)), None
    store = _store(uri, recipe, take, streams, probe, grid)
    _forget_changed(store, take, streams, probe)
    gaps = store.missing(list(streams))
    missing = sum((gap.stop - gap.start) * len(gap.streams) for gap in gaps)
    clips = store.clips * len(streams)
    after = counters.snapshot()
    prepared = PreparedTake(
        take=take,
        store=store.uri,
        units=tuple(Unit(take, gap.start, gap.stop, gap.streams) for gap in gaps),
        clips=clips,
        clips_done=clips - missing,
        frames=probe.frames,
        bytes=sum(probe.streams[name].size or 0 for name in streams),
        problems=_problems(store),
        counts={name: after[name] - before.get(name, 0) for name in after},
    )
    return prepared, probed


def _existing(uri: str, s3: S3Options) -> TakeStore | None:
    try:
        return TakeStore.open(uri, s3, writable=True)
    except StoreNotFound:
        return None


def _is_up_to_date(
    store: TakeStore, take: Take, streams: Sequence[str], s3: S3Options, counters: Counters
) -> bool:
    if store.status != COMPLETE or not set(streams) <= set(store.streams):
        return False
    return not videos_changed(store, take, streams, s3, counters) and not store.missing(
        list(streams)
    )


def videos_changed(
    store: TakeStore, take: Take, streams: Sequence[str], s3: S3Options, counters: Counters
) -> bool:
    """Whether any of the streams' objects is another one than the store was made from.

    One HEAD per stream; an object that is gone has not changed. Raises SourceError.
    """
    known = _known_identities(store)
    for stream in take.streams:
        if stream.key not in streams or stream.uri is None:
            continue
        try:
            now = Source(stream.uri, s3, counters).identity()
        except FileNotFoundError:
            continue
        if known.get(stream.key) != now:
            return True
    return False


def _known_identities(store: TakeStore) -> dict[str, ObjectIdentity | None]:
    facts = store.attributes.get("provenance", {}).get("streams", {})
    return {
        name: ObjectIdentity(known["size"], known["etag"]) if known.get("etag") else None
        for name, known in facts.items()
    }


def _store(
    uri: str, recipe: Recipe, take: Take, streams: Sequence[str], probe: TakeProbe, grid: Grid
) -> TakeStore:
    assert recipe.encoder.dim is not None
    layout = StoreLayout(
        streams=tuple(streams),
        dim=recipe.encoder.dim,
        dtype=recipe.job.store.dtype,
        unit_clips=unit_clips(recipe.job.store.unit_frames, recipe.grid.stride),
        start_frame=grid.start,
        stop_frame=grid.stop,
        start_time=grid.start_time(),
        end_time=grid.end_time(),
        attributes=_attributes(recipe, take, streams, probe, grid),
    )
    try:
        return TakeStore.create(uri, layout, recipe.output_s3)
    except StoreMismatch:
        old = _existing(uri, recipe.output_s3)
        if old is None or not changed_streams(old, probe):
            raise
        # The take has another length now: not one clip of the old grid means the same moment.
        old.remove()
        return TakeStore.create(uri, layout, recipe.output_s3)


def _forget_changed(store: TakeStore, take: Take, streams: Sequence[str], probe: TakeProbe) -> None:
    for name in sorted(changed_streams(store, probe) & set(streams)):
        store.reset(name)
        store.update_attributes(
            provenance={"streams": {name: _facts(take, name, probe)}},
            problems={name: list(probe.problems().get(name, ()))},
        )


def changed_streams(store: TakeStore, probe: TakeProbe) -> set[str]:
    """The streams whose object is another one than the store was made from."""
    known = _known_identities(store)
    return {
        name
        for name, now in probe.streams.items()
        if name in store.streams and now.identity is not None and known.get(name) != now.identity
    }


def _attributes(
    recipe: Recipe, take: Take, streams: Sequence[str], probe: TakeProbe, grid: Grid
) -> dict[str, Any]:
    spec = recipe.encoder
    encoder = spec.model_dump(mode="json", exclude={"grid"})
    problems = probe.problems()
    return {
        "take": {
            "take_uid": take.uid,
            "take_name": take.name,
            "task_name": take.task,
            "university_name": take.university,
            "capture_name": take.capture,
        },
        "grid": {
            **recipe.grid.model_dump(mode="json"),
            "fps": float(grid.fps),
            "fps_fraction": str(grid.fps),
            "take_fps_fraction": str(Fraction(probe.rate)),
            "frames": grid.frames,
            "clips": grid.clips,
            "padded": grid.padded,
        },
        "encoder": {**encoder, "encoder_id": recipe.encoder_id},
        "provenance": {
            "streams": {name: _facts(take, name, probe) for name in streams},
            "resolution": recipe.job.select.resolution,
            "rotate": dict(recipe.job.rotate),
            "versions": versions(),
            "git_commit": recipe.git_commit,
        },
        "problems": {name: list(problems[name]) for name in streams if name in problems},
    }


def _facts(take: Take, name: str, probe: TakeProbe) -> dict[str, Any]:
    stream = next(stream for stream in take.streams if stream.key == name)
    return {"cam_id": stream.cam_id, "is_ego": stream.is_ego, **probe.streams[name].provenance()}


def versions() -> dict[str, str]:
    """Versions of what the features' values can depend on."""
    libav = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return {
        "python": platform.python_version(),
        "libavcodec": libav,
        "takestream": own_version(),
        **{name: version(name) for name in RECORDED},
    }


def _problems(store: TakeStore) -> dict[str, tuple[str, ...]]:
    found = store.attributes.get("problems", {})
    return {name: tuple(lines) for name, lines in found.items()}


def _hopeless(take: Take, streams: Sequence[str], probe: TakeProbe) -> tuple[Failure, ...]:
    def reason(found: StreamProbe) -> str:
        if found.reason is Reason.VALID:
            return f"too short for one clip ({found.frames} frames; the grid drops the tail)"
        return found.fault

    return tuple(
        Failure(take.name, name, reason(probe.streams[name]), kind="unreadable") for name in streams
    )
