"""The plain reader: libav's demuxer and decoder from the beginning, frames as they come out.

For streams whose index does not say which packet is which frame. The whole stream is decoded once
to learn what it shows, and again up to the frames that are asked for; so it is right, and slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from takestream.schema import Reason
from workers.media.bitstream import Look
from workers.media.container import UnreadableVideo, open_container, select
from workers.media.index import Index
from workers.media.landing import GRADUAL, look_at
from workers.media.places import FEW, Arranged, believable, by_decoder, rhythm
from workers.media.session import Decoded
from workers.media.source import Source

# A demuxer that reports an error may go on behind it.
FAULTS = 100
# Of packets with pictures in a stream of field pairs, half give no frame; of others, fewer.
FEW_LOST = 0.4

P = TypeVar("P")


@dataclass(frozen=True, eq=False)
class Showing:
    """What a stream shows when it is decoded from its beginning.

    Attributes:
        packet: int64 [frames], the packet that each frame comes from; -1 for a frame that is
            missing.
        reason: uint8 [frames], `Reason`.
        seconds: float64 [frames] from the first frame on, NaN where missing.
        rate: frames per second by the usual step from frame to frame.
    """

    packet: NDArray[np.int64]
    reason: NDArray[np.uint8]
    seconds: NDArray[np.float64]
    rate: Fraction


@dataclass
class _Log:
    """What happened while a stream was decoded, by packet."""

    pts: list[int] = field(default_factory=list)
    dts: list[int] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    shown: list[int] = field(default_factory=list)


def survey(source: Source, index: Index) -> Showing:
    """Decode the whole stream and see what it shows.

    Raises:
        UnreadableVideo: it shows nothing.
        StorageError: bytes cannot be read.
    """
    log = _Log()
    # What a decoder of strict ways refuses is damaged; what an ordinary one then shows in its
    # place keeps the order.
    for _ in _frames(source, index, log, strict=True):
        pass
    refused = log.refused
    log = _Log()
    for packet, frame in _frames(source, index, log, strict=False):
        log.shown.append(packet)
        if frame.is_corrupt:
            refused.add(packet)
    refused |= log.refused
    # A packet without a picture is refused, rightly; one whose parts make no sense may hold one.
    lost = {n for n, look in enumerate(log.looks) if look.whole is False} - set(log.shown)
    refused = {n for n in refused | lost if log.looks[n].picture or not log.looks[n].whole}
    if not log.shown:
        raise UnreadableVideo("none of its frames can be decoded")
    damaged = _damaged(log, refused)
    return _arranged(index, log, damaged, _lost(log, refused))


@dataclass(frozen=True)
class PlainReader:
    """A video stream, decoded from its beginning.

    Attributes:
        source: where the bytes are.
        index: what the container says of the stream.
        showing: what it shows.
    """

    source: Source
    index: Index
    showing: Showing

    @property
    def samples(self) -> int:
        """How many frames a player would show."""
        return len(self.showing.packet)

    def times(self) -> NDArray[np.float64]:
        """Each frame's PTS; float64 [samples] seconds from the first frame, NaN where missing."""
        return self.showing.seconds

    def read(
        self,
        first: int,
        last: int,
        wanted: Callable[[int], bool],
        convert: Callable[[int, VideoFrame], P],
    ) -> Iterator[Decoded[P]]:
        """As `Reader.read` says."""
        end = min(last, self.samples)
        good = self.showing.reason == Reason.VALID
        number = {int(self.showing.packet[n]): n for n in range(first, end) if good[n]}
        for packet, frame in _frames(self.source, self.index, _Log(), strict=False):
            if first >= end or not number:
                break
            at = number.pop(packet, None)
            if at is None:
                continue
            picture = convert(at, frame) if wanted(at) else None
            yield from self._without(first, at)
            yield Decoded(at, Reason.VALID, picture)
            first = at + 1
        yield from self._without(first, end)
        for at in range(max(first, end), last):
            yield Decoded(at, Reason.PAST_END, None)

    def _without(self, first: int, last: int) -> Iterator[Decoded[P]]:
        for at in range(first, last):
            reason = Reason(int(self.showing.reason[at]))
            yield Decoded(at, reason or Reason.DAMAGED_FRAME, None)


def _frames(
    source: Source, index: Index, log: _Log, *, strict: bool
) -> Iterator[tuple[int, VideoFrame]]:
    """Every frame as it comes out, and the number of the packet that it came from."""
    with open_container(index.head.again(source)) as container:
        stream = select(container, index.track)
        codec = stream.codec_context
        codec.thread_count = 1
        if strict:
            codec.options = {"err_detect": "explode"}
        counters = source.counters
        for packet in _packets(container, stream):
            number = len(log.pts)
            log.pts.append(packet.pts if packet.pts is not None else packet.dts or 0)
            log.dts.append(packet.dts if packet.dts is not None else log.pts[-1])
            log.keys.append(packet.is_keyframe)
            log.hidden.append(packet.is_discard)
            log.looks.append(look_at(index, number, bytes(packet), packet.is_keyframe))
            packet.pts = number
            if strict and not index.possible(bytes(packet)):
                log.refused.add(number)
                continue
            try:
                frames = codec.decode(packet)
            except (av.FFmpegError, EOFError):
                log.refused.add(number)
                continue
            counters.add(frames_decoded=len(frames))
            yield from ((frame.pts, frame) for frame in frames if frame.pts is not None)
        try:
            frames = codec.decode(None)
        except (av.FFmpegError, EOFError):
            return
        counters.add(frames_decoded=len(frames))
        yield from ((frame.pts, frame) for frame in frames if frame.pts is not None)


