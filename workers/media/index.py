"""The index of one video object: which packets there are, and which frame each of them shows.

libav reads the container's own index (the moov box) by range. The packets are then listed by
demuxing with every media byte replaced by a zero, so no media is fetched and no container format
is parsed here: PTS, edit lists and B-frame reordering are libav's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.index import IndexEntry
from av.packet import PacketSideData
from av.video.stream import VideoStream
from numpy.typing import NDArray

from workers.media.bitstream import Look, length_prefix, possible
from workers.media.container import (
    UnreadableVideo,
    named_track,
    open_container,
    select,
    watched_track,
)
from workers.media.places import REORDER, Rhythm, believable, by_time, rhythm
from workers.media.source import ObjectIdentity, Source
from workers.media.spans import ABSURD, consistent
from workers.media.sparse import SparseFile

# What travels beside a packet and changes how it and those after it are decoded.
BESIDE = ("new_extradata", "palette", "param_change")
# Rate of a stream that has one frame and does not say.
USUAL_RATE = Fraction(30)


@dataclass(frozen=True, eq=False)
class Index:
    """Packets of one video stream in decode order, and its frames in presentation order.

    Attributes:
        pts, dts: int64 [packets] in `time_base`.
        position, size: int64 [packets] in bytes.
        there: bool [packets], whether the packet's bytes can be read.
        key: bool [packets], whether the container says that decoding can begin there.
        turn: int64 [packets], which comes out of a decoder when: by PTS, edit by edit; equal PTS
            share a turn.
        shown: int64 [frames], the packet of each frame that a player would show; -1 for a frame
            that is missing: its PTS has no packet.
        rate: frames per second by the usual step from frame to frame.
        head: the bytes that libav read to open the file, so that it can be opened again for free.
        track: number of the stream among all streams of the container.
        beside: what travels beside a packet, by the packet's number: another sample description's
            parameter sets, a palette. It holds until something else of its kind comes.
        prefix: bytes of the length before each part of a packet, for H.264 and HEVC.
        extradata: what the container says of the codec: parameter sets.
        late: seconds of the container's timeline that pass before the first frame.
        doubt: why packets and PTS cannot tell which frame is which, or nothing.
        proven, false: key packets that were looked at: decoding can begin there, or cannot.
        clean: those of them behind which nothing leans on what came before.
        gradual: those of them behind which pictures become right over the next groups only.
        sets: parameter sets carried by the key packets that were looked at.
    """

    identity: ObjectIdentity
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    position: NDArray[np.int64]
    size: NDArray[np.int64]
    there: NDArray[np.bool_]
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
    prefix: int | None
    extradata: bytes = b""
    late: float = 0.0
    doubt: str = ""
    proven: set[int] = field(default_factory=set)
    false: set[int] = field(default_factory=set)
    clean: set[int] = field(default_factory=set)
    gradual: set[int] = field(default_factory=set)
    sets: dict[int, tuple[bytes, ...]] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """How many frames a player would show, missing ones included."""
        return len(self.shown)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is odd about the stream by its index alone, in plain words."""
        shown = self.shown[self.shown >= 0]
        cut = self.position + self.size > self.identity.size
        beyond = int(cut[shown].sum())
        apart = int((~self.there & ~cut)[shown].sum())
        words = []
        if beyond:
            words.append(
                f"the object is cut short: the data of {beyond} of {self.frames} frames is not "
                "in it"
            )
        if apart:
            words.append(
                f"its index is damaged: it lists {apart} packets on top of others; their frames "
                "are missing"
            )
        if len(shown) < self.frames:
            words.append(missing_words(self.shown < 0))
        if self.late:
            words.append(f"its first frame is shown {self.late:.3f} s after the file's start")
        return tuple(words)

    def times(self) -> NDArray[np.float64]:
        """Each frame's PTS; float64 [frames] seconds from the first frame, NaN where missing."""
        pts = self.pts[self.shown]
        times = (pts - pts[:1]) * float(self.time_base)
        return np.where(self.shown >= 0, times, np.nan).astype(np.float64)

    def packets(self, first: int, last: int, earlier: int = 0) -> tuple[int, int]:
        """The packets `[start, stop)` whose decoding gives frames `[first, last)` exactly.

        Starts at the last key packet that is not shown after frame `first`. A frame that is shown
        before its key packet but decoded after it (open GOP) needs the key before, so it never
        starts there. `earlier` starts so many key packets before that.
        """
        wanted = self.shown[first:last]
        wanted = wanted[wanted >= 0]
        keys = np.flatnonzero(self.entries())
        usable = keys[(self.turn[keys] <= self.turn[wanted[0]]) & (keys <= wanted.min())]
        start = int(usable[-1 - earlier]) if len(usable) > earlier else 0
        return start, int(wanted.max()) + 1

    def entries(self) -> NDArray[np.bool_]:
        """Where decoding can begin, as far as is known; bool [packets], a copy."""
        entries = self.key.copy()
        entries[list(self.false)] = False
        return entries

    def lost_before(self) -> set[int]:
        """How many frames may be lost before the first one: what its times, read so or so, say."""
        if not self.late:
            return set()
        step = 1 / float(self.rate * self.time_base)
        first = self.pts[self.shown[self.shown >= 0][0]]
        return {round(float(ticks) / step) for ticks in (first, self.dts[0])} - {0}

    def learn(self, packet: int, look: Look) -> bool:
        """Keep what was seen of a key packet; whether decoding can begin there."""
        self.sets[packet] = look.sets
        # Where one packet is called a key and is not, pictures that lean on no other picture need
        # not be keys either.
        good = look.certain if self.false else look.entry
        (self.proven if good else self.false).add(packet)
        if good and look.clean:
            self.clean.add(packet)
        if good and look.gradual:
            self.gradual.add(packet)
        return good

    def open(self, hwaccel: HWAccel | None = None) -> tuple[InputContainer, VideoStream]:
        """The container again, from memory, and its stream; close it after use."""
        container = open_container(self.head.reopened(), hwaccel)
        return container, select(container, self.track)

    def possible(self, content: bytes) -> bool:
        """Whether a packet holds only what its codec lets it hold, as far as that is known."""
        if self.prefix is None or self._described_again:
            return True
        return possible(self.codec, content, self.prefix)

    @cached_property
    def _described_again(self) -> bool:
        # Another description may have prefixes of another length.
        kinds = {data.data_type for beside in self.beside.values() for data in beside}
        return "new_extradata" in kinds

    def in_force(self, packet: int) -> dict[str, PacketSideData]:
        """By kind, what came beside `packet` or before it and still holds."""
        found = {}
        for number in sorted(self.beside):
            if number <= packet:
                found.update({data.data_type: data for data in self.beside[number]})
        return found


