"""Stores as what is exported and pooled: chosen by name, read a stream at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import SettingsError
from takestream import schema
from takestream.storage import S3Options, absolute
from takestream.stores import StoredTake, choose_streams, encoder_id_of
from takestream.takes import find_takes
from workers.store.takestore import TakeStore


@dataclass(frozen=True)
class Chosen:
    """The stores that a command is about.

    Attributes:
        takes: those that are complete, by uid.
        left_out: names of the takes whose stores are not complete.
        streams: over all takes.
    """

    takes: tuple[StoredTake, ...]
    left_out: tuple[str, ...]
    streams: tuple[str, ...]

    @property
    def encoder_id(self) -> str:
        """Of all of them."""
        return encoder_id_of(self.takes[0].uri)


def choose_stores(
    uri: str, encoder: str | None, streams: Sequence[str] | None, s3: S3Options
) -> Chosen:
    """The complete stores at `uri`: a store, an encoder's folder, or an output.

    Raises:
        SettingsError: several encoders fit, no stream does, or no store is complete.
        StorageError: there is none, or the storage cannot be read.
    """
    try:
        found = find_takes(absolute(uri), encoder, None, True, s3)
        whole = tuple(take for take in found if take.complete)
        if not whole:
            raise SettingsError(f"{uri}: none of {len(found)} stores is complete: extract the rest")
        names = choose_streams(whole, streams)
    except ValueError as error:
        if isinstance(error, SettingsError):
            raise
        words = str(error).replace("encoder= one of", "choose by --encoder one of")
        raise SettingsError(words) from error
    return Chosen(whole, tuple(t.name for t in found if not t.complete), names)


class StoredFeatures:
    """What one store holds, read a stream at a time.

    Args:
        uri: of the store.
        s3: how to reach it.

    Attributes:
        attributes: of the store.
        streams: of the store.
        start_time, end_time: float64 [clips] seconds on the take's clock.
    """

    def __init__(self, uri: str, s3: S3Options) -> None:
        self._store = TakeStore.open(uri, s3)
        self.attributes = self._store.attributes
        self.streams = self._store.streams
        self.start_time = self._clips(schema.START_TIME)
        self.end_time = self._clips(schema.END_TIME)
        self._valid: NDArray[np.bool_] | None = None

    def of(self, stream: str, array: str) -> NDArray[Any]:
        """An array of one stream, whole: [clips] or [clips, D]."""
        index = self._store.streams.index(stream)
        return np.asarray(self._store.array(array)[:, index])

    def features(self, stream: str) -> NDArray[np.float32]:
        """float32 [clips, D], NaN where invalid."""
        return self.of(stream, schema.FEATURES).astype(np.float32)

    def valid(self, stream: str) -> NDArray[np.bool_]:
        """bool [clips]."""
        if self._valid is None:  # small, so of all streams by one call
            self._valid = np.asarray(self._store.array(schema.VALID)[:])
        return self._valid[:, self._store.streams.index(stream)]

    def _clips(self, array: str) -> NDArray[np.float64]:
        return np.asarray(self._store.array(array)[:])


def blocks(count: int, size: int) -> Iterator[range]:
    """0 … count - 1 in ranges of `size`."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
