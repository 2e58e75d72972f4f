"""What a store holds, as facts for a script and as text for a person."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.filesize import decimal
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from service.report.sync import SIGN, print_sync
from takestream import schema
from takestream.licence import NOT_SAID, Licence, Licences
from takestream.schema import Reason
from takestream.storage import S3Options, open_filesystem, translated
from takestream.stores import encoder_id_of, uid_of
from takestream.sync import TakeSync
from workers.store.errors import StoreError
from workers.store.metadata import read_whole
from workers.store.takestore import TakeStore

# What the provenance knows of a stream's video, and the summary shows.
_VIDEO = ("uri", "size", "frames", "rate", "codec", "width", "height")


def describe_store(uri: str, s3: S3Options | None = None) -> dict[str, Any]:
    """The facts of the store at `uri`, JSON-able. Reads no features.

    Keys: `uri`, `schema_version`, `status`, `take` (`uid`, `name`, `task`, `university`,
    `capture`), `encoder` (with `id`), `grid`, `clips`, `dim`, `dtype`, `start_time` and `end_time`
    (seconds, None without clips), `bytes` and `objects` (all of the store), `chunks` (`clips` of a
    features chunk, `unit_clips`, and how many features chunks are `expected` and `missing`),
    `streams` (a list: `name`, `valid`, `invalid` by reason, `video` or None), `problems` (per
    stream), `sync` (what `takestream.sync.TakeSync` holds; None where nothing was measured),
    `licences` (`dataset` and `encoder`, each with `name` and `url`; None where it is not known) and
    `provenance` (`versions`, `git_commit`, `resolution`, `rotate`).

    Raises StorageError, of which StoreNotFound, StoreMismatch and StoreError are kinds.
    """
    store = TakeStore.open(uri, s3)
    attributes = store.attributes
    take, provenance = _mapping(attributes, "take"), _mapping(attributes, "provenance")
    encoder, videos = _mapping(attributes, "encoder"), _mapping(provenance, "streams")
    reasons, sync = clip_reasons(store), TakeSync.of(attributes)
    begin = read_whole(store.array(schema.START_TIME), store.uri)
    end = read_whole(store.array(schema.END_TIME), store.uri)
    sizes = _sizes(store.uri, s3)
    chunks = [key for name in store.streams for key in _features_chunks(store, name)]
    return {
        "uri": store.uri,
        "schema_version": attributes["schema_version"],
        "status": store.status,
        "take": {
            "uid": take_word(store, "uid"),
            "name": take_word(store, "name"),
            "task": take.get("task_name"),
            "university": take.get("university_name"),
            "capture": take.get("capture_name"),
        },
        "encoder": {**encoder, "id": encoder_id(store)},
        "grid": _mapping(attributes, "grid"),
        "clips": store.clips,
        "dim": store.dim,
        "dtype": store.dtype,
        "start_time": float(begin.min()) if len(begin) else None,
        "end_time": float(end.max()) if len(end) else None,
        "bytes": sum(sizes.values()),
        "objects": len(sizes),
        "chunks": {
            "clips": store.chunk_clips,
            "unit_clips": store.unit_clips,
            "expected": len(chunks),
            "missing": sum(key not in sizes for key in chunks),
        },
        "streams": [
            _stream(name, reasons[:, index], _mapping(videos, name))
            for index, name in enumerate(store.streams)
        ],
        "problems": {name: list(lines) for name, lines in _mapping(attributes, "problems").items()},
        "sync": None if sync is None else sync.facts(),
        "licences": Licences.of(attributes).facts(),
        "provenance": {
            "versions": _mapping(provenance, "versions"),
            "git_commit": provenance.get("git_commit"),
            "resolution": provenance.get("resolution"),
            "rotate": _mapping(provenance, "rotate"),
        },
    }


def print_store(facts: Mapping[str, Any], console: Console) -> None:
    """Print what `describe_store` found; fits 80 columns, and has no colour in a pipe."""
    complete = facts["status"] == schema.COMPLETE
    title = Text(facts["take"]["name"], style="bold")
    title.append("  ")
    title.append(facts["status"], style="green" if complete else "yellow")
    if not complete:
        title.append("; run its `takestream extract` again to finish it")
    console.print(title, highlight=False)
    # Not wrapped: a URI is there to be copied.
    console.print(Text(facts["uri"], style="dim"), highlight=False, soft_wrap=True)
    console.print()
    summary = Table.grid(padding=(0, 2))
    summary.add_column(style="dim", no_wrap=True)
    summary.add_column(overflow="fold")
    for name, words in _summary(facts):
        summary.add_row(name, Text(words))
    console.print(Padding(summary, (0, 0, 0, 2), expand=False), highlight=False)
    console.print()
    streams = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    streams.add_column("stream", overflow="fold")
    streams.add_column("valid", justify="right", no_wrap=True)
    streams.add_column("invalid", overflow="fold")
    streams.add_column("video", overflow="fold")
    for stream in facts["streams"]:
        invalid = [f"{n} {reason_words(name)}" for name, n in stream["invalid"].items()]
        streams.add_row(
            Text(stream["name"]),
            f"{stream['valid']} of {facts['clips']}",
            Text("\n".join(invalid), style="yellow"),
            Text(_video_words(stream["video"])),
        )
    console.print(Padding(streams, (0, 0, 0, 2), expand=False), highlight=False)
    if (sync := TakeSync.of(facts)) is not None:
        console.print(Text("\nSynchronisation", style="bold"), highlight=False)
        print_sync(sync, console)
        console.print(Text(f"  {SIGN}", style="dim"), highlight=False)
    if facts["problems"]:
        console.print(Text("\nProblems", style="bold"), highlight=False)
        problems = Table.grid(padding=(0, 2))
        problems.add_column(max_width=36, overflow="fold")
        problems.add_column(overflow="fold")
        for name, lines in facts["problems"].items():
            for number, line in enumerate(lines):
                problems.add_row(Text("" if number else name), Text(line))
        console.print(Padding(problems, (0, 0, 0, 2), expand=False), highlight=False)


def clip_reasons(store: TakeStore) -> NDArray[np.uint8]:
    """The reasons of all clips, uint8 [clip, stream]; NOT_EXTRACTED where chunks are missing.

    Raises StorageError, for reasons that this takestream does not know too.
    """
    reasons = read_whole(store.array(schema.REASON), store.uri).astype(np.uint8)
    for gap in store.missing():
        columns = [store.streams.index(name) for name in gap.streams]
        reasons[gap.start : gap.stop, columns] = Reason.NOT_EXTRACTED
    if unknown := sorted(set(np.unique(reasons).tolist()) - set(Reason)):
        raise StoreError(f"{store.uri}: unknown reasons {unknown}; `takestream verify` says where")
    return reasons


def reason_words(name: str) -> str:
    """A reason's name (`past_end`) for a person (`past end`)."""
    return name.lower().replace("_", " ")


