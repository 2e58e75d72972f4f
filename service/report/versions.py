"""What an output holds: its versions (one per encoder_id) in words, with counts and sizes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.filesize import decimal

from service.report.inspect import fps_words
from service.report.table import Row
from takestream import schema
from takestream.catalogue import DAMAGED, EncoderFolder, folders_of
from takestream.catalogue import Row as TakeRow
from takestream.facts import Fact, matches
from takestream.root import StoreFault, read_root
from takestream.storage import S3Options
from takestream.stores import encoder_id_of, read_roots

VERSIONS = (
    "encoder_id", "takes", "complete", "partial", "damaged", "clips", "valid", "streams", "size",
    "version",
)  # fmt: skip
TAKES = (
    "take", "take_uid", "encoder_id", "status", "task", "split", "clips", "valid", "size",
    "problems",
)  # fmt: skip


@dataclass(frozen=True)
class Version:
    """One encoder_id of an output.

    Attributes:
        encoder_id: Its folder.
        words: What it is, for a person: encoder, clip, grid, resolution.
        takes, complete, partial, damaged, half_made: Stores of each status.
        clips: Clips times streams.
        valid: Of those of complete stores, the valid ones.
        streams: Different names of streams.
        bytes: Of the stores whose size is known.
        unweighed: Complete stores whose size is not; `takestream catalogue` weighs them.
        rows: A row for each store.
    """

    encoder_id: str
    words: str
    takes: int
    complete: int
    partial: int
    damaged: int
    half_made: int
    clips: int
    valid: int
    streams: int
    bytes: int
    unweighed: int
    rows: Sequence[TakeRow]

    def facts(self) -> dict[str, Any]:
        """All but the rows, JSON-able."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


def versions_of(output: str, s3: S3Options, encoder: str | None = None) -> list[Version]:
    """The versions in an output, sorted by encoder_id.

    Raises:
        StorageNotFound: There is no such folder, or nothing of that encoder.
        StorageError: The storage cannot be reached.
    """
    return [_version(folder, s3) for folder in folders_of(output, encoder, s3)]


def version_row(version: Version) -> Row:
    """One line of the list of versions."""
    size = decimal(version.bytes)
    return (
        version.encoder_id,
        str(version.takes),
        str(version.complete),
        str(version.partial + version.half_made),
        str(version.damaged),
        str(version.clips),
        str(version.valid),
        str(version.streams),
        f"over {size}" if version.unweighed or version.partial else size,
        version.words,
    )


def chosen_rows(rows: Iterable[TakeRow], where: Sequence[tuple[Fact, str]]) -> list[TakeRow]:
    """The rows whose facts are what was asked for.

    Args:
        rows: Of a catalogue.
        where: As `takestream.facts.parse_condition` gives them.
    """
    return [
        row
        for row in rows
        if all(matches(row[fact.column], wanted, fact.kind) for fact, wanted in where)
    ]


def take_row(row: TakeRow) -> Row:
    """One line of the list of takes."""
    problems = [
        f"{stream}: {words}"
        for stream, words in zip(row["streams"], row["problems"], strict=True)
        if words
    ]
    return (
        row["take_name"] or row["take_uid"],
        row["take_uid"],
        row["encoder_id"],
        row["status"],
        row["task"] or "",
        row["split"] or "",
        str(row["clips"] or 0),
        "?" if row["valid_clips"] is None else str(row["valid_clips"]),
        "?" if row["bytes"] is None else decimal(row["bytes"]),
        "; ".join(problems),
    )


def version_words(attributes: Mapping[str, Any]) -> str:
    """What a store is a version of, for a person."""
    encoder, grid = attributes.get("encoder", {}), attributes.get("grid", {})
    provenance = attributes.get("provenance", {})
    words = [str(encoder.get("name") or encoder.get("encoder_id") or "?")]
    frames, window, stride = encoder.get("frames"), grid.get("window"), grid.get("stride")
    if "segments" in grid:
        words.append(f"{frames} frames of each segment")
    elif window == stride == 1:
        words.append("every frame")
    elif window is not None:
        words.append(f"{frames or '?'} of {window} frames, every {stride}")
    if grid.get("fps"):
        words.append(f"at {fps_words(grid['fps'])} fps")
    if resolution := provenance.get("resolution"):
        words.append("full resolution" if resolution == "full" else f"{resolution} px")
    if (timeline := provenance.get("timeline", {})).get("kind") == "pts":
        words.append(f"by PTS within {timeline.get('tolerance')} frames")
    if provenance.get("sync", {}).get("apply"):
        words.append("shifted by measured offsets")
    if precision := encoder.get("precision"):
        words.append(str(precision))
    return ", ".join(words)


def _version(folder: EncoderFolder, s3: S3Options) -> Version:
    rows = folder.rows(s3)
    counts = Counter(row["status"] for row in rows)
    complete = [row for row in rows if row["status"] == schema.COMPLETE]
    return Version(
        folder.encoder_id,
        _words(rows, s3),
        len(folder.stores),
        counts[schema.COMPLETE],
        counts[schema.PARTIAL],
        counts[DAMAGED],
        len(folder.stores) - len(rows),
        sum((row["clips"] or 0) * len(row["streams"]) for row in rows),
        sum(row["valid_clips"] for row in complete),
        len({name for row in rows if row["status"] != DAMAGED for name in row["streams"]}),
        sum(row["bytes"] or 0 for row in rows),
        sum(row["bytes"] is None for row in complete),
        rows,
    )


def _words(rows: Sequence[TakeRow], s3: S3Options) -> str:
    """Of the first store that can be read; all of a folder are of one version."""
    for row in rows:
        if row["status"] == DAMAGED:
            continue
        for uri, data in read_roots([row["store"]], s3).items():
            try:
                attributes = read_root(data, uri).attributes
                return version_words({"encoder": {"name": encoder_id_of(uri)}, **attributes})
            except StoreFault:
                continue
    return "?"
