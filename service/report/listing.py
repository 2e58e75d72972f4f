"""Takes and plans in print: a table for people, however long, and the facts for scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.dataset.take import Take
from workers.run.plan import PlannedTake

Row = tuple[str, ...]
# More rows are printed as they are: fitting thousands into the terminal takes seconds.
MOST_FITTED = 300

TAKES = ("take", "take_uid", "task", "university", "s", "streams", "MB", "missing")
PLAN = ("take", "frames", "clips", "done", "units", "MB to read", "absent")


def print_rows(headings: Sequence[str], rows: Sequence[Row], console: Console) -> None:
    """A table; names and uids, in the first columns, are there to be copied and never cut."""
    if len(rows) <= MOST_FITTED:
        table = Table(box=None)
        for number, heading in enumerate(headings):
            kept = number == 0 or heading.endswith("uid")
            table.add_column(heading, overflow="fold", no_wrap=kept)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (tuple(headings), *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.file.write("  ".join(cells).rstrip() + "\n")


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


def take_facts(take: Take, sizes: Mapping[str, int | None]) -> dict[str, Any]:
    """Everything that the data set says of a take, JSON-able."""
    streams = [
        {**_facts(stream), "size": sizes.get(stream.uri) if stream.uri else None}
        for stream in take.streams
    ]
    return {**_facts(take), "streams": streams}


def planned_row(take: PlannedTake) -> Row:
    """One line of a plan."""
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