def take_word(store: TakeStore, word: str) -> str:
    """The take's `uid` or `name`; the store's own name where its attributes do not say."""
    take = _mapping(store.attributes, "take")
    own = uid_of(store.uri)
    return str(take.get(f"take_{word}") or take.get(word) or take.get("take_uid") or own)


def encoder_id(store: TakeStore) -> str:
    """The store's `encoder_id`; the folder that it lies in where its attributes do not say."""
    known = _mapping(store.attributes, "encoder").get("encoder_id")
    return str(known or encoder_id_of(store.uri))


def _stream(name: str, reasons: NDArray[np.uint8], known: Mapping[str, Any]) -> dict[str, Any]:
    counts = np.bincount(reasons, minlength=len(Reason))
    invalid = {r.name.lower(): int(counts[r]) for r in Reason if r is not Reason.VALID}
    return {
        "name": name,
        "valid": int(counts[Reason.VALID]),
        "invalid": {reason: count for reason, count in invalid.items() if count},
        "video": {key: known.get(key) for key in _VIDEO} if known else None,
    }


def _features_chunks(store: TakeStore, stream: str) -> Iterator[str]:
    for start in range(0, store.clips, store.unit_clips):
        keys = store.chunk_keys(stream, start)
        yield from (key for key in keys if key.startswith(schema.FEATURES + "/"))


