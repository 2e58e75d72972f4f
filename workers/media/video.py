"""A video stream made ready to be read: by its index where that can be believed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from takestream.schema import Reason
from workers.media.container import UnreadableVideo
from workers.media.decode import decode
from workers.media.decoder import OpenDecoder, open_cpu_decoder
from workers.media.index import Index, missing_words, read_index
from workers.media.plain import PlainReader, Showing, survey
from workers.media.proof import prove
from workers.media.reader import Reader
from workers.media.session import Decoded, Unproven
from workers.media.source import ObjectIdentity, Source

log = logging.getLogger(__name__)

P = TypeVar("P")


@dataclass(eq=False)
class Video:
    """A video stream and what is known of it before its frames are read.

    Attributes:
        index: the packets and frames of the stream as its container lists them.
        showing: what it shows when decoded from its beginning; None where the index is believed.
        problems: what is odd about it, in plain words.
        handed_over: why, while it was read, its index was no longer believed, or nothing.
    """

    index: Index
    showing: Showing | None
    problems: tuple[str, ...]

    def __post_init__(self) -> None:
        self.handed_over = ""
        self._handed_over: Showing | None = None
        self._lock = threading.Lock()

    @property
    def identity(self) -> ObjectIdentity:
        """The version of the object that was looked at."""
        return self.index.identity

    @property
    def samples(self) -> int:
        """How many frames a player would show, missing ones included."""
        return len(self.showing.packet) if self.showing else self.index.frames

    @property
    def sure(self) -> bool:
        """Whether nothing throws doubt on how many frames it has."""
        if self.showing:
            return bool((self.showing.reason == Reason.VALID).all())
        return bool((self.index.shown >= 0).all()) and not self.index.late

    @property
    def rate(self) -> Fraction:
        """Frames per second by the usual step from frame to frame."""
        return self.showing.rate if self.showing else self.index.rate

    @property
    def read_by(self) -> str:
        """How its frames are found: by its "index", or in "order" from the beginning."""
        return "order" if self.showing else "index"

    def times(self) -> NDArray[np.float64]:
        """Each frame's PTS; float64 [samples] seconds from the first frame, NaN where missing."""
        return self.showing.seconds if self.showing else self.index.times()

    @property
    def origin(self) -> float:
        """Seconds on the file's own clock, which its other tracks share, at the first frame."""
        index = self.index
        packets = self.showing.packet if self.showing else index.shown
        there = np.flatnonzero((packets >= 0) & (packets < len(index.pts)))
        if not len(there):
            return 0.0
        # One frame's PTS may be false: most of them are not.
        pts = index.pts[packets[there]] * float(index.time_base)
        return float(np.nanmedian(pts - Video.times(self)[there]))

    def reader(self, source: Source, open_decoder: OpenDecoder = open_cpu_decoder) -> Reader:
        """A reader of its frames.

        Args:
            source: where the bytes are.
            open_decoder: makes the decoder of a stream that is read by its index.
        """
        if self.showing:
            return PlainReader(source, self.index, self.showing)
        return VideoReader(source, self, open_decoder)

    def shown(self, source: Source, doubt: str) -> Showing:
        """What the stream shows when decoded from its beginning; found out once.

        Args:
            source: where the bytes are.
            doubt: why its index is not believed.
        """
        with self._lock:
            self.handed_over = self.handed_over or doubt
            if self._handed_over is None:
                self._handed_over = self.showing or survey(source, self.index)
            return self._handed_over


@dataclass(frozen=True)
class VideoReader:
    """A video stream, read by its index: only the packets that the samples need are fetched.

    Where the stream proves not to be what its index says, the plain reader goes on; with another
    decoder than the CPU's, `Unproven` is raised instead.

    Attributes:
        source: where the bytes are.
        video: the stream.
        open_decoder: makes a decoder of it; on the CPU by default.
    """

    source: Source
    video: Video
    open_decoder: OpenDecoder = open_cpu_decoder

    @property
    def samples(self) -> int:
        """How many frames a player would show."""
        return self.video.samples

    def times(self) -> NDArray[np.float64]:
        """Each frame's PTS; float64 [samples] seconds from the first frame, NaN where missing."""
        return self.video.times()

    def read(
        self,
        first: int,
        last: int,
        wanted: Callable[[int], bool],
        convert: Callable[[int, VideoFrame], P],
    ) -> Iterator[Decoded[P]]:
        """As `Reader.read` says."""
        index, at = self.video.index, first
        try:
            for decoded in decode(
                self.source, index, first, last, wanted, convert, open_decoder=self.open_decoder
            ):
                yield decoded
                at = decoded.frame + 1
            return
        except Unproven as found:
            if self.open_decoder is not open_cpu_decoder:
                raise  # it may be that decoder's doing
            doubt = str(found)
            log.warning("%s: %s; reading it from its beginning", self.source.uri, doubt)
            self.source.counters.add(streams_read_in_order=1)
        showing = self.video.shown(self.source, doubt)
        yield from PlainReader(self.source, index, showing).read(at, last, wanted, convert)


