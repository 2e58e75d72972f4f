"""What an output holds, encoder by encoder: how far it is, and what is wrong with it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from takestream.catalogue import DAMAGED, Row, folders_of
from takestream.errors import StorageNotFound
from takestream.schema import COMPLETE, PARTIAL
from takestream.storage import S3Options
from takestream.stores import preset_of

# Kinds of problems that are listed, and takes named for each.
MOST_KINDS, MOST_TAKES = 30, 3
# A frame's or clip's number, a size, a time: two problems that differ in them are of one kind.
_NUMBER = re.compile(r"[-+]?\d[\d.,:]*")


@dataclass(frozen=True)
class ProblemKind:
    """Problems of streams that differ in numbers alone.

    Attributes:
        words: One of them.
        streams, takes: That have it.
        examples: uids of some of these takes.
    """

    words: str
    streams: int
    takes: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class EncoderOverview:
    """The stores of one encoder.

    Attributes:
        encoder_id, encoder: The folder of the stores, and the preset.
        fps, window, stride, dim: Of their grid and features; None where no store says it.
        complete, partial, damaged, none: Takes of the data set by how their stores are.
        elsewhere: Stores of takes that the data set does not list.
        clips, valid: Clips times streams of complete stores.
        sync: By how sure it is, how many streams' offsets were measured.
        problems: The most frequent kinds first.
        more_problems: Kinds that are not listed.
    """

    encoder_id: str
    encoder: str
    fps: float | None
    window: int | None
    stride: int | None
    dim: int | None
    complete: int
    partial: int
    damaged: int
    none: int
    elsewhere: int
    clips: int
    valid: int
    sync: dict[str, int] = field(default_factory=dict)
    problems: tuple[ProblemKind, ...] = ()
    more_problems: int = 0


def overview(output: str, uids: Iterable[str], s3: S3Options) -> list[EncoderOverview]:
    """All encoders of an output, by name.

    Args:
        output: Its root.
        uids: Of the takes of the data set.
        s3: How to reach it.

    Raises:
        StorageError: It cannot be read.
    """
    listed = frozenset(uids)
    try:
        folders = folders_of(output, None, s3)
    except StorageNotFound:
        return []
    return [encoder_overview(folder.encoder_id, listed, folder.rows(s3)) for folder in folders]


def encoder_overview(
    encoder_id: str, listed: frozenset[str], rows: Sequence[Row]
) -> EncoderOverview:
    """One encoder's, from the rows of its catalogue.

    Args:
        encoder_id: Whose.
        listed: uids of the takes of the data set.
        rows: As `takestream.catalogue` has them.
    """
    mine = [row for row in rows if row["take_uid"] in listed]
    states = Counter(row["status"] for row in mine)
    whole = [row for row in mine if row["status"] == COMPLETE]
    kinds = _kinds(mine)

    def said(name: str) -> Any:
        return next((row[name] for row in rows if row[name] is not None), None)

    return EncoderOverview(
        encoder_id=encoder_id,
        encoder=preset_of(encoder_id),
        fps=said("fps"),
        window=said("window"),
        stride=said("stride"),
        dim=said("dim"),
        complete=states[COMPLETE],
        partial=states[PARTIAL],
        damaged=states[DAMAGED],
        none=len(listed) - len(mine),
        elsewhere=len(rows) - len(mine),
        clips=sum((row["valid_clips"] or 0) + (row["invalid_clips"] or 0) for row in whole),
        valid=sum(row["valid_clips"] or 0 for row in whole),
        sync=dict(Counter(sure for row in mine for sure in row["sync"] or () if sure)),
        problems=tuple(kinds[:MOST_KINDS]),
        more_problems=max(0, len(kinds) - MOST_KINDS),
    )


def _kinds(rows: Sequence[Row]) -> list[ProblemKind]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for words in row["problems"] or ():
            for one in (words or "").split("; "):
                if one:
                    found.setdefault(_NUMBER.sub("0", one), []).append((one, row["take_uid"]))
    kinds = []
    for each in found.values():
        uids = list(dict.fromkeys(uid for _, uid in each))
        kinds.append(ProblemKind(each[0][0], len(each), len(uids), tuple(uids[:MOST_TAKES])))
    return sorted(kinds, key=lambda kind: (-kind.takes, -kind.streams, kind.words))