def _sizes(uri: str, s3: S3Options | None) -> dict[str, int]:
    """Bytes of every object of the store, by key."""
    with translated(uri, "list", s3):
        fs, root = open_filesystem(uri, s3)
        found = fs.find(root, detail=True)
    top = root.rstrip("/") + "/"
    # Some servers list the folder itself as an object.
    return {
        path.removeprefix(top): int(info["size"] or 0)
        for path, info in found.items()
        if path.startswith(top) and path != top
    }


def _summary(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    take, encoder, grid, chunks = (facts[key] for key in ("take", "encoder", "grid", "chunks"))
    yield "take", _listed(take["uid"], take["task"], take["university"], take["capture"])
    features = f"{facts['dim']} numbers per clip, stored as {facts['dtype']}"
    yield "encoder", _listed(encoder["id"], features)
    yield "clips", f"{facts['clips']}{_grid_words(grid)}"
    if facts["start_time"] is not None:
        start = f", from {clock(facts['start_time'])}" if facts["start_time"] else ""
        yield "time", f"{clock(facts['end_time'] - facts['start_time'])}{start}"
    yield "size", f"{decimal(facts['bytes'])} in {facts['objects']} objects"
    there = f"{chunks['expected'] - chunks['missing']} of {chunks['expected']}"
    yield "chunks", f"{there} written, each up to {chunks['clips']} clips of one stream"
    provenance = facts["provenance"]
    versions = provenance["versions"]
    commit = provenance["git_commit"]
    named = [
        f"{name} {versions[name]}" for name in ("takestream", "torch", "av") if name in versions
    ]
    if commit:
        named.insert(1, f"commit {commit[:12]}{'-dirty' if commit.endswith('-dirty') else ''}")
    if runtime := provenance.get("runtime"):
        named.append(f"networks by {runtime}")
    if named:
        yield "made by", ", ".join(named)
    turned = ", ".join(f"{name} by {degrees}°" for name, degrees in provenance["rotate"].items())
    if turned:
        yield "turned", turned
    for what, name in (("videos", "dataset"), ("encoder", "encoder")):
        licence = Licence.of(facts["licences"][name])
        yield f"licence of {what}", str(licence or NOT_SAID)


def _grid_words(grid: Mapping[str, Any]) -> str:
    words = ""
    if "window" in grid and "stride" in grid:
        words += f" of {grid['window']} frames, one every {grid['stride']}"
    if grid.get("fps"):
        words += f", at {fps_words(grid['fps'])} fps"
    return words


def fps_words(fps: Any) -> str:
    """A rate, a number or a fraction in text, to at most three decimals; as it is if neither."""
    try:
        return f"{float(Fraction(str(fps))):.3f}".rstrip("0").rstrip(".")
    except (ValueError, ZeroDivisionError):
        return str(fps)


def clock(seconds: float) -> str:
    """`6.2 s` below a minute, `h:mm:ss` from there."""
    return f"{seconds:.1f} s" if abs(seconds) < 60 else str(timedelta(seconds=round(seconds)))


def _video_words(video: Mapping[str, Any] | None) -> str:
    if video is None:
        return ""
    if not video["uri"]:
        return "no file"
    size = f"{video['width']}x{video['height']}" if video["width"] else None
    rate = f"{fps_words(video['rate'])} fps" if video["rate"] else None
    stored = decimal(video["size"]) if video["size"] is not None else None
    return _listed(video["codec"], size, rate, stored) or "not read"


def _listed(*words: object) -> str:
    return ", ".join(str(word) for word in words if word)


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = data.get(key)
    return dict(found) if isinstance(found, Mapping) else {}
