"""What is compared: features of a take in a store, or in files of the official layout."""

import posixpath
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from configs.load import SettingsError
from service.transfer.official import (
    HDF5,
    Array,
    NoFeatures,
    hdf5_arrays,
    hdf5_names,
    official_files,
    parse_file,
    split_name,
)
from takestream import schema
from takestream.errors import StorageNotFound
from takestream.storage import S3Options, absolute, join
from takestream.stores import encoder_id_of, find_stores, uid_of
from workers.media.source import Source
from workers.store.errors import StoreError
from workers.store.metadata import UNDECODABLE, read_whole
from workers.store.takestore import TakeStore

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]
# Files whose number of vectors is that many times another's are of other clips.
OTHER_CLIPS = 2


class Side(Protocol):
    """Features of one take.

    Attributes:
        uid: of the take.
        streams: that it has.
        dim: numbers of a vector.
        attributes: of a store; empty for files.
        spans: int64 [clips, 2], when clips begin and end in microseconds; None where nobody says.
    """

    uid: str
    streams: tuple[str, ...]
    dim: int
    attributes: Mapping[str, Any]
    spans: NDArray[np.int64] | None

    def clips(self, stream: str) -> int:
        """How many vectors the stream has."""
        ...

    def read(self, stream: str) -> tuple[NDArray[np.bool_], Floats]:
        """Which clips are valid, bool [clips], and their features [clips, D]."""
        ...


@dataclass(frozen=True)
class Files:
    """The files of a take in the official layout.

    Attributes:
        uid: of the take.
        places: by stream, the URI of its file, or the name of its data set in `hdf5`.
        hdf5: URI of the file that holds them all.
    """

    uid: str
    places: Mapping[str, str]
    hdf5: str | None = None


Place = str | Files
"""A store's URI, or files."""


def places(where: str, s3: S3Options, uids: Collection[str] = ()) -> dict[str, Place]:
    """By uid of the take, what there is: stores of one encoder, or files of the official layout.

    Args:
        where: a store, an encoder's folder, a folder of `.pt` or `.npy` files, or an HDF5 file.
        s3: how to reach it.
        uids: of takes that are known, which tells where a uid with `_` ends.

    Raises:
        StorageNotFound: there is neither.
        StorageError: it cannot be read.
        SettingsError: several encoders.
    """
    try:
        stores = find_stores(where, s3)
    except StorageNotFound as error:
        if found := _official(where, s3, uids):
            return dict(found)
        raise StorageNotFound(f"{error}; nor files <take_uid>_<cam_id>_<stream>.pt") from error
    if len(ids := sorted({encoder_id_of(uri) for uri in stores})) > 1:
        raise SettingsError(
            f"{where} holds features of several encoders: name one, {where}/{ids[0]}"
        )
    return {uid_of(uri): uri for uri in stores}


def _official(where: str, s3: S3Options, uids: Collection[str]) -> dict[str, Files]:
    root = absolute(where)
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    single = root if root.lower().endswith(HDF5) else None
    try:
        names = hdf5_names(root, s3) if single else list(official_files(root, s3)[0])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except NoFeatures as error:
        raise SettingsError(str(error)) from error
    for name in names:
        try:
            uid, key = split_name(name if single else posixpath.splitext(name)[0], uids)
        except NoFeatures:
            continue
        found[uid].setdefault(key, name if single else join(root, name))
    return {uid: Files(uid, keys, single) for uid, keys in found.items()}


def opened(place: Place, s3: S3Options) -> Side:
    """The features at a place. Raises StorageError; SettingsError for files that hold none."""
    return OfficialSide(place, s3) if isinstance(place, Files) else StoredSide(place, s3)


