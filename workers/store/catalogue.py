"""The catalogue of an encoder's stores: one Parquet table, written where it is behind them.

The means of its stores lie beside it and are refreshed with it.
"""

import io
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from takestream.catalogue import (
    CHANGED,
    COLUMNS,
    EACH,
    NAME,
    EncoderFolder,
    Row,
    changes_in,
    folders_of,
    merged_rows,
    read_table,
    rows_in,
)
from takestream.errors import StorageError
from takestream.facts import FLAG, LIST, REAL, TEXT, WHOLE
from takestream.schema import COMPLETE
from takestream.storage import S3Options, join, open_filesystem, translated
from takestream.stores import is_encoder_id, list_stores, uid_of
from workers.store.means import refresh_means
from workers.store.verify import VerifyReport
from workers.store.versioned import VersionedObjects

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger(__name__)

_TRIES = 5
_PARALLEL = 16


@dataclass(frozen=True)
class Refreshed:
    """A catalogue that is as the stores are.

    Attributes:
        uri: Of the table.
        encoder_id: Of its stores.
        rows: One for each store.
        read: How many stores had to be read for it.
        means: Of how many takes the means were made.
        written: Whether it was written; not where nothing was new.
    """

    uri: str
    encoder_id: str
    rows: list[Row]
    read: int
    means: int
    written: bool


def refresh_output(
    output: str, s3: S3Options, encoder: str | None = None, *, rebuild: bool = False
) -> list[Refreshed]:
    """Refresh the catalogues of an output, or of one encoder of it. Raises StorageError."""
    return [
        refresh(folder.uri, s3, rebuild=rebuild)
        for folder in folders_of(output, encoder, s3)
        if is_encoder_id(folder.encoder_id)
    ]


def refresh(
    folder: str, s3: S3Options, *, rebuild: bool = False, lacking: bool = True
) -> Refreshed:
    """Make the catalogue in the folder of an encoder, and the means, say what its stores say.

    Args:
        folder: `<output>/<encoder_id>`.
        s3: How to reach it.
        rebuild: Believe nothing of the tables that are there: read every store.
        lacking: Make the means of all stores that have none, not only of those that had to be read.

    Raises:
        StorageError: The storage fails, or others write the same table without end.
    """
    objects = VersionedObjects(folder, s3)
    for _ in range(_TRIES):
        there = objects.read(NAME)
        known = [] if there is None or rebuild else rows_in(there.data)
        # Before the stores are read: what is changed from here on leaves another mark.
        changed = changes_in(objects.uri, s3)
        listed = EncoderFolder(objects.uri, tuple(list_stores(objects.uri, s3)))
        rows, read = merged_rows(listed.stores, known, changed, s3)
        _weigh([row for row in rows if row["status"] == COMPLETE and row["bytes"] is None], s3)
        complete = {row["take_uid"]: row["store"] for row in rows if row["status"] == COMPLETE}
        # Before the catalogue, which ends the marks: until then a mean that is old is made again.
        means = refresh_means(
            objects, complete, map(uid_of, read), s3, rebuild=rebuild, lacking=lacking
        )
        if means is None:
            continue
        found = Refreshed(
            join(objects.uri, NAME), listed.encoder_id, rows, len(read), means,
            rebuild or rows != known,
        )  # fmt: skip
        version = None if there is None else there.version
        if not found.written or objects.replace(NAME, table_of(rows), version) is not None:
            objects.delete_many(f"{CHANGED}/{name}" for name in changed)
            return found
    raise StorageError(
        f"{join(objects.uri, NAME)}: others write it all the time; run `takestream catalogue` again"
    )


def refresh_quietly(output: str, encoder_ids: Iterable[str], s3: S3Options) -> None:
    """Refresh the catalogues of these encoders; what fails is a warning in the log.

    The features are what a run is for, and a catalogue that is behind hides none of them. Means are
    made of stores that are new or were changed alone: those of a whole output take a while.
    """
    for encoder_id in encoder_ids:
        try:
            refresh(join(output, encoder_id), s3, lacking=False)
        except StorageError as error:
            log.warning("the catalogue of %s was not refreshed: %s", encoder_id, error)


def misstated(reports: Iterable[VerifyReport], s3: S3Options) -> dict[str, list[str]]:
    """By folder, uids of whole stores of which its catalogue is believed, and says otherwise.

    So of a store that was put in another's place without takestream. Raises StorageError.
    """
    folders: dict[str, list[VerifyReport]] = {}
    for report in reports:
        if report.ok:
            folders.setdefault(report.uri.rpartition("/")[0], []).append(report)
    found = {}
    for folder, those in folders.items():
        changed = {name.rpartition(".")[0] for name in changes_in(folder, s3)}
        rows = {row["take_uid"]: row for row in read_table(folder, s3)}
        wrong = [
            uid
            for report in those
            if (uid := uid_of(report.uri)) not in changed
            and (row := rows.get(uid)) is not None
            and row["status"] == COMPLETE
            and dict(zip(row["streams"], row["valid"], strict=True)) != report.valid
        ]
        if wrong:
            found[folder] = wrong
    return found


def table_of(rows: Iterable[Row]) -> bytes:
    """A table of these rows, as Parquet."""
    import pyarrow.parquet  # commands that only look need not wait for it

    table = pyarrow.Table.from_pylist(list(rows), schema=_schema())
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _schema() -> "pyarrow.Schema":
    import pyarrow

    types = {
        TEXT: pyarrow.string(),
        WHOLE: pyarrow.int64(),
        REAL: pyarrow.float64(),
        FLAG: pyarrow.bool_(),
        LIST: pyarrow.list_(pyarrow.string()),
    }
    fields = []
    for name, kind in COLUMNS.items():
        one = types[kind.removesuffix(EACH)]
        fields.append(pyarrow.field(name, pyarrow.list_(one) if kind.endswith(EACH) else one))
    return pyarrow.schema(fields)


def _weigh(rows: list[Row], s3: S3Options) -> None:
    """Fill in how many bytes the objects of these stores have, by a listing of each."""

    def weigh(row: Row) -> None:
        fs, path = open_filesystem(row["store"], s3)
        with translated(row["store"], "list", s3):
            found = fs.find(path, detail=True)
        row["bytes"] = sum(int(info["size"] or 0) for info in found.values())

    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(weigh, rows))
