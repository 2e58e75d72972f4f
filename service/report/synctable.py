"""The synchronisation of many takes: for a person, for a script, and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from service.report.sync import print_sync
from takestream.storage import S3Options
from takestream.sync import BELIEVED, NONE, StreamSync, TakeSync
from workers.store.objects import Objects
from workers.sync.dataset import Measured

# The columns of the files, in their order.
_NUMBERS = ("offset_ms", "drift_ppm")
_WITNESSES = ("sound", "sight")
_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("take_uid", pa.string()),
    ("take_name", pa.string()),
    ("stream", pa.string()),
    ("reference", pa.string()),
    ("offset_ms", pa.float64()),
    ("drift_ppm", pa.float64()),
    ("frames", pa.int64()),
    ("witness", pa.string()),
    ("confidence", pa.string()),
    ("agree", pa.int64()),
    ("windows", pa.int64()),
    ("within_ms", pa.float64()),
    ("verdict", pa.string()),
    ("sound_offset_ms", pa.float64()),
    ("sound_drift_ppm", pa.float64()),
    ("sight_offset_ms", pa.float64()),
    ("sight_drift_ppm", pa.float64()),
    ("stream_frames", pa.int64()),
    ("take_frames", pa.int64()),
    ("late_ms", pa.float64()),
    ("pts_frames", pa.float64()),
    ("error", pa.string()),
)


def sync_facts(measured: Measured) -> dict[str, Any]:
    """One take, JSON-able: `take_uid`, `take_name`, `error`, and what `TakeSync` holds."""
    found = {} if measured.sync is None else measured.sync.facts()
    error = measured.error or None
    return {
        "take_uid": measured.take.uid, "take_name": measured.take.name, "error": error, **found,
    }  # fmt: skip


def sync_rows(measured: Iterable[Measured]) -> list[dict[str, Any]]:
    """One row for each stream of each take, and one for a take that could not be measured."""
    rows = []
    for one in measured:
        take = {"take_uid": one.take.uid, "take_name": one.take.name}
        if one.sync is None:
            rows.append({**dict.fromkeys(name for name, _ in _COLUMNS), **take, "error": one.error})
            continue
        for name, stream in one.sync.streams.items():
            rows.append({**take, **_row(name, stream, one.sync)})
    return rows


def write_sync(rows: Sequence[Mapping[str, Any]], output: str, s3: S3Options) -> list[str]:
    """Write the rows as `sync.csv`, `sync.json` and `sync.parquet`; their URIs.

    Raises:
        StorageError: `output` cannot be written.
    """
    names = [name for name, _ in _COLUMNS]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    packed = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(_COLUMNS))), packed)
    objects = Objects(output, s3)
    files = {
        "sync.csv": text.getvalue().encode(),
        "sync.json": (json.dumps(list(rows), indent=2, ensure_ascii=False) + "\n").encode(),
        "sync.parquet": packed.getvalue(),
    }
    for name, data in files.items():
        objects.put(name, data)
    return [f"{objects.uri.rstrip('/')}/{name}" for name in files]


def print_take(measured: Measured, console: Console) -> None:
    """One take's streams as a table; fits 80 columns."""
    console.print(Text(measured.take.name, style="bold"), highlight=False, soft_wrap=True)
    if measured.sync is None:
        console.print(Text(f"  {measured.error}", style="red"), highlight=False, soft_wrap=True)
        return
    print_sync(measured.sync, console)


def summary(measured: Sequence[Measured]) -> str:
    """How many streams of how many takes are in step, are not, and cannot be told."""
    streams = [
        stream for one in measured if one.sync is not None for stream in one.sync.streams.values()
    ]
    believed = [stream for stream in streams if stream.confidence in BELIEVED]
    off = sum(bool(stream.frames) for stream in believed)
    low = len(streams) - len(believed) - sum(stream.confidence == NONE for stream in streams)
    parts = [f"{len(believed) - off} in step", f"{off} off by a frame or more"]
    if low:
        parts.append(f"{low} not believed")
    if untold := sum(stream.confidence == NONE for stream in streams):
        parts.append(f"{untold} cannot be told")
    failed = sum(one.sync is None for one in measured)
    if failed:
        parts.append(f"{failed} takes not measured")
    takes = f"{len(measured)} take{'s' * (len(measured) != 1)}"
    return f"{takes}, {len(streams)} streams: {', '.join(parts)}"


def _row(name: str, stream: StreamSync, sync: TakeSync) -> dict[str, Any]:
    row: dict[str, Any] = {"stream": name, "reference": sync.reference}
    for key in (*_NUMBERS, "frames", "witness", "confidence", "agree", "windows", "within_ms"):
        row[key] = getattr(stream, key)
    row["verdict"] = stream.verdict
    for witness in _WITNESSES:
        said = getattr(stream, witness)
        for key in _NUMBERS:
            row[f"{witness}_{key}"] = None if said is None else getattr(said, key)
    clock = stream.clock
    row |= {
        "stream_frames": clock.get("frames"),
        "take_frames": clock.get("take_frames"),
        "late_ms": clock.get("late_ms"),
        "pts_frames": clock.get("pts_frames"),
        "error": None,
    }
    return row
