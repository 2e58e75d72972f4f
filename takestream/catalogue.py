"""What an output holds, take by take: `takestream.ls`, and the table that it is read from.

Each `<output>/<encoder_id>/catalogue.parquet` has a row for each store. It may be behind the
stores, so it is believed only for a store that is listed, that it calls complete, and that nobody
has changed since: whoever changes a complete store puts an object into `changed/` beside it. All
other stores are read themselves.
"""

import hashlib
import io
import json
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from takestream import schema
from takestream.access import asked
from takestream.errors import StorageNotFound
from takestream.facts import COLUMNS as FACTS
from takestream.facts import FLAG, REAL, TEXT, WHOLE, value_of
from takestream.licence import Licences
from takestream.root import StoreFault, read_root
from takestream.storage import S3Options, absolute, as_uri, join, open_filesystem, translated
from takestream.stores import (
    encoder_id_of,
    is_of_encoder,
    list_stores,
    names_of,
    read_roots,
    sources_of,
    uid_of,
)
from takestream.sync import TakeSync

if TYPE_CHECKING:
    import pandas

NAME: Final = "catalogue.parquet"
CHANGED: Final = "changed"
# Beside the stores' own `partial` and `complete`: it is there and cannot be read.
DAMAGED: Final = "damaged"

EACH: Final = " of each stream"

# A row is a take. Columns of lists run along `streams`, so they explode together.
COLUMNS: Final[Mapping[str, str]] = {
    "encoder_id": TEXT,
    **{name: fact.kind for name, fact in FACTS.items()},
    "status": TEXT,
    "clips": WHOLE,
    "valid_clips": WHOLE,
    "invalid_clips": WHOLE,
    "frames": WHOLE,
    "fps": REAL,
    "window": WHOLE,
    "stride": WHOLE,
    "dim": WHOLE,
    "dtype": TEXT,
    "bytes": WHOLE,
    "streams": TEXT + EACH,
    "valid": WHOLE + EACH,
    "problems": TEXT + EACH,
    "offset_ms": REAL + EACH,
    "sync": TEXT + EACH,
    "uris": TEXT + EACH,
    "etags": TEXT + EACH,
    "sizes": WHOLE + EACH,
    "sources": TEXT + EACH,
    "sync_reference": TEXT,
    "resolution": TEXT,
    "dataset_licence": TEXT,
    "dataset_licence_url": TEXT,
    "encoder_licence": TEXT,
    "weights_sha256": TEXT,
    "clips_sha256": TEXT,
    "provenance_sha256": TEXT,
    "takestream": TEXT,
    "git_commit": TEXT,
    "schema_version": TEXT,
    "store": TEXT,
}
# Of a row, what is looked for first.
FIRST: Final = (
    "take_name", "encoder_id", "status", "clips", "valid_clips", "problems", "task", "university",
    "split", "duration_sec",
)  # fmt: skip
_DTYPES = {TEXT: "string", WHOLE: "Int64", REAL: "Float64", FLAG: "boolean"}

Row = dict[str, Any]


def ls(
    output: str | os.PathLike[str],
    *,
    encoder: str | None = None,
    profile: str | None = None,
    endpoint_url: str | None = None,
    anon: bool = False,
) -> "pandas.DataFrame":
    """The takes of an output as a table, a row for each store, as they are now.

    Args:
        output: An output folder, or the folder of one encoder in it.
        encoder: An `encoder_id` or the preset it begins with; all encoders without.
        profile: A profile of the AWS files; the usual AWS settings apply without one.
        endpoint_url: Another S3 endpoint than that of AWS.
        anon: Without keys: of a bucket that anybody may read.

    Returns:
        The columns of `takestream.catalogue.COLUMNS`, in front those that say most: a notebook
        shows the first ten and the last. `valid_clips` and `invalid_clips` count clips
        times streams, `valid` the valid clips of each stream: unknown (`NA`, None) where `status`
        is `partial` or `damaged`. `bytes` is known where a catalogue has it. Columns of lists run
        along `streams`: `ls(output).explode(["streams", "valid"])` has a row for each stream.

    Raises:
        FileNotFoundError: There is no such folder, or nothing of that encoder.
        ConnectionError: S3 cannot be reached.
        PermissionError: S3 refuses.
    """
    import pandas

    s3, where = S3Options(profile, endpoint_url, anon=anon), as_uri(output)
    rows = asked(
        where, s3, lambda: [r for folder in folders_of(where, encoder, s3) for r in folder.rows(s3)]
    )
    found = pandas.DataFrame(rows, columns=list(dict.fromkeys((*FIRST, *COLUMNS))))
    return found.astype({name: _DTYPES[kind] for name, kind in COLUMNS.items() if kind in _DTYPES})


