"""The index of one video object: which packets there are, and which frame each of them shows.

libav reads the container's own index (the moov box) by range. The packets are then listed by
demuxing with every media byte replaced by a zero, so no media is fetched and no container format
is parsed here: PTS, edit lists and B-frame reordering are libav's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.index import IndexEntry
from av.packet import PacketSideData
from av.video.stream import VideoStream
from numpy.typing import NDArray

from workers.media.container import UnreadableVideo, open_container, select, watched_track
from workers.media.source import ObjectIdentity, Source, SourceChanged
from workers.media.sparse import SparseFile

# No camera makes a packet of this size.
ABSURD = 128 * 1024 * 1024
# What travels beside a packet and changes how it and those after it are decoded.
BESIDE = ("new_extradata", "palette", "param_change")


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
    track: number of the stream among all streams of the container.
    beside: what travels beside a packet, by the packet's number: another sample description's
        parameter sets, a palette. It holds until something else of its kind comes.
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
    track: int
    beside: Mapping[int, tuple[PacketSideData, ...]]

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

    def open(self, hwaccel: HWAccel | None = None) -> tuple[InputContainer, VideoStream]:
        """The container again, from memory, and its stream; close it after use."""
        container = open_container(self.head.reopened(), hwaccel)
        return container, select(container, self.track)

    def in_force(self, packet: int) -> dict[str, PacketSideData]:
        """By kind, what came beside `packet` or before it and still holds."""
        found = {}
        for number in sorted(self.beside):
            if number <= packet:
                found.update({data.data_type: data for data in self.beside[number]})
        return found


def read_index(source: Source, expect: ObjectIdentity | None = None) -> Index:
    """The index of the first video stream of `source`.

    Costs one HEAD and two to four GETs for an ordinary mp4; a fragmented one, whose index lies
    between the media, is read as a whole. Raises UnreadableVideo, StorageError,
    and SourceChanged when the object is not the one `expect` names.
    """
    identity = source.identity()
    if expect is not None and identity != expect:
        raise SourceChanged(f"{source.uri}: the object changed since it was probed; run again")
    if identity.size == 0:
        raise UnreadableVideo("the object is empty (0 bytes)")
    head = SparseFile(source, identity.size)
    with open_container(head) as container:
        stream = watched_track(container)
        track = select(container, stream.index).index
        entries = list(stream.index_entries)
        head.keep_no_more()
        # `mvex` in the moov says that fragments follow, with packets that the moov does not list.
        if stream.frames == 0 or head.holds(b"mvex"):
            packets, beside = _packets(container, track)
        else:
            with open_container(head.reopened(_end(entries))) as hollow:
                packets, beside = _packets(hollow, track)
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
            track=track,
            beside=beside,
        )


def _end(entries: Sequence[IndexEntry]) -> int:
    # Where the last packet ends; and no gigabytes of zeros for an index that cannot be true.
    spans = np.unique([(entry.pos, entry.size) for entry in entries] or [(0, 0)], axis=0)
    ends = spans.sum(axis=1)
    if spans[:, 1].max() > ABSURD or (ends[:-1] > spans[1:, 0]).any():
        raise UnreadableVideo("its index is damaged: it lists packets that cannot be there")
    return int(ends[-1])


def _packets(
    container: InputContainer, track: int
) -> tuple[list[tuple[int, int, int, int, bool]], dict[int, tuple[PacketSideData, ...]]]:
    """PTS, DTS, position, size and whether it is hidden of each packet; what came beside which."""
    found: list[tuple[int, int, int, int, bool]] = []
    beside: dict[int, tuple[PacketSideData, ...]] = {}
    try:
        for packet in container.demux(select(container, track)):
            dts, position, size = packet.dts, packet.pos, packet.size
            if size and dts is not None and position is not None:
                pts = dts if packet.pts is None else packet.pts
                with_it = tuple(d for d in packet.iter_sidedata() if d.data_type in BESIDE)
                if with_it:
                    beside[len(found)] = with_it
                found.append((pts, dts, position, size, packet.is_discard))
    except (av.FFmpegError, EOFError):
        # What the container lists after a fault cannot be reached; what came before it can.
        pass
    return found, beside


def _turns(
    pts: NDArray[np.int64], key: NDArray[np.bool_], hidden: NDArray[np.bool_]
) -> NDArray[np.int64]:
    # Where an edit ends and the next begins, packets are hidden whose times lie among the other's.
    edit = np.cumsum(key & (hidden | np.roll(hidden, 1)))
    return np.unique(np.stack([edit, pts]), axis=1, return_inverse=True)[1]
