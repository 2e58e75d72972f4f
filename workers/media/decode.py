"""Exact frame ranges of one stream: every frame decoded once, damage found and named.

Packets are cut out of ranged reads by the index and go straight to the decoder; no demuxer reads
in the loop. A frame counts as good when its own packet and all that it can depend on came through:
from a lost or corrupt frame on, everything decoded up to the next key packet is damaged, and so
are the frames of the next group that are shown before its key (they lean on both groups), and the
packet just before. Compared frame by frame with undamaged decoding of H.264, no changed frame goes
unnamed where garbage, zeros or a cut span packets. What libav's decoder does not notice nobody
names: of forty tries each at 448p, 4 KiB of garbage inside large packets twice, a single flipped
bit five times; and its HEVC and VP9 decoders notice next to nothing inside a packet.

Colour: pictures become rgb24 by PyAV's plain `to_ndarray(format="rgb24")`. Tags (BT.601 or 709,
limited or full range) are honoured and untagged video counts as BT.601 limited, at any size. That
is what PyAV and torchvision scripts, the official extraction among them, see. Display rotation is
applied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from takestream.schema import Reason
from workers.media.counters import Counters
from workers.media.index import Index
from workers.media.orientation import frame_orientation
from workers.media.source import Source

# Spans closer than this are fetched together: audio lies between the video packets.
GAP = 64 * 1024
FIRST_READ = 512 * 1024
FULL_READ = 4 * 1024 * 1024

# A key packet need not be a whole picture: with intra refresh it takes a group or two until frames
# are right. If the first frame asked for is not, decoding starts so many key packets earlier.
LANDINGS = (0, 1, 3)

P = TypeVar("P")


@dataclass(frozen=True)
class Decoded(Generic[P]):
    """One frame: its number in presentation order, what was made of it, and whether it is good.

    picture: what `convert` returned; None when the frame is not good or was not wanted.
    """

    frame: int
    reason: Reason
    picture: P | None


def rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """The picture as uint8 [H, W, 3], turned and mirrored as its display matrix says."""
    array = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    return frame_orientation(frame).array(array)


def decode(
    source: Source,
    index: Index,
    first: int,
    last: int,
    wanted: Callable[[int], bool],
    convert: Callable[[int, VideoFrame], P],
    *,
    open_decoder: Callable[[Index], tuple[Any, VideoCodecContext]] | None = None,
) -> Iterator[Decoded[P]]:
    """Frames `[first, last)` of a stream in presentation order, each exactly once.

    `convert(number, frame)` runs at once on each good frame for which `wanted(number)` holds.
    Frames past the end of the stream come as PAST_END, frames whose data is not in the object as
    MISSING_FRAME, frames that damage reaches as DAMAGED_FRAME. Memory: a few frames and
    `IN_FLIGHT` reads.
    Raises StorageError when bytes cannot be read.
    """
    end = min(last, index.frames)
    for earlier in LANDINGS if first < end else ():
        start, stop = index.packets(first, end, earlier)
        container, codec = (open_decoder or open_cpu_decoder)(index)
        try:
            session = _Session(source, index, codec, first, end, start)
            frames = session.run(stop, wanted, convert)
            beginning = next(frames)
            if beginning.reason is Reason.VALID or not session.could_land_earlier(earlier):
                yield beginning
                yield from frames
                break
        finally:
            container.close()
    for number in range(max(first, end), last):
        yield Decoded(number, Reason.PAST_END, None)


def open_cpu_decoder(index: Index) -> tuple[Any, VideoCodecContext]:
    """A fresh software decoder for the stream, on one thread.

    With libav's frame threads a frame can come out before its error flags are set, and what an
    error leaves in the decoder at the end is lost: which frames count as damaged would be chance.
    """
    container, stream = index.open()
    codec = stream.codec_context
    codec.thread_count = 1
    return container, codec


class _Session:
    """One run of a decoder over consecutive packets.

    The decoder is given each packet's number for its PTS, so a frame that comes out says itself
    which packet it is, however odd the container's own times are.
    """

    def __init__(
        self,
        source: Source,
        index: Index,
        codec: VideoCodecContext,
        first: int,
        end: int,
        start: int,
    ) -> None:
        self.source, self.index, self.codec = source, index, codec
        self.first, self.end, self.start = first, end, start
        self.counters: Counters = source.counters
        numbers = np.arange(len(index.pts))
        self.number = np.full(len(numbers), -1, dtype=np.int64)
        self.number[index.shown] = np.arange(index.frames)
        self.there = index.position + index.size <= index.identity.size
        self.group = np.maximum.accumulate(np.where(index.key, numbers, 0))
        self.turn = index.turn
        self.leading = index.turn < index.turn[self.group]
        # Per group of pictures, the first packet in decode order at which something went wrong;
        # apart for the frames shown before the group's key, on which the rest does not lean.
        self.broken: dict[int, int] = {}
        self.broken_leading: dict[int, int] = {}
        self.last_fed = start - 1

    def run(
        self, stop: int, wanted: Callable[[int], bool], convert: Callable[[int, VideoFrame], P]
    ) -> Iterator[Decoded[P]]:
        run = self._fed(stop)
        due = deque(run[np.argsort(self.turn[run], kind="stable")].tolist())
        waiting = set(run.tolist())
        pictures: dict[int, P | None] = {}
        held: deque[int] = deque()
        undecided = deque(run.tolist())

        def settle(packet: int) -> None:
            if packet in waiting:
                waiting.remove(packet)
                self._break(packet)
            held.append(packet)

        def released() -> Iterator[Decoded[P]]:
            # A frame's fate is known once all that was decoded before it, and the packet after it,
            # has come out or is lost.
            while undecided and undecided[0] not in waiting:
                undecided.popleft()
            while held and not (undecided and undecided[0] <= held[0] + 1):
                packet = held.popleft()
                picture = pictures.pop(packet, None)
                number = int(self.number[packet])
                if not self.first <= number < self.end:
                    continue
                if not self.there[packet]:
                    yield Decoded(number, Reason.MISSING_FRAME, None)
                elif self._is_damaged(packet):
                    yield Decoded(number, Reason.DAMAGED_FRAME, None)
                else:
                    yield Decoded(number, Reason.VALID, picture)

        for frame in self._frames(run):
            packet = frame.pts
            if packet is None or packet not in waiting:
                continue  # too late: given up already
            waiting.remove(packet)
            while self.turn[due[0]] < self.turn[packet] and due[0] <= self.last_fed:
                settle(due.popleft())
            if frame.is_corrupt:
                self._break(packet)
            number = int(self.number[packet])
            take = self.first <= number < self.end and wanted(number)
            if take and not self._is_damaged(packet):
                pictures[packet] = convert(number, frame)
            yield from released()
        while due:
            settle(due.popleft())
        yield from released()

    def could_land_earlier(self, earlier: int) -> bool:
        """Whether starting before what `earlier` led to may give the first frame."""
        there = bool(self.there[self.index.shown[self.first]])
        return there and self.start > 0 and earlier != LANDINGS[-1]

    def _fed(self, stop: int) -> NDArray[np.int64]:
        # One packet more than asked for, because trouble in it throws doubt on the one before.
        run = np.arange(self.start, min(stop + 1, len(self.turn)))
        # Entering at an open group's key, the frames shown before it lean on the group before:
        # nobody asked for them and they cannot be decoded.
        return run[~self._cut_off(run)] if self.start else run

    def _frames(self, run: NDArray[np.int64]) -> Iterator[VideoFrame]:
        index = self.index
        there = run[self.there[run]]
        batches = plan_reads(index.position[there], index.size[there])
        spans = [
            (
                int(index.position[there[a]]),
                int(index.position[there[b - 1]] + index.size[there[b - 1]]),
            )
            for a, b in batches
        ]
        given_up = False
        beside = index.in_force(self.start)
        for (a, b), (origin, _), data in zip(
            batches, spans, self.source.read_ahead(spans), strict=True
        ):
            for number in there[a:b].tolist():
                at = int(index.position[number]) - origin
                # `Packet(data)` would lend the decoder our bytes without the zeros that libav
                # reads past a packet's end, and what stands there changes the picture.
                packet: Packet[Any] = Packet(int(index.size[number]))
                packet.update(data[at : at + int(index.size[number])])
                packet.pts, packet.time_base = number, index.time_base
                self.last_fed = number
                beside.update({data.data_type: data for data in index.beside.get(number, ())})
                if index.key[number]:
                    given_up = False
                if given_up:
                    continue
                for data_beside in beside.values():
                    data_beside.to_packet(packet)
                beside.clear()
                failed = yield from self._decoded(packet)
                if failed and not self.leading[number]:
                    # The rest of the group leans on this. A decoder that goes on forgets good
                    # frames that it holds back, and takes its confusion into the next group.
                    yield from self._decoded(None)
                    self.codec.flush_buffers()
                    given_up = True
        yield from self._decoded(None)

    def _decoded(self, packet: Packet[Any] | None) -> Generator[VideoFrame, None, bool]:
        """The frames that come out now; returns whether the packet was refused."""
        try:
            frames = self.codec.decode(packet)
        except (av.FFmpegError, EOFError):
            self.counters.add(decode_errors=1)
            return True
        self.counters.add(frames_decoded=len(frames))
        yield from frames
        return False

    def _break(self, packet: int) -> None:
        # Damage begins somewhere in a packet, and a decoder that met it near the packet's end may
        # have noticed nothing: the packet before is not to be trusted either. But a packet that is
        # not in the object, or that leans on a broken group, says nothing of the one before.
        innocent = not self.there[packet] or packet == self.start or self._leans_on_broken(packet)
        for number in (packet,) if innocent else (packet - 1, packet):
            group = int(self.group[number])
            broken = self.broken_leading if self.leading[number] else self.broken
            broken[group] = min(number, broken.get(group, number))

    def _cut_off(self, packet: Any) -> Any:
        return (self.group[packet] == self.start) & self.leading[packet]

    def _leans_on_broken(self, packet: int) -> bool:
        # Frames shown before their group's key lean on the group before, too.
        if not self.leading[packet]:
            return False
        group = int(self.group[packet])
        return group == self.start or int(self.group[group - 1]) in self.broken

    def _is_damaged(self, packet: int) -> bool:
        group = int(self.group[packet])
        if self.broken.get(group, packet + 1) <= packet:
            return True
        if not self.leading[packet]:
            return False
        before = int(self.group[group - 1]) if group else group
        return self.broken_leading.get(group, packet + 1) <= packet or (
            before != group and before in self.broken
        )


def plan_reads(position: Sequence[int] | NDArray[np.int64], size: Any) -> list[tuple[int, int]]:
    """Packets `[a, b)` to fetch by one request each, in decode order.

    Neighbours at most `GAP` bytes apart go together, up to a read size that doubles from
    `FIRST_READ` to `FULL_READ`, so that the first frame comes soon and the rest at full speed.
    """
    reads: list[tuple[int, int]] = []
    limit = FIRST_READ
    a = 0
    for b in range(1, len(position) + 1):
        if b < len(position):
            end = int(position[b - 1]) + int(size[b - 1])
            near = end <= int(position[b]) <= end + GAP
            if near and int(position[b]) + int(size[b]) - int(position[a]) <= limit:
                continue
        reads.append((a, b))
        a, limit = b, min(2 * limit, FULL_READ)
    return reads