@dataclass(frozen=True)
class EncoderFolder:
    """The folder of an encoder in an output, as it is listed.

    Attributes:
        uri: Where it is.
        stores: URIs of the stores in it, those half made too.
    """

    uri: str
    stores: tuple[str, ...]

    @property
    def encoder_id(self) -> str:
        """Its name."""
        return posixpath.basename(self.uri)

    def rows(self, s3: S3Options) -> list[Row]:
        """A row for each store as it is now, sorted by the take's uid.

        Stores that the catalogue is not believed for are read. Raises StorageError.
        """
        changed = changes_in(self.uri, s3)
        return merged_rows(self.stores, read_table(self.uri, s3), changed, s3)[0]


def folders_of(output: str, encoder: str | None, s3: S3Options) -> list[EncoderFolder]:
    """The folders of encoders at `output`, by one listing each, sorted.

    Raises:
        StorageNotFound: There is no such folder, or nothing of that encoder.
        StorageError: The storage cannot be reached.
    """
    found: dict[str, list[str]] = {}
    for uri in list_stores(absolute(output), s3):
        found.setdefault(posixpath.dirname(uri), []).append(uri)
    folders = [EncoderFolder(uri, tuple(stores)) for uri, stores in sorted(found.items())]
    if encoder is None:
        return folders
    kept = [folder for folder in folders if is_of_encoder(folder.encoder_id, encoder)]
    if not kept:
        there = [folder.encoder_id for folder in folders]
        raise StorageNotFound(f"{output}: nothing of encoder {encoder!r}; there is {there}")
    return kept


def merged_rows(
    stores: Sequence[str], known: Iterable[Mapping[str, Any]], changed: Iterable[str], s3: S3Options
) -> tuple[list[Row], list[str]]:
    """A row for each store, and the URIs of those that were read for it.

    Args:
        stores: URIs of all that are listed.
        known: Rows of a catalogue.
        changed: Names of marks, as `changes_in` gives them.
        s3: How to reach the stores.
    """
    suspect = {name.rpartition(".")[0] for name in changed}
    believed = {
        str(row["take_uid"]): row
        for row in known
        if row["status"] == schema.COMPLETE and row["take_uid"] not in suspect
    }
    doubtful = [uri for uri in stores if uid_of(uri) not in believed]
    rows = [row_of(uri, data) for uri, data in read_roots(doubtful, s3).items()]
    for uri in stores:
        if (row := believed.get(uid_of(uri))) is not None:
            # An output that was moved or copied is where it is now.
            rows.append({**row, "store": uri, "encoder_id": encoder_id_of(uri)})
    return sorted(rows, key=lambda row: (row["encoder_id"], row["take_uid"])), doubtful