@dataclass(eq=False)
class VideoSpan(Video):
    """A stretch of a video stream, where several takes share one object.

    Attributes:
        first, last: the stream's frames `[first, last)` that are this take's; they are numbered
            from 0 here.
    """

    first: int = 0
    last: int = 0

    @classmethod
    def of(cls, video: Video, start: float, end: float) -> VideoSpan:
        """The frames of `video` that are shown in `[start, end)` seconds from its first.

        Raises:
            UnreadableVideo: it shows none then.
        """
        # Times are multiples of a time base: a cut at a frame's own time must not be chance.
        slack = 1e-6
        times = video.times()
        inside = np.flatnonzero((times >= start - slack) & (times < end - slack))
        if not len(inside):
            raise UnreadableVideo(f"it shows nothing from {start:g} to {end:g} s")
        return cls(video.index, video.showing, video.problems, int(inside[0]), int(inside[-1]) + 1)

    @property
    def samples(self) -> int:
        """How many frames of the stretch a player would show, missing ones included."""
        return self.last - self.first

    def times(self) -> NDArray[np.float64]:
        """Each frame's PTS; float64 [samples] seconds from the stretch's first frame."""
        times = super().times()[self.first : self.last]
        return times - times[:1]

    @property
    def origin(self) -> float:
        """As `Video.origin`, of the stretch's first frame."""
        return super().origin + float(Video.times(self)[self.first])

    def reader(self, source: Source, open_decoder: OpenDecoder = open_cpu_decoder) -> Reader:
        """As `Video.reader` does, for the stretch."""
        return SpanReader(super().reader(source, open_decoder), self)


@dataclass(frozen=True)
class SpanReader:
    """A stretch of a stream.

    Attributes:
        whole: reads the stream.
        span: which stretch of it.
    """

    whole: Reader
    span: VideoSpan

    @property
    def source(self) -> Source:
        """Where the bytes are read."""
        return self.whole.source

    @property
    def samples(self) -> int:
        """How many frames of the stretch a player would show."""
        return self.span.samples

    def times(self) -> NDArray[np.float64]:
        """Each frame's PTS; float64 [samples] seconds from the stretch's first frame."""
        return self.span.times()

    def read(
        self,
        first: int,
        last: int,
        wanted: Callable[[int], bool],
        convert: Callable[[int, VideoFrame], P],
    ) -> Iterator[Decoded[P]]:
        """As `Reader.read` says; frames after the stretch are past its end."""
        offset, end = self.span.first, min(last, self.samples)
        for decoded in self.whole.read(
            first + offset,
            end + offset,
            lambda number: wanted(number - offset),
            lambda number, frame: convert(number - offset, frame),
        ):
            yield replace(decoded, frame=decoded.frame - offset)
        for number in range(max(first, end), last):
            yield Decoded(number, Reason.PAST_END, None)


def probe_video(
    source: Source,
    *,
    track: int | None = None,
    span: tuple[float, float] | None = None,
) -> Video:
    """Look at the index and the first packets of a video.

    Args:
        source: where the bytes are.
        track: which of its tracks; the one that one would watch by default.
        span: seconds `[start, end)` from its first frame, where it is a part of the object.

    Costs what `read_index` does for an ordinary stream; one that is not what its index says is
    decoded as a whole.

    Raises:
        UnreadableVideo: there is no video in it that can be decoded.
        StorageError: it cannot be read.
        SourceChanged: it is not the version that `source` expects.
        FileNotFoundError: there is no object.
    """
    index = read_index(source, track)
    proof = prove(source, index)
    doubt = index.doubt or proof.doubt
    if not doubt:
        whole = Video(index, None, (*index.problems, *proof.problems))
        return whole if span is None else VideoSpan.of(whole, *span)
    showing = survey(source, index)
    problems = [f"read from its beginning, because {doubt}", *proof.problems]
    missing = showing.packet < 0
    if missing.any():
        problems.append(missing_words(missing))
    whole = Video(index, showing, tuple(problems))
    return whole if span is None else VideoSpan.of(whole, *span)
