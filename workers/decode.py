"""Exact frame ranges of one stream: every frame decoded once, damage found and named.

Packets are cut out of ranged reads by the index and go straight to the decoder; no demuxer reads
in the loop. A frame counts as good when its own packet and all that it can depend on came through:
from a lost or corrupt frame on, everything decoded up to the next key packet is damaged, and so
are the frames of the next group that are shown before its key (they lean on both groups). Compared
frame by frame with undamaged decoding, this names every changed frame that libav noticed anything
of, where libav's own flag names one in ten.

Colour: pictures become rgb24 by PyAV's plain `to_ndarray(format="rgb24")`. Tags (BT.601 or 709,
limited or full range) are honoured and untagged video counts as BT.601 limited, at any size. That
is what PyAV and torchvision scripts, the official extraction among them, see. Display rotation is
applied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from takestream.schema import Reason
from workers.index import Index
from workers.source import Counters, Source

# Spans closer than this are fetched together: audio lies between the video packets.
GAP = 64 * 1024
FIRST_READ = 512 * 1024
FULL_READ = 4 * 1024 * 1024

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
    """The picture as uint8 [H, W, 3], turned as its display matrix says."""
    array = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def decode(
    source: Source,
    index: Index,
    first: int,
    last: int,
    wanted: Callable[[int], bool],
    convert: Callable[[VideoFrame], P],
    *,
    threads: int = 1,
    open_decoder: Callable[[Index, int], tuple[Any, VideoCodecContext]] | None = None,
) -> Iterator[Decoded[P]]:
    """Frames `[first, last)` of a stream in presentation order, each exactly once.

    `convert` runs at once on each good frame for which `wanted(frame)` holds. Frames past the end
    of the stream come as PAST_END, frames that cannot be had as MISSING_FRAME, frames that damage
    reaches as DAMAGED_FRAME. Memory: a few frames and `IN_FLIGHT` reads.
    Raises SourceError when bytes cannot be read.
    """
    end = min(last, index.frames)
    if first < end:
        start, stop = index.packets(first, end)
        container, codec = (open_decoder or open_cpu_decoder)(index, threads)
        try:
            yield from _Session(source, index, codec, first, end, start).run(stop, wanted, convert)
        finally:
            container.close()
    for number in range(max(first, end), last):
        yield Decoded(number, Reason.PAST_END, None)


def open_cpu_decoder(index: Index, threads: int) -> tuple[Any, VideoCodecContext]:
    """A fresh software decoder for the stream; with several threads libav chooses how."""
    container = index.open()
    codec = container.streams.video[0].codec_context
    codec.thread_count = threads
    codec.thread_type = "AUTO" if threads != 1 else "SLICE"
    return container, codec


class _Session:
    """One run of a decoder over consecutive packets."""

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
        packets = len(index.pts)
        self.number = np.full(packets, -1, dtype=np.int64)
        self.number[index.shown] = np.arange(index.frames)
        self.group = np.maximum.accumulate(np.where(index.key, np.arange(packets), 0))
        self.leading = index.pts < index.pts[self.group]
        order = np.concatenate([np.flatnonzero(self.number < 0), index.shown[::-1]])
        self.packet_of = {int(index.pts[p]): int(p) for p in order}
        # Packets of the run in presentation order: the frames that should come out, in turn.
        self.due: deque[int] = deque()
        # Per group of pictures, the first packet in decode order at which something went wrong;
        # apart for the frames shown before the group's key, on which the rest does not lean.
        self.broken: dict[int, int] = {}
        self.broken_leading: dict[int, int] = {}

    def run(
        self, stop: int, wanted: Callable[[int], bool], convert: Callable[[VideoFrame], P]
    ) -> Iterator[Decoded[P]]:
        index = self.index
        run = self._fed(stop)
        self.due = deque(run[np.argsort(index.pts[run], kind="stable")].tolist())
        # A frame's fate is known once all that was decoded before it has come out or is lost.
        settled = dict(
            zip(run.tolist(), np.maximum.accumulate(index.pts[run]).tolist(), strict=True)
        )
        held: deque[tuple[int, P | None, bool]] = deque()

        def released(upto: float) -> Iterator[Decoded[P]]:
            while held and settled[held[0][0]] <= upto:
                packet, picture, came = held.popleft()
                number = int(self.number[packet])
                if not self.first <= number < self.end:
                    continue
                if not came:
                    yield Decoded(number, Reason.MISSING_FRAME, None)
                elif self._is_damaged(packet):
                    yield Decoded(number, Reason.DAMAGED_FRAME, None)
                else:
                    yield Decoded(number, Reason.VALID, picture)

        def lose(packet: int) -> None:
            self._break(packet)
            held.append((packet, None, False))

        for frame in self._frames(run):
            packet = self.packet_of.get(frame.pts, -1) if frame.pts is not None else -1
            if packet < 0 or not self.due or index.pts[packet] < index.pts[self.due[0]]:
                continue  # hidden by an edit list, or too late: given up already
            while self.due and self.due[0] != packet:
                lose(self.due.popleft())
            if not self.due:
                break
            self.due.popleft()
            if frame.is_corrupt:
                self._break(packet)
            number = int(self.number[packet])
            take = self.first <= number < self.end and wanted(number)
            picture = convert(frame) if take and not self._is_damaged(packet) else None
            held.append((packet, picture, True))
            yield from released(float(index.pts[packet]))
        while self.due:
            lose(self.due.popleft())
        yield from released(float("inf"))

    def _fed(self, stop: int) -> NDArray[np.int64]:
        # Entering at an open group's key, the frames shown before it lean on the group before:
        # nobody asked for them and they cannot be decoded.
        run = np.arange(self.start, stop)
        leading = (self.group[run] == self.start) & self.leading[run]
        return run[~leading] if self.start else run

    def _frames(self, run: NDArray[np.int64]) -> Iterator[VideoFrame]:
        index = self.index
        there = run[index.position[run] + index.size[run] <= index.identity.size]
        batches = plan_reads(index.position[there], index.size[there])
        spans = [
            (
                int(index.position[there[a]]),
                int(index.position[there[b - 1]] + index.size[there[b - 1]]),
            )
            for a, b in batches
        ]
        for (a, b), (origin, _), data in zip(
            batches, spans, self.source.read_ahead(spans), strict=True
        ):
            view = memoryview(data)
            for number in there[a:b].tolist():
                at = int(index.position[number]) - origin
                # `Packet(data)` would lend the decoder our bytes without the zeros that libav
                # reads past a packet's end, and what stands there changes the picture.
                packet: Packet[Any] = Packet(int(index.size[number]))
                packet.update(view[at : at + int(index.size[number])])
                packet.pts, packet.dts = int(index.pts[number]), int(index.dts[number])
                packet.time_base = index.time_base
                yield from self._decoded(packet)
        yield from self._decoded(None)

    def _decoded(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames = self.codec.decode(packet)
        except (av.FFmpegError, EOFError):
            # Which frame is lost shows by its PTS not coming out.
            self.counters.add(decode_errors=1)
            return []
        self.counters.add(frames_decoded=len(frames))
        return frames

    def _break(self, packet: int) -> None:
        group = int(self.group[packet])
        broken = self.broken_leading if self.leading[packet] else self.broken
        broken[group] = min(packet, broken.get(group, packet))

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
