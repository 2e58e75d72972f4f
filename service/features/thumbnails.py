"""Small pictures of moments: decoded from the videos once, and kept beside the output."""

import hashlib
import io
import logging
import threading
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image

from service.errors import Unknown
from takestream.errors import StorageError
from takestream.schema import Reason
from takestream.storage import S3Options, absolute, join
from takestream.stores import THUMBNAILS
from workers.clock.probe import PROBES
from workers.dataset.base import Dataset, source_of
from workers.dataset.take import Stream, Take
from workers.media.container import UnreadableVideo
from workers.media.decode import rgb
from workers.media.reader import Reader
from workers.media.source import ObjectIdentity
from workers.store.objects import Objects

log = logging.getLogger(__name__)

# Moments nearer to each other share a picture.
STEP_SECONDS = 0.5
WIDTH, HEIGHT = 320, 240
_QUALITY = 78
# Kept in memory: pictures, and probed videos.
_PICTURES, _READERS = 1000, 16


@dataclass(frozen=True)
class Thumbnail:
    """A picture.

    Attributes:
        jpeg: Its bytes; at most `WIDTH` x `HEIGHT` pixels.
        name: Changes whenever the picture may be another one.
    """

    jpeg: bytes
    name: str


class Thumbnails:
    """Pictures of streams at moments. Safe to use from several threads.

    A picture that is not in `<output>/thumbnails` is decoded, and written there where that is
    allowed.

    Args:
        output: Of the service.
        s3: How to reach it.
    """

    def __init__(self, output: str, s3: S3Options) -> None:
        self._root, self._s3 = join(absolute(output), THUMBNAILS), s3
        self._pictures: LRUCache[str, Thumbnail] = LRUCache(_PICTURES)
        self._readers: LRUCache[str, Reader] = LRUCache(_READERS)
        self._lock = threading.Lock()

    def picture(self, dataset: Dataset, take: Take, stream: Stream, time: float) -> Thumbnail:
        """What a stream shows at a moment.

        Args:
            dataset: Of the service.
            take: Whole.
            stream: Of the take.
            time: Seconds on the take's clock, rounded down to `STEP_SECONDS`.

        Raises:
            Unknown: The stream has no good picture there.
            StorageError: The video's storage fails.
        """
        steps = int(time / STEP_SECONDS)
        source = source_of(dataset, stream)
        try:
            identity = source.identity()
        except FileNotFoundError:
            raise Unknown(f"take {take.name} {stream.key}: the video's object is absent") from None
        of = f"{stream.uri} {identity} {stream.track} {stream.span} {stream.start_offset}"
        name = hashlib.sha256(f"{of} {steps}".encode()).hexdigest()[:32]
        with self._lock:
            found = self._pictures.get(name)
        if found is None:
            found = self._kept(take, name)
        if found is None:
            jpeg = self._made(dataset, take, stream, identity, steps * STEP_SECONDS, of)
            found = Thumbnail(jpeg, name)
            self._keep(take, found)
        with self._lock:
            self._pictures[name] = found
        return found

    def _objects(self, take: Take) -> Objects:
        return Objects(join(self._root, take.uid), self._s3)

    def _kept(self, take: Take, name: str) -> Thumbnail | None:
        try:
            jpeg = self._objects(take).get(f"{name}.jpg")
        except StorageError:
            return None
        return Thumbnail(jpeg, name) if jpeg else None

    def _keep(self, take: Take, picture: Thumbnail) -> None:
        try:
            self._objects(take).put(f"{picture.name}.jpg", picture.jpeg)
        except StorageError as error:
            # Without permission to write, each replica decodes the picture for itself.
            log.info("thumbnail not kept: %s", error)

    def _made(
        self,
        dataset: Dataset,
        take: Take,
        stream: Stream,
        identity: ObjectIdentity,
        time: float,
        of: str,
    ) -> bytes:
        try:
            reader = self._reader(dataset, stream, identity, of)
            shown = _shown_at(reader, time - (stream.start_offset or 0.0))
            picture, reason = None, Reason.PAST_END
            if shown is not None:
                (decoded,) = reader.read(
                    shown, shown + 1, lambda _: True, lambda _, frame: _small(rgb(frame))
                )
                picture, reason = decoded.picture, decoded.reason
        except UnreadableVideo as error:
            raise Unknown(f"take {take.name} {stream.key}: {error}") from None
        if picture is None:
            raise Unknown(
                f"take {take.name} {stream.key}: no picture at {time:g} s, {reason.words}"
            )
        return picture

    def _reader(
        self, dataset: Dataset, stream: Stream, identity: ObjectIdentity, of: str
    ) -> Reader:
        with self._lock:
            found = self._readers.get(of)
        if found is None:
            source = source_of(dataset, stream)
            source.expect(identity)
            video = PROBES[stream.kind](source, track=stream.track, span=stream.span)
            found = video.reader(source)
            with self._lock:
                self._readers[of] = found
        return found


def _shown_at(reader: Reader, time: float) -> int | None:
    """The sample that is shown at a time on the stream's own clock; None before and after it."""
    times = reader.times()
    began = np.flatnonzero(times <= time + 1e-6)
    # A camera that ended does not show its last picture for ever.
    return int(began[-1]) if len(began) and time <= np.nanmax(times) + STEP_SECONDS else None


def _small(picture: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