def read_index(source: Source, track: int | None = None) -> Index:
    """The index of the video stream of `source` that one would watch, or of the track named.

    Costs one HEAD, unless `source` expects a version, and two to four GETs for an ordinary mp4; a
    fragmented one, whose index lies between the media, is read as a whole.

    Raises:
        UnreadableVideo: there is no video in it.
        StorageError: it cannot be read.
        SourceChanged: it is not the version that `source` expects.
    """
    identity = source.expected or source.identity()
    if identity.size == 0:
        raise UnreadableVideo("the object is empty (0 bytes)")
    head = SparseFile(source, identity.size)
    with open_container(head) as container:
        stream = watched_track(container) if track is None else named_track(container, track)
        track = select(container, stream.index).index
        entries = list(stream.index_entries)
        doubt = ""
        head.keep_no_more()
        # `mvex` in the moov says that fragments follow, with packets that the moov does not list.
        if stream.frames == 0 or head.holds(b"mvex"):
            packets, beside = _packets(container, track)
        elif max((entry.size for entry in entries), default=0) > ABSURD:
            packets, beside = _packets(container, track)
            doubt = "its index lists a packet of an impossible size"
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
        turn = np.unique(np.stack([_edits(key, hidden), pts]), axis=1, return_inverse=True)[1]
        order = np.argsort(turn, kind="stable")
        shown = order[~hidden[order]]
        beat = rhythm(pts[shown])
        step = beat.step if beat else 0.0
        edit = _edits(key, hidden)
        doubt = doubt or _doubt(pts, dts, turn, edit, hidden, shown, step)
        if beat and beat.steady and not doubt:
            shown = _spread(pts, shown, step)
        assert stream.time_base is not None
        said = stream.average_rate or stream.guessed_rate
        codec = stream.codec_context
        return Index(
            identity=identity,
            pts=pts,
            dts=dts,
            position=position,
            size=size,
            there=(position + size <= identity.size) & consistent(position, size, key),
            key=key,
            turn=turn,
            shown=shown,
            time_base=stream.time_base,
            rate=beat.rate(stream.time_base, said) if beat else said or USUAL_RATE,
            codec=codec.name,
            width=codec.width,
            height=codec.height,
            head=head,
            track=track,
            beside=beside,
            prefix=length_prefix(codec.name, codec.extradata),
            extradata=codec.extradata or b"",
            late=_late(pts[shown[shown >= 0]], dts, beat) * float(stream.time_base),
            doubt=doubt,
        )


