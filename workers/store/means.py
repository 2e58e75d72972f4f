"""The mean direction of every stream of an encoder's stores: one table beside the catalogue.

A search over all takes looks at these first, and then at the clips of the takes that come nearest.
`reach` says how far a clip may lie from its stream's mean, so that the search knows which takes
cannot hold anything better than what it has found.
"""

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from takestream import schema
from takestream.likeness import directions
from takestream.storage import S3Options, open_filesystem, translated
from workers.store.errors import StoreError, StoreNotFound
from workers.store.metadata import UNDECODABLE
from workers.store.takestore import TakeStore
from workers.store.versioned import VersionedObjects

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger(__name__)

NAME: Final = "means.parquet"
# Rows that are read and scored at a time: 10 MB of 1,280 numbers in float32.
PIECE_ROWS: Final = 2048
# Bytes of mean directions that a `MeansTable` keeps in memory; of more, pieces are read again.
KEPT_BYTES: Final = 2**28
# Of one stream's features in float32 at a time, and stores that are read at the same time.
_BLOCK_NUMBERS, _PARALLEL = 2**22, 8
# float32 cosines are exact to about 1e-6, which near 1 is 1.5e-3 of an angle.
_ANGLE_ERROR = 2e-3

Floats = NDArray[np.float32]
Score = Callable[[NDArray[Any]], NDArray[Any]]
"""From features [n, D] to their cosines to what is looked for, [n]."""


class MeansTable:
    """The means of an encoder's stores, as they were at the last refresh.

    Attributes:
        takes: uid of the take of each row.
        streams: Its stream.
        clips: int64 [n], its valid clips.
        reach: float32 [n], the greatest angle between its mean and one of them, in radians.
        identity: Which version of the table this is; see `identity_of`.
    """

    def __init__(self, folder: str, s3: S3Options) -> None:
        """Read the table in the folder of an encoder; without rows where there is none.

        Raises:
            StorageError: The storage fails, or the table is damaged.
        """
        self._folder, self._s3 = folder, s3
        self.identity = identity_of(folder, s3)
        self.takes: list[str] = []
        self.streams: list[str] = []
        clips: list[int] = []
        reach: list[float] = []
        self._kept: list[NDArray[np.float16]] | None = []
        kept = 0
        for batch in self._batches():
            self.takes += batch.column("take_uid").to_pylist()
            self.streams += batch.column("stream").to_pylist()
            clips += batch.column("clips").to_pylist()
            reach += batch.column("reach").to_pylist()
            piece = _vectors(batch)
            kept += piece.nbytes
            if kept > KEPT_BYTES:
                self._kept = None
            if self._kept is not None:
                self._kept.append(piece.copy())
        self.clips = np.array(clips, np.int64)
        self.reach = np.array(reach, np.float32)

    def scores(self, score: Score) -> Floats:
        """The cosine of each row's mean direction to what is looked for, [n]; a piece at a time.

        Raises:
            StorageError: The table is large, and cannot be read again.
        """
        pieces = self._kept if self._kept is not None else map(_vectors, self._batches())
        found = [np.asarray(score(piece), np.float32) for piece in pieces]
        if self._kept is None and identity_of(self._folder, self._s3) != self.identity:
            # Its rows need not be those that `takes` and `reach` tell of.
            raise StoreError(f"{self._folder}/{NAME} was replaced meanwhile; ask again")
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def most(self, scores: Floats) -> Floats:
        """The most that any clip of each row can score, [n], where its mean scores so.

        That holds for cosines to one vector in the space of the features themselves.
        """
        angle = np.arccos(np.clip(scores, -1, 1)) - self.reach - _ANGLE_ERROR
        found: Floats = np.cos(np.clip(angle, 0, np.pi)).astype(np.float32)
        return found

    def _batches(self) -> Iterator["pyarrow.RecordBatch"]:
        import pyarrow
        import pyarrow.parquet

        fs, path = open_filesystem(self._folder, self._s3)
        with translated(self._folder, "read", self._s3):
            try:
                file = fs.open(f"{path.rstrip('/')}/{NAME}", "rb")
            except (FileNotFoundError, NotADirectoryError):
                return
            with file:
                try:
                    rows = pyarrow.parquet.ParquetFile(file).iter_batches(
                        PIECE_ROWS, use_threads=False
                    )
                    yield from rows
                except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError) as error:
                    raise StoreError(
                        f"{self._folder}/{NAME} is damaged ({error}); `takestream catalogue"
                        " --rebuild` makes it anew"
                    ) from error


def identity_of(folder: str, s3: S3Options) -> object:
    """What is another value when the table in `folder` is another one; None without a table."""
    fs, path = open_filesystem(folder, s3)
    with translated(folder, "read", s3):
        try:
            info = fs.info(f"{path.rstrip('/')}/{NAME}")
        except (FileNotFoundError, NotADirectoryError):
            return None
    return tuple(str(info.get(name)) for name in ("size", "ETag", "mtime", "created", "ino"))


