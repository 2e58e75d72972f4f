"""Annotated segments of takes: Ego-Exo4D's keysteps in their own shape, or a CSV.

Shapes: https://docs.ego-exo4d-data.org/annotations/keystep (`annotations` by take, or a list
`segments`). A CSV has the columns take, start, end and, if wanted, name and label.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from takestream.storage import S3Options
from workers.dataset.take import DatasetError, Segment, Take
from workers.media.source import Source


@dataclass(frozen=True)
class Segments:
    """What an annotation file says.

    Attributes:
        uri: the file.
        digest: sha256 of the segments, whatever the file's layout.
        by_take: by the take's uid or name, its segments in time order.
    """

    uri: str
    digest: str
    by_take: Mapping[str, tuple[Segment, ...]]

    def of(self, takes: Iterable[Take]) -> list[Take]:
        """Those of the takes that have segments, with them.

        Raises:
            DatasetError: none of the takes has any.
        """
        takes = list(takes)
        found = []
        for take in takes:
            mine = self.by_take.get(take.uid) or self.by_take.get(take.name)
            if mine:
                found.append(replace(take, segments=mine))
        if not found:
            some = ", ".join(sorted(self.by_take)[:3])
            raise DatasetError(
                f"{self.uri}: none of its {len(self.by_take)} takes ({some} …) is among the"
                f" {len(takes)} takes chosen"
            )
        return found


def read_segments(uri: str, s3: S3Options | None = None) -> Segments:
    """The segments in the annotation file at `uri`.

    Raises:
        DatasetError: the file is absent, of another shape, or holds a segment that is none.
        StorageError: the storage cannot be read.
    """
    try:
        data = Source(uri, s3).whole()
    except FileNotFoundError:
        raise DatasetError(f"{uri}: there is no such file of segments") from None
    by_take: dict[str, list[Segment]] = {}
    for where, take, fields in _entries(uri, data):
        by_take.setdefault(take, []).append(_segment(f"{uri}: {where}", fields))
    if not by_take:
        raise DatasetError(f"{uri}: it holds no segments")
    ordered = {
        take: tuple(sorted(mine, key=lambda segment: (segment.start, segment.end)))
        for take, mine in by_take.items()
    }
    facts = [
        [take, [[s.start, s.end, s.name, s.label] for s in ordered[take]]]
        for take in sorted(ordered)
    ]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return Segments(uri, digest, ordered)


def _entries(uri: str, data: bytes) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Where each segment stands, its take, and its fields."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{uri}: not a text file ({error})") from error
    if text.lstrip()[:1] in ("{", "["):
        yield from _from_json(uri, text)
        return
    # Of all that ends a line, spreadsheets write these three.
    lines = io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"))
    rows = csv.DictReader(lines, skipinitialspace=True)
    if not {"take", "start", "end"} <= set(rows.fieldnames or ()):
        head = text.strip().splitlines()[:1]
        raise DatasetError(
            f"{uri}: neither keystep JSON nor a CSV with columns take, start, end, separated by"
            f" commas; it begins with {head[0][:80]!r}"
            if head
            else f"{uri}: it is empty"
        )
    try:
        for row in rows:
            yield f"line {rows.line_num}", str(row["take"] or ""), row
    except csv.Error as error:
        raise DatasetError(f"{uri}: line {rows.line_num}: not a CSV file ({error})") from error


def _from_json(uri: str, text: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{uri}: not valid JSON ({error})") from error
    annotations = parsed.get("annotations") if isinstance(parsed, dict) else None
    if isinstance(annotations, dict):
        for take, entry in annotations.items():
            segments = entry.get("segments") if isinstance(entry, dict) else None
            for number, fields in enumerate(_list(f"{uri}: take {take}", segments)):
                yield f"take {take}, segment {number}", take, fields
        return
    listed = parsed.get("segments") if isinstance(parsed, dict) else parsed
    for number, fields in enumerate(_list(uri, listed)):
        take = fields.get("take_uid") or fields.get("take_name") or fields.get("take")
        if not isinstance(take, str):
            raise DatasetError(f"{uri}: segment {number} names no take")
        yield f"segment {number}", take, fields


def _list(where: str, value: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise DatasetError(f"{where}: expected a list of segments")
    return value


def _segment(where: str, fields: Mapping[str, Any]) -> Segment:
    start = _seconds(where, "start", fields.get("start_time", fields.get("start")))
    end = _seconds(where, "end", fields.get("end_time", fields.get("end")))
    if end < start:
        raise DatasetError(f"{where}: it ends at {end:g} s, before it begins at {start:g} s")
    name = fields.get("step_name", fields.get("name"))
    label = next(
        (fields[key] for key in ("label_id", "step_unique_id", "step_id", "label")
         if fields.get(key) is not None), "",
    )  # fmt: skip
    return Segment(start, end, _word(where, "name", name), _word(where, "label", label))


def _word(where: str, what: str, value: Any) -> str:
    """A text or a number, as text; empty where there is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise DatasetError(f"{where}: its {what} is {value!r}, expected text or a number")
    # Tables write NaN for what is absent.
    return "" if value is None or value != value else str(value)


def _seconds(where: str, what: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise DatasetError(f"{where}: its {what} is {value!r}, expected seconds") from None
    if not math.isfinite(seconds) or not 0 <= seconds < 1e6:
        raise DatasetError(f"{where}: its {what} is {value!r}, expected seconds from the start")
    return seconds