def missing_words(missing: NDArray[np.bool_]) -> str:
    """How many frames are missing, and where the first and last of them would stand."""
    where = np.flatnonzero(missing)
    frames = f"{len(where)} of {len(missing)} frames are" if len(where) > 1 else "1 frame is"
    span = f"between frame {where[0]} and {where[-1]}" if len(where) > 1 else f"frame {where[0]}"
    return f"{frames} missing: no packet has their PTS ({span})"


def _spread(pts: NDArray[np.int64], shown: NDArray[np.int64], step: float) -> NDArray[np.int64]:
    places = by_time(pts[shown], step)
    spread = np.full(int(places[-1]) + 1, -1, dtype=np.int64)
    spread[places] = shown
    return spread


def _late(pts: NDArray[np.int64], dts: NDArray[np.int64], beat: Rhythm | None) -> float:
    # Without an edit list the first packet is decoded at 0, and shown when its turn comes.
    if beat is None or not dts[0]:
        return 0.0
    return float(pts[0]) if pts[0] > beat.step * (0.75 if beat.steady else 3) else 0.0


def _doubt(
    pts: NDArray[np.int64],
    dts: NDArray[np.int64],
    turn: NDArray[np.int64],
    edit: NDArray[np.int64],
    hidden: NDArray[np.bool_],
    shown: NDArray[np.int64],
    step: float,
) -> str:
    """Why PTS may not tell the frames' order, or nothing."""
    visible = np.flatnonzero(~hidden)
    if len(np.unique(turn[visible])) < len(visible):
        return "several of its packets have one PTS"
    # A sample without a picture has a PTS of its own, and no place of its own.
    if (np.diff(pts[shown]) < step / 2).any():
        return "its PTS stand closer together than its frames"
    if (np.diff(dts)[np.diff(edit) == 0] < 0).any():
        return "some of its packets are decoded before those that stand in front of them"
    rank = np.empty(len(pts), dtype=np.int64)
    rank[shown] = np.arange(len(shown))
    if (np.abs(rank[visible] - np.arange(len(visible))) > REORDER).any():
        return "its PTS lie far from where its packets stand"
    if step and not believable(pts[visible], dts[visible], step).all():
        return "the PTS of some packets lie far from their DTS"
    return ""


def _end(entries: Sequence[IndexEntry]) -> int:
    return max((entry.pos + entry.size for entry in entries), default=0)


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


def _edits(key: NDArray[np.bool_], hidden: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of the edit that each packet is of; int64 [packets]."""
    # Where an edit ends and the next begins, packets are hidden whose times lie among the other's.
    return np.cumsum(key & (hidden | np.roll(hidden, 1)))
