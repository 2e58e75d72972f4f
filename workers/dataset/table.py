"""Any multi-camera footage: a table of the takes, their cameras and where the videos are."""

import codecs
import csv
import io
import math
import posixpath
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from takestream.errors import InvalidStorage
from takestream.masking import refuse_secrets
from takestream.storage import S3Options, join
from workers.dataset.base import Place, object_sizes
from workers.dataset.take import DatasetError, Stream, Take
from workers.dataset.words import clean, is_plain_name, missing
from workers.media.source import ObjectIdentity, Source

NEEDED = ("take", "camera", "uri")
KNOWN = (
    *NEEDED, "stream", "ego", "kind", "start_offset", "task", "duration", "track", "start", "end",
)  # fmt: skip
# Seconds; no object of footage is longer.
LONGEST = 1e6
Rows = list[tuple[str, Mapping[str, str]]]
Table = tuple[tuple[str, ...], Rows]
_YES, _NO = ("1", "true", "yes", "y", "t"), ("", "0", "false", "no", "n", "f")


class CameraTable:
    """A data set that is one CSV or Parquet file: a row for each camera of each take.

    Columns: `take` (its name, and its uid), `camera`, `uri` (absolute, or relative to the file's
    folder); if wanted `stream` (of a camera with several; 0 by default), `ego` (whether the camera
    is worn), `kind` (a word to select by, see `Stream.camera_kind`), `start_offset` (seconds after
    the take's beginning at which the video begins; negative where it began before), `task`, and
    the take's `duration` in seconds, which `plan` estimates from. Where an object holds more than
    the take: `track`, the number of its track, and `start` and `end`, the take's seconds of it.

    Args:
        uri: the file.
        s3: how to reach the file and the videos.
    """

    def __init__(self, uri: str, s3: S3Options | None = None) -> None:
        self._uri, self._s3 = uri, s3 or S3Options()

    def identity(self) -> ObjectIdentity:
        """As `Dataset.identity` says."""
        return Source(self._uri, self._s3).identity()

    def takes(self) -> list[Take]:
        """As `Dataset.takes` says."""
        streams: dict[str, dict[str, Stream]] = {}
        facts: dict[str, tuple[str | None, float | None]] = {}
        for where, row in self._rows():
            name = self._name(where, row, "take")
            stream = self._stream(where, row)
            if stream.key in streams.setdefault(name, {}):
                raise DatasetError(f"{where}: take {name} has a stream {stream.key} already")
            streams[name][stream.key] = stream
            task, duration = (
                clean(row.get("task") or "") or None,
                _seconds(where, row.get("duration")),
            )
            before = facts.get(name, (None, None))
            facts[name] = (before[0] or task, before[1] if duration is None else duration)
        return [
            Take(name, name, facts[name][0], None, None, facts[name][1], tuple(found.values()))
            for name, found in streams.items()
        ]

    def notes(self) -> tuple[str, ...]:
        """As `Dataset.notes` says."""
        return ()

    def sizes(self, takes: Sequence[Take]) -> dict[str, int | None]:
        """As `Dataset.sizes` says: one listing for each folder."""
        return object_sizes(takes, self._s3)

    def where(self, stream: Stream) -> tuple[str, S3Options]:
        """As `Dataset.where` says."""
        assert stream.uri is not None
        return stream.uri, self._s3

    def nearest(self, stream: Stream) -> Place:
        """As `Dataset.nearest` says."""
        return Place(*self.where(stream))

    def _rows(self) -> Rows:
        try:
            data = Source(self._uri, self._s3).whole()
        except FileNotFoundError:
            raise DatasetError(f"{self._uri}: there is no such table of cameras") from None
        except (ValueError, ImportError) as error:
            raise DatasetError(f"{self._uri}: {error}") from error
        parquet = self._uri.lower().endswith(".parquet")
        names, rows = (_from_parquet if parquet else _from_csv)(self._uri, data)
        if absent := [name for name in NEEDED if name not in names]:
            raise DatasetError(f"{self._uri}: it has no column {' and no column '.join(absent)}")
        if unknown := [name for name in names if name not in KNOWN]:
            # A column that changes the meaning (an angle, say) must not be passed over.
            raise DatasetError(
                f"{self._uri}: unknown columns {', '.join(unknown)}; known: {', '.join(KNOWN)}"
            )
        return rows

    def _stream(self, where: str, row: Mapping[str, str]) -> Stream:
        camera = self._name(where, row, "camera")
        stream = self._name(where, row, "stream") if row.get("stream") else "0"
        uri = row["uri"].strip()
        if uri.startswith("~") and "://" not in self._uri:
            uri = posixpath.expanduser(uri)
        if "://" not in uri and not posixpath.isabs(uri):
            uri = join(posixpath.dirname(self._uri), posixpath.normpath(uri)) if uri else ""
        try:
            refuse_secrets(uri)
        except InvalidStorage as error:
            raise DatasetError(f"{where}: {error}") from None
        if "::" in uri:
            raise DatasetError(f"{where}: {uri!r} chains several storages, which is not allowed")
        if uri != clean(uri) and clean(uri).count("\ufffd") > uri.count("\ufffd"):
            raise DatasetError(f"{where}: uri is {uri!r}, with control characters in it")
        ego = row.get("ego", "").strip().lower()
        if ego not in (*_YES, *_NO):
            raise DatasetError(f"{where}: ego is {ego!r}, expected true or false")
        track = row.get("track", "").strip()
        if track and not track.isdecimal():
            raise DatasetError(f"{where}: track is {track!r}, expected a number")
        start, end = (_seconds(where, row.get(name), name) for name in ("start", "end"))
        if end is not None and end <= (start or 0.0):
            raise DatasetError(f"{where}: end is {end:g} s, not after start")
        whole = start is None and end is None
        return Stream(
            key=f"{camera}_{stream}",
            cam_id=camera,
            name=stream,
            uri=uri or None,
            is_ego=ego in _YES,
            track=int(track) if track else None,
            span=None if whole else (start or 0.0, LONGEST if end is None else end),
            start_offset=_seconds(where, row.get("start_offset"), "start_offset", -LONGEST) or 0.0,
            camera_kind=clean(row.get("kind", "").strip()),
        )

    def _name(self, where: str, row: Mapping[str, str], column: str) -> str:
        name = (row[column] or "").strip()
        if not is_plain_name(name):
            raise DatasetError(f"{where}: {column} is {name!r}, which cannot name a folder")
        return name