def row_of(uri: str, data: bytes) -> Row:
    """The row of a store by its root; of one that cannot be read `status` is `damaged`.

    Args:
        uri: Where the store is.
        data: The bytes of its `zarr.json`.
    """
    row: Row = dict.fromkeys(COLUMNS)
    row |= {"encoder_id": encoder_id_of(uri), "take_uid": uid_of(uri), "store": uri}
    try:
        root = read_root(data, uri)
    except StoreFault as error:
        lists: Row = {name: [] for name, kind in COLUMNS.items() if kind.endswith(EACH)}
        return {**row, **lists, "status": DAMAGED, "streams": ["*"], "problems": [str(error)]}
    attributes, sizes, streams = root.attributes, root.sizes, root.streams
    take, grid = attributes.get("take", {}), attributes.get("grid", {})
    provenance = attributes.get("provenance", {})
    made_from = provenance.get("streams", {})
    problems, sources = attributes.get("problems", {}), sources_of(attributes)
    invalid: list[int] | None = None
    if attributes["status"] == schema.COMPLETE:
        invalid = [schema.invalid_of(problems.get(name, ())) for name in streams]
    bad, count = None if invalid is None else sum(invalid), sizes.clips * len(streams)
    sync = TakeSync.of(attributes)
    measured = {} if sync is None else sync.streams
    encoder, licences = attributes.get("encoder", {}), Licences.of(attributes)
    # What a licence is called changes no feature.
    made_with = {name: value for name, value in encoder.items() if name != "licence"}
    return row | {
        **{name: value_of(take, fact) for name, fact in FACTS.items()},
        "take_uid": uid_of(uri),
        "take_name": names_of(attributes, uri)[1],
        "status": attributes["status"],
        "clips": sizes.clips,
        "valid_clips": None if bad is None else count - bad,
        "invalid_clips": bad,
        "frames": grid.get("frames"),
        "fps": _number(grid.get("fps")),
        "window": grid.get("window"),
        "stride": grid.get("stride"),
        "dim": sizes.dim,
        "dtype": sizes.dtype,
        "streams": list(streams),
        "valid": [None] * len(streams) if invalid is None else [sizes.clips - n for n in invalid],
        "problems": ["; ".join(problems.get(name, ())) or None for name in streams],
        "offset_ms": [_of(measured, name, "offset_ms") for name in streams],
        "sync": [_of(measured, name, "confidence") for name in streams],
        "uris": [made_from.get(name, {}).get("uri") for name in streams],
        "etags": [made_from.get(name, {}).get("etag") for name in streams],
        "sizes": [made_from.get(name, {}).get("size") for name in streams],
        "sources": [sources.get(name) for name in streams],
        "sync_reference": None if sync is None else sync.reference,
        "resolution": provenance.get("resolution"),
        "dataset_licence": licences.dataset and licences.dataset.name,
        "dataset_licence_url": licences.dataset and licences.dataset.url,
        "encoder_licence": licences.encoder and licences.encoder.name,
        "weights_sha256": encoder.get("sha256"),
        "clips_sha256": attributes.get("clips_sha256"),
        "provenance_sha256": _digest({"encoder": made_with, "provenance": provenance}),
        "takestream": provenance.get("versions", {}).get("takestream"),
        "git_commit": provenance.get("git_commit"),
        "schema_version": str(attributes["schema_version"]),
    }


def read_table(folder: str, s3: S3Options) -> list[Row]:
    """The rows of the catalogue in `folder` as it was written; none where there is no such table.

    One that is damaged, or that nothing here can read, is as if it were not there: the stores are
    read instead. Raises StorageError.
    """
    fs, path = open_filesystem(folder, s3)
    with translated(folder, "read", s3):
        try:
            data = fs.cat_file(f"{path.rstrip('/')}/{NAME}")
        except (FileNotFoundError, NotADirectoryError):
            return []
    return rows_in(data)


def rows_in(data: bytes) -> list[Row]:
    """The rows of a table; none where it is damaged, or pandas has nothing to read it with."""
    import pandas

    try:
        table = pandas.read_parquet(io.BytesIO(data), dtype_backend="pyarrow")
        rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
        if not set(COLUMNS) <= set(table.columns):
            return []
    except (ImportError, OSError, ValueError):
        return []
    return [{name: _plain(row[name]) for name in COLUMNS} for row in rows]


def changes_in(folder: str, s3: S3Options) -> list[str]:
    """Names of the marks that stores of `folder` were changed: `<take_uid>.<hex digits>`."""
    fs, path = open_filesystem(join(folder, CHANGED), s3)
    with translated(folder, "list", s3):
        try:
            found = fs.ls(path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
    # Some servers list the folder itself as an object.
    names = (posixpath.basename(str(name).rstrip("/")) for name in found)
    return sorted(name for name in names if name != CHANGED)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if value is None or value != value or type(value).__name__ == "NAType" else value


def _of(measured: Mapping[str, Any], stream: str, name: str) -> Any:
    return getattr(measured[stream], name) if stream in measured else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