def refresh_means(
    objects: VersionedObjects,
    complete: Mapping[str, str],
    read: Iterable[str],
    s3: S3Options,
    *,
    rebuild: bool = False,
    lacking: bool = True,
) -> int | None:
    """Make the table of means say what the stores say.

    Args:
        objects: The folder of an encoder.
        complete: By uid, the URI of each complete store in it.
        read: uids of those that the catalogue was not believed for.
        s3: How to reach them.
        rebuild: Believe no row.
        lacking: Make the means of all complete stores that have none; else of those in `read`.

    Returns:
        How many takes' means were made; None where another process wrote the table meanwhile.

    Raises:
        StorageError: The storage fails.
    """
    there = objects.read(NAME)
    known = [] if there is None or rebuild else _rows_in(there.data)
    anew = set(read)
    kept = [row for row in known if row["take_uid"] in complete and row["take_uid"] not in anew]
    has = {row["take_uid"] for row in kept}
    wanted = [uid for uid in complete if uid not in has and (lacking or rebuild or uid in anew)]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = list(pool.map(lambda uid: _means_of(uid, complete[uid], s3), wanted))
    made = [row for one in found for row in one]
    if not made and len(kept) == len(known):
        return 0
    rows = sorted([*kept, *made], key=lambda row: (row["take_uid"], row["stream"]))
    version = None if there is None else there.version
    if objects.replace(NAME, _table_of(rows), version) is None:
        return None
    return sum(1 for one in found if one)


def _means_of(uid: str, uri: str, s3: S3Options) -> list[dict[str, Any]]:
    """A row for each stream of a store that has a valid clip; none of a store that is damaged."""
    try:
        store = TakeStore.open(uri, s3)
        rows = [_mean_of(store, at) for at in range(len(store.streams))]
    except UNDECODABLE as error:
        log.warning("%s: no mean, as a chunk is damaged: %s", uri, error)
        return []
    except (StoreError, StoreNotFound) as error:
        log.warning("no mean: %s", error)
        return []
    return [
        {"take_uid": uid, "stream": name, **row}
        for name, row in zip(store.streams, rows, strict=True)
        if row is not None
    ]


def _mean_of(store: TakeStore, at: int) -> dict[str, Any] | None:
    """The mean direction of a stream's valid clips, and how far they lie from it."""
    total, clips = np.zeros(store.dim), 0
    for block in _directions(store, at):
        total += block.sum(axis=0, dtype=np.float64)
        clips += len(block)
    length = float(np.linalg.norm(total))
    if not clips or not length > 0:
        return None
    mean = (total / length).astype(np.float16)
    # To what is stored, not to what it was rounded from.
    axis = directions(mean, True)
    least = min(float((block @ axis).min()) for block in _directions(store, at))
    reach = float(np.arccos(np.clip(least, -1, 1)))
    return {"clips": clips, "mean": mean, "length": length / clips, "reach": reach}


def _directions(store: TakeStore, at: int) -> Iterator[Floats]:
    """Directions of a stream's valid clips [n, D], whole chunks at a time."""
    size = store.chunk_clips
    step = max(1, _BLOCK_NUMBERS // (store.dim * size)) * size
    features, valid = store.array(schema.FEATURES), store.array(schema.VALID)
    for start in range(0, store.clips, step):
        rows = slice(start, min(start + step, store.clips))
        block = directions(
            np.asarray(features[rows, at, :]), np.asarray(valid[rows, at]).astype(bool)
        )
        if len(there := block[block.any(axis=1)]):
            yield there


def _rows_in(data: bytes) -> list[dict[str, Any]]:
    """The rows of a table; none where it is damaged."""
    import pyarrow
    import pyarrow.parquet

    rows: list[dict[str, Any]] = []
    try:
        for batch in pyarrow.parquet.ParquetFile(io.BytesIO(data)).iter_batches(PIECE_ROWS):
            vectors = _vectors(batch)
            rest = batch.drop_columns(["mean"]).to_pylist()
            rows += [{**row, "mean": vector} for row, vector in zip(rest, vectors, strict=True)]
    except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError, OSError, KeyError):
        return []
    return rows


def _vectors(batch: "pyarrow.RecordBatch") -> NDArray[np.float16]:
    column = batch.column("mean")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    found: NDArray[np.float16] = flat.reshape(len(column), -1)
    return found


def _table_of(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    dim = len(rows[0]["mean"]) if rows else 1
    # Stores of one encoder_id have one length of vectors; another is no store of this encoder.
    rows = [row for row in rows if len(row["mean"]) == dim]
    flat = np.concatenate([row["mean"] for row in rows]) if rows else np.zeros(0, np.float16)
    table = pyarrow.table(
        {
            "take_uid": pyarrow.array([row["take_uid"] for row in rows], pyarrow.string()),
            "stream": pyarrow.array([row["stream"] for row in rows], pyarrow.string()),
            "clips": pyarrow.array([row["clips"] for row in rows], pyarrow.int64()),
            "length": pyarrow.array([row["length"] for row in rows], pyarrow.float32()),
            "reach": pyarrow.array([row["reach"] for row in rows], pyarrow.float32()),
            "mean": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), dim),
        }
    )
    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        table, sink, compression="zstd", row_group_size=PIECE_ROWS,
        # Means have no values in common: a dictionary of them makes reading three times as slow.
        use_dictionary=["take_uid", "stream"],
    )  # fmt: skip
    return sink.getvalue()