def _from_csv(uri: str, data: bytes) -> Table:
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{uri}: not text in UTF-8 ({error}); save it so") from error
    # Of all that ends a line, spreadsheets write these three.
    lines = io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"))
    reader = csv.reader(lines, delimiter=_delimiter(text), skipinitialspace=True)
    names: tuple[str, ...] = ()
    rows: Rows = []
    try:
        for values in reader:
            where = f"{uri}: line {reader.line_num}"
            if not any(value.strip() for value in values):
                continue
            if not names:
                names = _columns(uri, values)
                continue
            if len(values) > len(names):
                raise DatasetError(f"{where}: it has more values than there are columns")
            rows.append((where, dict(zip_longest(names, values, fillvalue=""))))
    except csv.Error as error:
        raise DatasetError(f"{uri}: line {reader.line_num}: not a CSV file ({error})") from error
    return names, rows


def _delimiter(text: str) -> str:
    """What stands between the columns: where the comma means a decimal point, `;` is usual."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _columns(uri: str, names: Sequence[str]) -> tuple[str, ...]:
    """The columns' names as `KNOWN` has them. Raises DatasetError where one stands there twice."""
    found = tuple(name.strip().lower() for name in names)
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise DatasetError(f"{uri}: it has several columns {', '.join(twice)}")
    return found


def _from_parquet(uri: str, data: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{uri}: not a Parquet file ({error})") from error
    names = _columns(uri, table.column_names)
    columns = [column.to_pylist() for column in table.columns]
    rows: Rows = [
        (
            f"{uri}: row {number}",
            dict(zip(names, map(_word, values), strict=True)),
        )
        for number, values in enumerate(zip(*columns, strict=True), 1)
    ]
    return names, rows


def _word(value: Any) -> str:
    """A value as a CSV file has it: pandas turns whole numbers beside absent ones into floats."""
    if missing(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _seconds(
    where: str, text: str | None, what: str = "duration", least: float = 0.0
) -> float | None:
    if not text or not text.strip():
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not least <= seconds < LONGEST:
        raise DatasetError(f"{where}: {what} is {text!r}, expected seconds")
    return seconds
