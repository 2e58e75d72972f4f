"""What a store says of its own making: take, grid, encoder, sources, versions."""

import platform
from collections.abc import Sequence
from fractions import Fraction
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import av

from takestream.facts import NOTES, notes_of
from takestream.licence import ATTRIBUTE
from takestream.schema import TASK_SPAN, UNREAD
from takestream.sync import TakeSync
from takestream.version import own_version
from workers.clock.grid import Grid
from workers.clock.probe import TakeProbe
from workers.dataset.layouts import licence_of
from workers.dataset.take import Take
from workers.run.recipe import Recipe, Target
from workers.run.synchronise import sync_problems

RECORDED = ("av", "numpy", "ray", "s3fs", "torch", "transformers", "zarr")


def store_attributes(
    recipe: Recipe,
    target: Target,
    take: Take,
    streams: Sequence[str],
    probe: TakeProbe,
    grid: Grid,
    runtime: str | None = None,
    sync: TakeSync | None = None,
) -> dict[str, Any]:
    """The attributes of a new store, JSON-able: take, grid, encoder, provenance, problems, and,
    where they are known, the licence of the videos and sync.

    `runtime` names what runs the network, and its version, where that is known; `sync` is what was
    measured, where it was.
    """
    encoder = target.encoder.model_dump(mode="json", exclude={"grid"})
    problems = {name: list(lines) for name, lines in probe.problems().items()}
    for name, line in ({} if sync is None else sync_problems(sync)).items():
        problems.setdefault(name, []).append(line)
    more: dict[str, Any] = {"segments": recipe.job.segments} if recipe.job.segments else {}
    if recipe.job.select.task_span:
        span = recipe.span(take)
        more["task_span"], more[TASK_SPAN] = True, None if span is None else list(span)
    if probe.unread:
        more[UNREAD] = sorted(probe.unread)
    if runtime:
        more["runtime"] = runtime
    if sync is not None:
        more["sync"] = recipe.job.sync.model_dump(mode="json")
    licence = licence_of(recipe.job, take)
    return {
        "take": take.facts(),
        "grid": {
            **target.grid.model_dump(mode="json"),
            "fps": float(grid.fps),
            "fps_fraction": str(grid.fps),
            "take_fps_fraction": str(Fraction(probe.rate)),
            "frames": grid.frames,
            "clips": grid.clips,
            "padded": grid.padded,
        },
        "encoder": {**encoder, "encoder_id": target.encoder_id},
        "provenance": {
            "streams": {name: stream_facts(take, name, probe) for name in streams},
            "resolution": recipe.job.select.resolution,
            "rotate": dict(recipe.job.rotate),
            "timeline": recipe.job.timeline.model_dump(mode="json"),
            **more,
            "versions": versions(),
            "git_commit": recipe.git_commit,
        },
        "problems": {
            **({NOTES: notes} if (notes := notes_of(take.facts())) else {}),
            **{name: problems[name] for name in streams if name in problems},
        },
        **({} if sync is None else {"sync": sync.facts()}),
        # Not in the provenance: another licence is no reason to extract anything again.
        **({} if licence is None else {ATTRIBUTE: licence.facts()}),
    }


def stream_facts(take: Take, name: str, probe: TakeProbe) -> dict[str, Any]:
    """What the provenance keeps of one stream."""
    stream = next(stream for stream in take.streams if stream.key == name)
    return {"cam_id": stream.cam_id, "is_ego": stream.is_ego, **probe.streams[name].provenance()}


def versions() -> dict[str, str]:
    """Versions of what the features' values can depend on, as far as it is installed."""
    libav = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return {
        "python": platform.python_version(),
        "libavcodec": libav,
        "takestream": own_version(),
        **{name: version(name) for name in RECORDED if find_spec(name)},
    }
