"""The index of one video object: which packets there are, and which frame each of them shows.

libav reads the container's own index (the moov box) by range. The packets are then listed by
demuxing with every media byte replaced by a zero, so no media is fetched and no container format
is parsed here: PTS, edit lists and B-frame reordering are libav's.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.index import IndexEntry
from av.stream import Discard
from av.video.stream import VideoStream
from numpy.typing import NDArray

from workers.media.source import ObjectIdentity, Source, SourceChanged

BLOCK = 64 * 1024
# Reads in a row grow up to this; a jump to what must be the moov at the end takes all of it. A
# 15 minute take's moov is about half a megabyte.
READ = 1024 * 1024
TAIL = 4 * 1024 * 1024
# No camera makes a packet of this size.
ABSURD = 128 * 1024 * 1024
# Other formats are refused before they are opened: playlists and session descriptions would make
# libav read local files or listen on the network.
CONTAINERS = "mov,mp4"


class UnreadableVideo(Exception):
    """The object holds no video that can be decoded; the message says what it holds instead."""


@dataclass(frozen=True, eq=False)
class Index:
    """Packets of one video stream in decode order, and its frames in presentation order.

    pts, dts: int64 [packets] in `time_base`. position, size: int64 [packets] in bytes.
    key: bool [packets], whether decoding can begin there.
    turn: int64 [packets], which comes out of a decoder when: by PTS, edit by edit; equal PTS share
        a turn.
    shown: int64 [frames], the packet of each frame that a player would show.
    rate: frames per second by the container's average.
    head: the bytes that libav read to open the file, so that it can be opened again for free.
    """

    identity: ObjectIdentity
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    position: NDArray[np.int64]
    size: NDArray[np.int64]
    key: NDArray[np.bool_]
    turn: NDArray[np.int64]
    shown: NDArray[np.int64]
    time_base: Fraction
    rate: Fraction
    codec: str
    width: int
    height: int
    head: SparseFile

    @property
    def frames(self) -> int:
        """How many frames a player would show."""
        return len(self.shown)

    @property
    def truncated(self) -> str:
        """What is missing of the object in plain words, or nothing."""
        beyond = int((self.position + self.size > self.identity.size)[self.shown].sum())
        return (
            f"the object is cut short: the data of {beyond} of {self.frames} frames is not in it"
            if beyond
            else ""
        )

    def times(self) -> NDArray[np.float64]:
        """Each frame's PTS in seconds, from the first shown frame on; float64 [frames]."""
        pts = self.pts[self.shown]
        return np.asarray((pts - pts[:1]) * float(self.time_base), dtype=np.float64)

    def packets(self, first: int, last: int, earlier: int = 0) -> tuple[int, int]:
        """The packets `[start, stop)` whose decoding gives frames `[first, last)` exactly.

        Starts at the last key packet that is not shown after frame `first`. A frame that is shown
        before its key packet but decoded after it (open GOP) needs the key before, so it never
        starts there. `earlier` starts so many key packets before that.
        """
        wanted = self.shown[first:last]
        keys = np.flatnonzero(self.key)
        usable = keys[(self.turn[keys] <= self.turn[wanted[0]]) & (keys <= wanted.min())]
        start = int(usable[-1 - earlier]) if len(usable) > earlier else 0
        return start, int(wanted.max()) + 1

    def open(self, hwaccel: HWAccel | None = None) -> InputContainer:
        """The container again, from memory; close it after use."""
        return open_container(self.head.reopened(), hwaccel)


