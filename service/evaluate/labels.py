"""What takes, or segments of them, are called: from the facts in the stores, or from a file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.evaluate.errors import EvaluationRefused
from takestream.facts import COLUMNS, Fact, task_span, value_of
from takestream.storage import S3Options
from takestream.stores import StoredTake
from workers.dataset.segments import read_segments
from workers.dataset.take import Segment

# Labels that come from the facts of the take, by the word for them.
FROM_FACTS: Mapping[str, str] = {
    "parent_task": "parent_task",
    "task": "task",
    "participant": "participant_uid",
    "university": "university",
}
Interval = tuple[float, float]
_WHOLE_NUMBER = re.compile(r"^(-?\d+)\.0+$")
_WHOLE: Interval = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class Labels:
    """Labelled intervals of takes.

    Attributes:
        name: What they are: a word of `FROM_FACTS`, or the URI of a file.
        by_take: By the take's uid, intervals in seconds on its clock with their labels; one
            interval may have several.
        words: By label, what it is called.
        whole_takes: Whether each interval is a whole take, or its task.
        without: Takes with a store and without a label.
        spanless: Takes of which the task's span alone was asked for, and that do not say it: their
            interval is the whole take.
        unstored: Labelled takes of the file that have no complete store.
    """

    name: str
    by_take: Mapping[str, Sequence[tuple[Interval, tuple[str, ...]]]]
    words: Mapping[str, str]
    whole_takes: bool
    without: int
    spanless: int = 0
    unstored: int = 0


def labels_of(
    name: str, takes: Sequence[StoredTake], s3: S3Options, *, task_only: bool = False
) -> Labels:
    """The labels of stored takes.

    Args:
        name: A word of `FROM_FACTS`, else the URI of a file: keysteps in Ego-Exo4D's own shape, or
            a CSV with columns take, start, end, label.
        takes: Of the stores.
        s3: How to reach the file.
        task_only: Of labels from facts, the interval is the task's where the take says when it is.

    Raises:
        EvaluationRefused: No take has such a label.
        DatasetError: The file cannot be used.
        StorageError: The file cannot be read.
    """
    if name in FROM_FACTS:
        return _from_facts(name, takes, task_only=task_only)
    segments = read_segments(name, s3)
    found: dict[str, list[tuple[Interval, tuple[str, ...]]]] = {}
    words: dict[str, str] = {}
    for take in takes:
        mine = segments.by_take.get(take.uid) or segments.by_take.get(take.name) or ()
        by_interval: dict[Interval, dict[str, None]] = {}
        for segment in mine:
            label = _label(segment)
            if label:
                words.setdefault(label, segment.name.strip() or label)
                by_interval.setdefault((segment.start, segment.end), {})[label] = None
        if by_interval:
            found[take.uid] = [(span, tuple(names)) for span, names in by_interval.items()]
    if not any(_label(one) for mine in segments.by_take.values() for one in mine):
        raise EvaluationRefused(
            f"{name}: its segments have no labels: a CSV needs a column label, keysteps a step_id,"
            " step_unique_id or step_name"
        )
    if not found:
        raise EvaluationRefused(
            f"{name}: none of its {len(segments.by_take)} takes has a complete store with a"
            f" labelled segment among {len(takes)}"
        )
    stored = {name for take in takes for name in (take.uid, take.name)}
    unstored = sum(
        any(map(_label, mine)) and take not in stored for take, mine in segments.by_take.items()
    )
    return Labels(name, found, words, False, len(takes) - len(found), unstored=unstored)


def said(take: StoredTake, fact: Fact) -> str | None:
    """A fact of a take as text; None where it is absent, of another kind, or blank."""
    value = value_of(take.facts, fact)
    return None if value is None else str(value).strip() or None


def _label(segment: Segment) -> str:
    """Without blanks around it; numbers alike, whether a table made them 3 or 3.0."""
    label = segment.label.strip() or segment.name.strip()
    return _WHOLE_NUMBER.sub(r"\1", label)


def _from_facts(name: str, takes: Sequence[StoredTake], *, task_only: bool) -> Labels:
    fact = COLUMNS[FROM_FACTS[name]]
    found: dict[str, list[tuple[Interval, tuple[str, ...]]]] = {}
    spanless = 0
    for take in takes:
        value = said(take, fact)
        if value is not None:
            span = task_span(take.facts) if task_only else None
            spanless += task_only and span is None
            found[take.uid] = [(span or _WHOLE, (value,))]
    if not found:
        raise EvaluationRefused(
            f"labels {name}: none of {len(takes)} complete stores says its {fact.name};"
            " `takestream facts --refresh` fills in what the data set says, or name a file of"
            " labels"
        )
    words = {label: label for rows in found.values() for _, labels in rows for label in labels}
    return Labels(name, found, words, True, len(takes) - len(found), spanless)
