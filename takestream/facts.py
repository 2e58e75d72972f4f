"""What a data set says of a take, as stores and catalogues carry it: names, kinds, meanings.

The attribute `take` of a store holds these by `name`; a catalogue has a column `column` for each.
A fact that the data set does not state, or states in another kind, is null.
"""

import difflib
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

TEXT: Final = "text"
WHOLE: Final = "whole number"
REAL: Final = "number"
FLAG: Final = "true or false"
LIST: Final = "list of texts"
TABLE: Final = "object"

# In `problems`, beside the names of streams: what the data set itself says against the take.
NOTES: Final = "take"


@dataclass(frozen=True)
class Fact:
    """One fact of a take.

    Attributes:
        name: In the attribute `take` of stores: the data set's own word.
        kind: Of its value.
        words: What it says.
        column: Of catalogues and filters; empty where there is none.
    """

    name: str
    kind: str
    words: str
    column: str


FACTS: Final = (
    Fact("take_uid", TEXT, "uid of the take", "take_uid"),
    Fact("take_name", TEXT, "its name", "take_name"),
    Fact("task_name", TEXT, "what is done", "task"),
    Fact("task_id", WHOLE, "number of the task", "task_id"),
    Fact("parent_task_name", TEXT, "scenario that the task belongs to", "parent_task"),
    Fact("parent_task_id", WHOLE, "number of the scenario", "parent_task_id"),
    Fact("task_start_sec", REAL, "start of the task on the take's clock, in s", "task_start_sec"),
    Fact("task_end_sec", REAL, "end of the task on the take's clock, in s", "task_end_sec"),
    Fact("university_name", TEXT, "where it was filmed", "university"),
    Fact("participant_uid", TEXT, "who wears the camera", "participant_uid"),
    Fact("physical_setting_uid", TEXT, "the place", "physical_setting_uid"),
    Fact("capture_name", TEXT, "session of filming", "capture"),
    Fact("capture_uid", TEXT, "uid of the session", "capture_uid"),
    Fact("best_exo", TEXT, "camera that shows it best from outside", "best_exo"),
    Fact("is_narrated", FLAG, "whether it has narrations", "is_narrated"),
    Fact("validated", FLAG, "whether somebody looked at the take", "validated"),
    Fact(
        "timesync_validated", FLAG, "whether somebody looked at its synchronisation",
        "timesync_validated",
    ),
    Fact("duration_sec", REAL, "length by the data set, in s", "duration_sec"),
    Fact("split", TEXT, "official split; null for a take of several too", "split"),
    Fact("benchmarks", LIST, "benchmarks that it belongs to", "benchmarks"),
    Fact("cameras", TABLE, "by cam_id, `is_ego` and `device_type`", ""),
)  # fmt: skip
COLUMNS: Final[Mapping[str, Fact]] = {fact.column: fact for fact in FACTS if fact.column}

_PLAIN: Final[Mapping[str, tuple[type, ...]]] = {
    TEXT: (str,), WHOLE: (int,), REAL: (int, float), FLAG: (bool,), LIST: (list,), TABLE: (dict,),
}  # fmt: skip


def value_of(take: Mapping[str, Any], fact: Fact) -> Any:
    """A fact of the attribute `take` of a store; None where it is absent or of another kind."""
    value = take.get(fact.name)
    if not isinstance(value, _PLAIN[fact.kind]) or (isinstance(value, bool) and fact.kind != FLAG):
        return None
    if isinstance(value, list):
        return [word for word in value if isinstance(word, str)]
    return value


def task_span(take: Mapping[str, Any]) -> tuple[float, float] | None:
    """Seconds `[start, end)` on the take's clock in which the task is done; None where unknown.

    Args:
        take: The attribute `take` of a store.
    """
    start, end = (value_of(take, COLUMNS[name]) for name in ("task_start_sec", "task_end_sec"))
    return None if start is None or end is None or start >= end else (float(start), float(end))


def in_span(
    start_time: NDArray[np.float64], end_time: NDArray[np.float64], span: tuple[float, float]
) -> NDArray[np.bool_]:
    """Whether the middle of each clip lies in a span; bool [clips].

    Args:
        start_time: float64 [clips], seconds on the take's clock.
        end_time: float64 [clips], seconds on the take's clock.
        span: Seconds `[start, end)`.
    """
    middle = (start_time + end_time) / 2
    return np.asarray((middle >= span[0]) & (middle < span[1]))


def notes_of(take: Mapping[str, Any]) -> list[str]:
    """What the data set itself says against a take, in sentences; notes, not damage.

    Args:
        take: The attribute `take` of a store.
    """
    notes = []
    if take.get("validated") is False:
        notes.append("note: the data set says that this take is not validated")
    if take.get("timesync_validated") is False:
        notes.append("note: the data set says that this take's synchronisation is not validated")
    return notes


def parse_condition(text: str) -> tuple[Fact, str]:
    """`FACT=VALUE` with the column of a fact.

    Raises:
        ValueError: It is not of that form, or there is no such fact.
    """
    name, sign, wanted = text.partition("=")
    if not sign or name not in COLUMNS:
        near = difflib.get_close_matches(name, COLUMNS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; facts: {', '.join(COLUMNS)}"
        raise ValueError(f"{text!r} is not FACT=VALUE with a fact that there is{hint}")
    return COLUMNS[name], wanted


def fits(take: Mapping[str, Any], conditions: Iterable[tuple[Fact, str]]) -> bool:
    """Whether a take's facts are what was asked for.

    Args:
        take: The attribute `take` of a store.
        conditions: As `parse_condition` gives them.
    """
    return all(matches(value_of(take, fact), wanted, fact.kind) for fact, wanted in conditions)


def matches(value: Any, wanted: str, kind: str) -> bool:
    """Whether a fact is what was asked for, as text: `true`, `1031`, `null`, or a shell pattern."""
    values: list[Any] = value if isinstance(value, list) else [value]
    for one in values:
        if one is None:
            continue
        if kind == FLAG:
            if wanted.lower() == str(one).lower():
                return True
        elif kind in (WHOLE, REAL):
            if _number(wanted) == one:
                return True
        elif wanted == one or fnmatch.fnmatchcase(str(one), wanted):
            return True
    return wanted.lower() == "null" and value is None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def markdown_table(facts: Iterable[Fact] = FACTS) -> str:
    """The facts as a table in Markdown, for the documentation."""
    rows = ["| fact | kind | catalogue's column | meaning |", "| --- | --- | --- | --- |"]
    for fact in facts:
        column = f"`{fact.column}`" if fact.column else ""
        rows.append(f"| `{fact.name}` | {fact.kind} | {column} | {fact.words} |")
    return "\n".join(rows) + "\n"