class StoredSide:
    """A store of a take."""

    def __init__(self, uri: str, s3: S3Options) -> None:
        self._store = store = TakeStore.open(uri, s3)
        self.uid, self.streams, self.dim = uid_of(uri), tuple(store.streams), store.dim
        self.attributes: Mapping[str, Any] = store.attributes
        begin, end = (
            read_whole(store.array(name), store.uri)
            for name in (schema.START_TIME, schema.END_TIME)
        )
        self.spans: NDArray[np.int64] | None
        self.spans = np.round(np.stack([begin, end], axis=1) * 1e6).astype(np.int64)

    def clips(self, stream: str) -> int:
        """As `Side.clips`."""
        return self._store.clips

    def read(self, stream: str) -> tuple[NDArray[np.bool_], Floats]:
        """As `Side.read`."""
        index = self._store.streams.index(stream)
        values = _column(self._store, schema.FEATURES, index)
        # Of a store that is not complete, clips may be valid before their features are there.
        valid = _column(self._store, schema.VALID, index) & np.isfinite(values).all(axis=1)
        return valid, values


def _column(store: TakeStore, name: str, index: int) -> NDArray[Any]:
    try:
        return np.asarray(store.array(name)[:, index])
    except UNDECODABLE as error:
        where = f"{name} of {store.streams[index]}"
        raise StoreError(
            f"{store.uri}: {where} is damaged ({error}); `takestream verify --repair` mends it"
        ) from error


class OfficialSide:
    """Files of a take, which hold vectors and do not say when their clips are."""

    def __init__(self, files: Files, s3: S3Options) -> None:
        self.uid, self.streams = files.uid, tuple(files.places)
        self.attributes: Mapping[str, Any] = {}
        self.spans: NDArray[np.int64] | None = None
        self._arrays = {key: _array(files, key, s3) for key in files.places}
        dims = {array.shape[1] for array in self._arrays.values()}
        if len(dims) > 1:
            raise SettingsError(
                f"take {self.uid}: its files hold vectors of {sorted(dims)} numbers"
            )
        self.dim = dims.pop()

    def clips(self, stream: str) -> int:
        """As `Side.clips`."""
        return len(self._arrays[stream])

    def read(self, stream: str) -> tuple[NDArray[np.bool_], Floats]:
        """As `Side.read`; rows of NaN are not valid."""
        values = self._arrays[stream]
        return np.asarray(np.isfinite(values).all(axis=1)), values


def _array(files: Files, key: str, s3: S3Options) -> Array:
    place = files.places[key]
    try:
        if files.hdf5 is not None:
            ((_, found),) = hdf5_arrays(files.hdf5, s3, [place])
            if isinstance(found, NoFeatures):
                raise found
            return found
        return parse_file(place, Source(place, s3).whole())
    except NoFeatures as error:
        raise SettingsError(f"{place}: {error}; leave it out of the folder") from error


def common_rows(a: Side, b: Side, stream: str) -> tuple[Rows, Rows]:
    """Numbers of the clips of a stream that both have, in A and in B.

    Of stores those of the same times, to a microsecond. Files do not say their times: as many
    vectors are the same clips; of one more or fewer, those before the last, which lies elsewhere.

    Raises SettingsError where files were made of other clips.
    """
    if a.spans is not None and b.spans is not None:
        return _of_the_same_times(a.spans, b.spans)
    counts = a.clips(stream), b.clips(stream)
    fewer, more = min(counts), max(counts)
    segments = any("segments" in side.attributes.get("grid", {}) for side in (a, b))
    if segments or (more > OTHER_CLIPS * fewer and more - fewer > OTHER_CLIPS):
        raise SettingsError(
            f"take {a.uid}, {stream}: A has {counts[0]} vectors and B {counts[1]}, so they are of"
            " other clips: compare with features on the grid of the files"
        )
    sure = np.arange(fewer if fewer == more else fewer - 1)
    return sure, sure


def _of_the_same_times(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[Rows, Rows]:
    if np.array_equal(a, b):
        every = np.arange(len(a))
        return every, every
    there = {tuple(span): number for number, span in enumerate(b.tolist())}
    pairs = [
        (number, there[tuple(span)])
        for number, span in enumerate(a.tolist())
        if tuple(span) in there
    ]
    found = np.array(pairs, np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]