def _packets(container: Any, stream: Any) -> Iterator[Packet[Any]]:
    for _ in range(FAULTS):
        try:
            for packet in container.demux(stream):
                if packet.size:
                    yield packet
            return
        except EOFError:
            return
        except av.FFmpegError:
            continue


def _damaged(log: _Log, refused: set[int]) -> NDArray[np.bool_]:
    """Which packets' frames damage reaches: from each refused packet to the next entry."""
    count = len(log.pts)
    numbers = np.arange(count)
    entry = np.array([k and look.entry for k, look in zip(log.keys, log.looks, strict=True)])
    gradual = entry & np.array([look.gradual for look in log.looks])
    group = np.maximum.accumulate(np.where(entry, numbers, 0))
    rank = np.full(count, -1, dtype=np.int64)
    rank[log.shown] = np.arange(len(log.shown))
    leading = (rank >= 0) & (rank < rank[group])
    damaged: NDArray[np.bool_] = np.zeros(count, dtype=bool)
    for number in sorted(refused):
        look = log.looks[number]
        alone = bool(look.whole) and not look.leaned_on and not entry[number]
        begin = number if look.begins or entry[number] else max(number - 1, 0)
        stop = number + 1
        if not alone and not leading[number]:
            groups = 0
            while stop < count and (not entry[stop] or leading[stop] or gradual[stop]):
                groups += bool(gradual[stop])
                if groups >= GRADUAL:
                    break
                stop += 1
            behind = stop + 1
            while behind < count and leading[behind]:
                damaged[behind] = True
                behind += 1
        damaged[begin:stop] = True
    return damaged


def _lost(log: _Log, refused: set[int]) -> NDArray[np.int64]:
    """The packets whose frames should have been shown and were not; int64, in decode order."""
    first = min(log.shown)
    shown = set(log.shown)
    # Before its first key a decoder skips packets without a word.
    skipped = {n for n in range(first) if log.looks[n].picture and log.looks[n].whole is not False}
    everything = range(len(log.looks))
    pictures = {n for n in everything if log.looks[n].picture}
    # Where packets are frames, each of them should have been one.
    if len(pictures) > (1 - FEW) * len(everything):
        pictures = set(everything)
    if len(pictures - shown) < FEW_LOST * len(pictures):
        skipped |= pictures
    return np.array(
        sorted(n for n in (refused | skipped) - shown if not log.hidden[n]), dtype=np.int64
    )


def _arranged(
    index: Index, log: _Log, damaged: NDArray[np.bool_], lost: NDArray[np.int64]
) -> Showing:
    shown = np.array(log.shown, dtype=np.int64)
    pts, dts = np.array(log.pts, dtype=np.int64), np.array(log.dts, dtype=np.int64)
    beat = rhythm(pts[shown])
    if beat is not None and beat.steady:
        stand = by_decoder(pts[shown], believable(pts[shown], dts[shown], beat.step), beat.step)
        ahead = _ahead(pts, dts, shown, lost, beat.step)
        place = np.where(stand.place >= 0, stand.place + ahead, -1)
        stand = Arranged(place, stand.ticks + ahead * beat.step)
    else:
        # No step tells where a lost frame was: its PTS does.
        ticks, gone = np.sort(pts[shown]), np.sort(pts[lost])
        place = np.arange(len(shown)) + np.searchsorted(gone, ticks)
        first = min(ticks[0], gone[0]) if len(gone) else ticks[0]
        stand = Arranged(place, (ticks - first).astype(np.float64))
    known = stand.place >= 0
    samples = int(stand.place.max()) + 1
    packet = np.full(samples, -1, dtype=np.int64)
    reason = np.full(samples, Reason.MISSING_FRAME, dtype=np.uint8)
    seconds = np.full(samples, np.nan)
    place = stand.place[known]
    packet[place] = shown[known]
    seconds[place] = stand.ticks[known] * float(index.time_base)
    reason[place] = np.where(damaged[shown[known]], Reason.DAMAGED_FRAME, Reason.VALID)
    rate = beat.rate(index.time_base, index.rate) if beat else index.rate
    return Showing(packet, reason, seconds, rate)


def _ahead(
    pts: NDArray[np.int64],
    dts: NDArray[np.int64],
    shown: NDArray[np.int64],
    lost: NDArray[np.int64],
    step: float,
) -> int:
    """How many frames the stream has lost before the first that it shows."""
    numbers = np.concatenate([shown, lost])
    sound = believable(pts[numbers], dts[numbers], step)
    first = pts[shown][sound[: len(shown)]].min(initial=np.iinfo(np.int64).max)
    earlier = pts[lost][sound[len(shown) :]]
    earlier = earlier[earlier < first]
    return round((int(first) - int(earlier.min())) / step) if len(earlier) else 0
