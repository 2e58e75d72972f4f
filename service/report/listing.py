"""Takes, plans and encoders as rows of a table, and the facts of them for scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from configs.schema import EncoderSpec
from service.report.table import Form, Row
from workers.dataset.take import Take
from workers.run.plan import PlannedTake

TAKES = ("take", "take_uid", "task", "university", "s", "streams", "MB", "missing")
PLAN = ("take", "frames", "clips", "done", "units", "MB to read", "absent")
PLAN_CSV = ("take", "frames", "clips", "done", "units", "bytes", "absent", "exact")
ENCODERS = ("encoder", "default", "here", "dim", "clip", "input", "licence", "weights")


def take_row(take: Take, sizes: Mapping[str, int | None]) -> Row:
    """One line of the list of takes."""
    there = {s.key: sizes.get(s.uri) for s in take.streams if s.uri}
    return (
        take.name,
        take.uid,
        take.task or "",
        take.university or "",
        "" if take.duration is None else f"{take.duration:.0f}",
        " ".join(s.key for s in take.streams),
        f"{sum(size or 0 for size in there.values()) / 1e6:.1f}",
        " ".join(s.key for s in take.streams if there.get(s.key) is None),
    )


def encoder_row(spec: EncoderSpec, *, default: bool, here: bool) -> Row:
    """One line of the list of encoders."""
    # Where the preset leaves it to the checkpoint, only loading it tells.
    size = "its own" if spec.preprocess is None else "×".join(map(str, spec.preprocess.size))
    grid = spec.grid
    clip = f"{spec.frames} of {grid.window} frames, every {grid.stride}"
    if grid.window == grid.stride == 1:
        clip = "every frame"
    return (
        spec.name, "default" if default else "", "yes" if here else "no",
        str(spec.dim), clip, size, spec.licence, spec.weights,
    )  # fmt: skip


def take_facts(take: Take, sizes: Mapping[str, int | None]) -> dict[str, Any]:
    """Everything that the data set says of a take, JSON-able."""
    streams = [
        {**_facts(stream), "size": sizes.get(stream.uri) if stream.uri else None}
        for stream in take.streams
    ]
    licence = None if take.licence is None else take.licence.facts()
    return {**_facts(take), "licence": licence, "streams": streams}


def planned_row(take: PlannedTake, *, form: Form = "table") -> Row:
    """One line of a plan; estimates are marked, but for scripts, which read numbers."""
    if form == "csv":
        numbers = take.frames, take.clips, take.clips_done, take.units, take.bytes
        exact = "yes" if take.exact else "no"
        return take.take.name, *map(str, numbers), " ".join(take.absent), exact
    sign = "" if take.exact else "~"
    return (
        take.take.name,
        f"{sign}{take.frames}",
        f"{sign}{take.clips}",
        str(take.clips_done),
        f"{sign}{take.units}",
        f"{take.bytes / 1e6:.1f}",
        " ".join(take.absent),
    )


def plan_facts(
    planned: Sequence[PlannedTake], clips_per_second: float | None, price_per_hour: float | None
) -> dict[str, Any]:
    """The sums of a plan."""
    clips = sum(take.clips for take in planned)
    left = clips - sum(take.clips_done for take in planned)
    hours = left / clips_per_second / 3600 if clips_per_second else None
    return {
        "encoders": [
            {
                "encoder_id": encoder_id,
                "clips": sum(take.targets[encoder_id][0] for take in planned),
                "clips_done": sum(take.targets[encoder_id][1] for take in planned),
            }
            for encoder_id in (planned[0].targets if planned else ())
        ],
        "clips": clips,
        "clips_left": left,
        "units": sum(take.units for take in planned),
        "bytes_left": sum(take.bytes for take in planned),
        "exact": all(take.exact for take in planned),
        "hours": hours,
        "cost": None if hours is None or price_per_hour is None else hours * price_per_hour,
    }


def planned_facts(take: PlannedTake) -> dict[str, Any]:
    """One take of a plan, JSON-able."""
    return {**_facts(take), "take": take.take.name, "take_uid": take.take.uid}


def _facts(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