class SparseFile(io.RawIOBase):
    """A read-only file over a source that keeps what was read, or reads zeros elsewhere."""

    def __init__(self, source: Source, size: int) -> None:
        self.source = source
        self.length = size
        self._hollow = False
        self._position = 0
        self._kept: dict[int, bytes] = {}
        self._passing: dict[int, bytes] = {}
        self._into = self._kept
        self._ahead = (-1, BLOCK)

    def reopened(self, length: int = 0) -> SparseFile:
        """Another reader of the kept bytes, at least `length` long; all else in it reads as zeros.

        So the packets that a cut object lacks can be listed too.
        """
        copy = SparseFile(self.source, max(self.length, length))
        copy._kept = self._kept
        copy._hollow = True
        return copy

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.length}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = self.length if size < 0 else min(self.length, self._position + size)
        parts = []
        while self._position < stop:
            start = self._position // BLOCK * BLOCK
            upto = min(stop, start + BLOCK)
            part = self._block(start)[self._position - start : upto - start]
            parts.append(part + bytes(upto - self._position - len(part)))
            self._position = upto
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def keep_no_more(self) -> None:
        """What is read from now on is forgotten at the next read."""
        self._into = self._passing

    def holds(self, word: bytes) -> bool:
        """Whether `word` stands in the kept bytes."""
        runs = bytearray()
        for number in sorted(self._kept):
            runs += self._kept[number]
            if number + 1 not in self._kept:
                runs += b"\0"
        return word in runs

    def _block(self, start: int) -> bytes:
        number = start // BLOCK
        if number not in self._kept and number not in self._passing and not self._hollow:
            self._fetch(start)
        return self._kept.get(number) or self._passing.get(number, b"")

    def _fetch(self, start: int) -> None:
        expected, size = self._ahead
        size = min(2 * size, READ) if start == expected else 2 * BLOCK
        jumped = start not in (0, expected)
        if jumped and self.length - start <= TAIL:
            size = TAIL
        data = self.source.read(start, min(self.length, start + size))
        self._passing.clear()
        for at in range(0, len(data), BLOCK):
            self._into[(start + at) // BLOCK] = data[at : at + BLOCK]
        self._ahead = (start + size, size)


def read_index(source: Source, expect: ObjectIdentity | None = None) -> Index:
    """The index of the first video stream of `source`.

    Costs one HEAD and two to four GETs for an ordinary mp4; a fragmented one, whose index lies
    between the media, is read as a whole. Raises UnreadableVideo, SourceError, FileNotFoundError,
    and SourceChanged when the object is not the one `expect` names.
    """
    identity = source.identity()
    if expect is not None and identity != expect:
        raise SourceChanged(f"{source.uri}: the object changed since it was probed; run again")
    if identity.size == 0:
        raise UnreadableVideo("the object is empty (0 bytes)")
    head = SparseFile(source, identity.size)
    with open_container(head) as container:
        stream = _video_stream(container)
        entries = list(stream.index_entries)
        head.keep_no_more()
        # `mvex` in the moov says that fragments follow, with packets that the moov does not list.
        if stream.frames == 0 or head.holds(b"mvex"):
            packets = _packets(container)
        else:
            with open_container(head.reopened(_end(entries))) as hollow:
                packets = _packets(hollow)
        if all(hidden for *_, hidden in packets):
            raise UnreadableVideo("its video stream has no frames to show")
        columns = np.array(packets, dtype=np.int64).T
        pts, dts, position, size = columns[:4]
        hidden = columns[4] != 0
        # The parser takes a hollow packet for no key frame, so the container's own flags count.
        keys = [entry.pos for entry in stream.index_entries if entry.is_keyframe]
        key = np.isin(position, keys)
        turn = _turns(pts, key, hidden)
        order = np.argsort(turn, kind="stable")
        assert stream.time_base is not None
        return Index(
            identity=identity,
            pts=pts,
            dts=dts,
            position=position,
            size=size,
            key=key,
            turn=turn,
            shown=order[~hidden[order]],
            time_base=stream.time_base,
            rate=stream.average_rate or stream.guessed_rate or Fraction(30),
            codec=stream.codec_context.name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            head=head,
        )


def open_container(file: SparseFile, hwaccel: HWAccel | None = None) -> InputContainer:
    """`file` opened by libav. Raises UnreadableVideo in plain words when it is no video."""
    try:
        # Handler names and tags are not always UTF-8.
        return av.open(
            file,
            "r",
            options={"format_whitelist": CONTAINERS},
            metadata_errors="replace",
            hwaccel=hwaccel,
        )
    except av.ArgumentError as error:
        raise UnreadableVideo("not an mp4 or mov file") from error
    except (av.FFmpegError, EOFError) as error:
        raise UnreadableVideo(f"not a readable mp4 or mov file ({_reason(error)})") from error


def _video_stream(container: InputContainer) -> VideoStream:
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise UnreadableVideo(f"no video stream in it (it holds {kinds or 'nothing'})")
    stream = container.streams.video[0]
    # libav gives a stream whose codec it does not know no codec context at all.
    if getattr(stream, "codec_context", None) is None:
        raise UnreadableVideo("its video codec is not known here")
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream


def _end(entries: Sequence[IndexEntry]) -> int:
    # Where the last packet ends; and no gigabytes of zeros for an index that cannot be true.
    spans = np.unique([(entry.pos, entry.size) for entry in entries] or [(0, 0)], axis=0)
    ends = spans.sum(axis=1)
    if spans[:, 1].max() > ABSURD or (ends[:-1] > spans[1:, 0]).any():
        raise UnreadableVideo("its index is damaged: it lists packets that cannot be there")
    return int(ends[-1])


def _packets(container: InputContainer) -> list[tuple[int, int, int, int, bool]]:
    """PTS, DTS, position, size and whether it is hidden of each packet of the video stream."""
    found = []
    try:
        for packet in container.demux(_video_stream(container)):
            dts, position, size = packet.dts, packet.pos, packet.size
            if size and dts is not None and position is not None:
                pts = dts if packet.pts is None else packet.pts
                found.append((pts, dts, position, size, packet.is_discard))
    except (av.FFmpegError, EOFError):
        # What the container lists after a fault cannot be reached; what came before it can.
        pass
    return found


def _turns(
    pts: NDArray[np.int64], key: NDArray[np.bool_], hidden: NDArray[np.bool_]
) -> NDArray[np.int64]:
    # Where an edit ends and the next begins, packets are hidden whose times lie among the other's.
    edit = np.cumsum(key & (hidden | np.roll(hidden, 1)))
    return np.unique(np.stack([edit, pts]), axis=1, return_inverse=True)[1]


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split()).lower()
