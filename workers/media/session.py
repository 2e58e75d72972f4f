"""One run of a decoder over consecutive packets, and the fate of each frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from takestream.schema import Reason
from workers.media.bitstream import Look
from workers.media.decoder import Decoder, Piece
from workers.media.frame_num import FrameNumbers
from workers.media.index import Index
from workers.media.landing import GRADUAL, FalseLanding, look_at, sets_before
from workers.media.reads import plan_reads
from workers.media.source import Source

P = TypeVar("P")


class Unproven(Exception):
    """The stream is not what its index says: packets are no frames, or come in another order."""


@dataclass(frozen=True)
class Decoded(Generic[P]):
    """One frame: its number in presentation order, what was made of it, and whether it is good.

    Attributes:
        frame: its number.
        reason: VALID, or why there is no picture.
        picture: what `convert` returned; None when the frame is not good or was not wanted.
    """

    frame: int
    reason: Reason
    picture: P | None


class Session:
    """One run of a decoder over consecutive packets.

    The decoder is given each packet's number for its PTS, so a frame that comes out says itself
    which packet it is, however odd the container's own times are.
    """

    def __init__(
        self,
        source: Source,
        index: Index,
        decoder: Decoder,
        first: int,
        end: int,
        start: int,
    ) -> None:
        self.source, self.index, self.decoder = source, index, decoder
        self.first, self.end, self.start = first, end, start
        numbers = np.arange(len(index.pts))
        self.number = np.full(len(numbers), -1, dtype=np.int64)
        filled = np.flatnonzero(index.shown >= 0)
        self.number[index.shown[filled]] = filled
        self.there = index.there
        self.key = index.entries()
        self.group = np.maximum.accumulate(np.where(self.key, numbers, 0))
        self.turn = index.turn
        self.leading = index.turn < index.turn[self.group]
        # Per group of pictures, the first packet in decode order at which something went wrong;
        # apart for the frames shown before the group's key, on which the rest does not lean.
        self.broken: dict[int, int] = {}
        self.broken_leading: dict[int, int] = {}
        # Groups with which a decoder began in mid-stream: it may not show them, whole as they are.
        self.cold: set[int] = set()
        # Packets that broke and that nothing leans on.
        self.alone: set[int] = set()
        self.looks: dict[int, Look] = {}
        # Packets with whose first byte the damage begins.
        self.begin_bad: set[int] = set()
        self.landing = start
        self.stop = len(numbers)
        self.last_fed = start - 1
        self.came_out = False
        # Where the index is known to be damaged, that is why a packet gives no frame.
        filled = index.shown[index.shown >= 0]
        self.explained = len(filled) < index.frames or not bool(index.there[filled].all())

    def run(
        self, stop: int, wanted: Callable[[int], bool], convert: Callable[[int, VideoFrame], P]
    ) -> Iterator[Decoded[P]]:
        """The frames asked for, in order; packets up to `stop` and one more are decoded.

        Raises:
            Unproven: the stream is not what its index says; frames given before are right.
            FalseLanding: decoding cannot begin at the first packet.
            ColdLanding: the decoder refuses a packet that it may take when it begins earlier.
            StorageError: bytes cannot be read.
        """
        self.stop = stop
        run = self._fed(stop)
        due = deque(run[np.argsort(self.turn[run], kind="stable")].tolist())
        waiting = set(run.tolist())
        came: set[int] = set()
        pictures: dict[int, P | None] = {}
        held: deque[int] = deque()
        undecided = deque(run.tolist())
        empty = deque(np.flatnonzero(self.index.shown[self.first : self.end] < 0) + self.first)

        def settle(packet: int) -> None:
            if packet in waiting:
                waiting.remove(packet)
                self._lose(packet)
            held.append(packet)

        def gaps(upto: int) -> Iterator[Decoded[P]]:
            while empty and empty[0] < upto:
                yield Decoded(int(empty.popleft()), Reason.MISSING_FRAME, None)

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
                yield from gaps(number)
                if not self.there[packet]:
                    yield Decoded(number, Reason.MISSING_FRAME, None)
                elif self._is_damaged(packet):
                    yield Decoded(number, Reason.DAMAGED_FRAME, None)
                else:
                    yield Decoded(number, Reason.VALID, picture)

        for frame in self._frames(run):
            packet = frame.pts
            if packet in came:
                continue  # a decoder that took over, or went back, gives it again
            if packet is None or packet not in waiting:
                if not self.explained and not self.decoder.refused:
                    raise Unproven("its frames come in another order than its PTS say")
                continue  # too late: given up already
            waiting.remove(packet)
            came.add(packet)
            while self.turn[due[0]] < self.turn[packet] and due[0] <= self.last_fed:
                settle(due.popleft())
            self.came_out = True
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
        yield from gaps(self.end)

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
        numbers = self._numbers()
        beside = index.in_force(self.start)
        for (a, b), (origin, _), data in zip(
            batches, spans, index.head.read_ahead(self.source, spans), strict=True
        ):
            for number in there[a:b].tolist():
                at = int(index.position[number]) - origin
                content = data[at : at + int(index.size[number])]
                self.last_fed = number
                beside.update({d.data_type: d for d in index.beside.get(number, ())})
                if self._is_entry(number, content) or (
                    given_up and self._is_unlisted_entry(number, content)
                ):
                    if given_up:
                        self.landing, self.came_out = number, False
                    given_up = False
                    yield from self.decoder.begin_group(not number or number in index.clean)
                elif number == self.start and number:
                    raise FalseLanding(number)
                if numbers and numbers.gap_before(content):
                    self._lean_on_nothing(number)
                    # A decoder that goes on may forget good pictures that it still holds, depending
                    # on how many more it is given: on the size of the unit.
                    if not given_up and self._rest_leans(number):
                        self.looks[number] = look_at(index, number, content)
                        yield from self.decoder.give_up()
                        given_up = True
                if given_up:
                    continue
                if number == self.start and number:
                    content = sets_before(self.source, index, number) + content
                yield from self.decoder.take(Piece(number, content, tuple(beside.values())))
                beside.clear()
                if not self.decoder.refused:
                    continue
                self.explained = True
                self.cold.discard(int(self.group[number]))
                self.looks[number] = look_at(index, number, content)
                # Zeros that began in the packet before would be at its end.
                before = self.decoder.content(number - 1)
                if before and before[-1] and not any(content[:8]):
                    self.begin_bad.add(number)
                yield from self.decoder.go_back()
                # With intra refresh pictures mend themselves, if the decoder goes on.
                if self._leaned_on(number) and int(self.group[number]) not in index.gradual:
                    # The rest of the group leans on this, and a decoder that goes on takes its
                    # confusion to the next group.
                    yield from self.decoder.give_up()
                    given_up = True
        yield from self.decoder.finish()

    def _numbers(self) -> FrameNumbers | None:
        """Numbers of H.264's pictures, to be looked at where frames are missing."""
        index = self.index
        if index.codec != "h264" or not index.prefix or bool((index.shown >= 0).all()):
            return None
        return FrameNumbers(index.extradata, index.prefix)

    def _lean_on_nothing(self, number: int) -> None:
        """From `number` on the group leans on a picture that no packet has."""
        self.explained = True
        group = int(self.group[number])
        if not self.leading[number]:
            self.broken[group] = min(number, self.broken.get(group, number))
        else:
            self.broken_leading[group] = min(number, self.broken_leading.get(group, number))

    def _rest_leans(self, number: int) -> bool:
        """Whether all that comes up to the next key leans on what comes before `number`."""
        gradual = int(self.group[number]) in self.index.gradual
        return not (self.key[number] or self.leading[number] or gradual)

    def _is_entry(self, number: int, content: bytes) -> bool:
        if not self.key[number]:
            return False
        if number in self.index.proven:
            return True
        look = look_at(self.index, number, content)
        if self.index.learn(number, look):
            return True
        if number:
            # A key in name only: its group is part of the one before.
            self.key[number] = False
            self._regroup(number, int(self.group[number - 1]))
        return False

    def _is_unlisted_entry(self, number: int, content: bytes) -> bool:
        """Whether decoding can begin at a packet that the container does not call a key."""
        look = look_at(self.index, number, content)
        if self.key[number] or self.index.codec == "mpeg4" or not (look.certain and look.clean):
            return False
        self.key[number] = True
        self._regroup(number, number)
        self.index.clean.add(number)
        return True

    def _regroup(self, number: int, group: int) -> None:
        """Packets from `number` up to the next key are of the group that begins at `group`."""
        stop = number + 1
        while stop < len(self.group) and not self.key[stop]:
            stop += 1
        self.group[number:stop] = group
        self.leading[number:stop] = self.turn[number:stop] < self.turn[group]

    def _lose(self, packet: int) -> None:
        if not self.there[packet]:
            self.explained = True
        elif (
            not self.explained
            and (self.came_out or not self.start)
            and packet
            < self.stop  # behind the last one asked for, what would explain it is not fed
            and self._is_sound(packet)
        ):
            raise Unproven("a packet gave no frame, and no error says why")
        group = int(self.group[packet])
        if group >= self.landing > 0 and not self.came_out and not self.decoder.refused:
            self.cold.add(group)
        self._break(packet)

    def _is_sound(self, packet: int) -> bool:
        content = self.decoder.content(packet)
        if content is None:
            return False
        self.looks[packet] = look_at(self.index, packet, content)
        return self.looks[packet].whole is not False

    def _leaned_on(self, packet: int) -> bool:
        if self.leading[packet]:
            return False
        look = self.looks.get(packet)
        if look is None or not look.whole or look.leaned_on or self.key[packet]:
            return True
        # Only a frame that is shown before one decoded earlier can be one that none leans on.
        group = int(self.group[packet])
        return not bool((self.turn[group:packet] > self.turn[packet]).any())

    def _break(self, packet: int) -> None:
        self.explained = True
        content = self.decoder.content(packet)
        if packet not in self.looks and content is not None:
            self.looks[packet] = look_at(self.index, packet, content)
        look = self.looks.get(packet)
        if not self._leaned_on(packet) and not self.leading[packet]:
            self.alone.add(packet)
            return
        # Damage begins somewhere in a packet, and a decoder that met it near the packet's end may
        # have noticed nothing: the packet before is not to be trusted either. But a packet that is
        # not in the object, one whose beginning is sound, or one that leans on a broken group says
        # nothing of the one before.
        innocent = (
            not self.there[packet]
            or packet == self.start
            or (look is not None and look.begins)
            or packet in self.begin_bad
            or self._leans_on_broken(packet)
        )
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

    def _still_gets_right(self, group: int) -> bool:
        """Whether a group that begins with no whole picture follows a broken one closely."""
        for step in range(GRADUAL - 1):
            if not group or group not in self.index.gradual:
                return False
            group = int(self.group[group - 1])
            if group in self.broken and group not in self.cold:
                # A decoder that gave the group up needs one more.
                return step == 0 or group not in self.index.gradual
        return False

    def _is_damaged(self, packet: int) -> bool:
        group = int(self.group[packet])
        if packet in self.alone or self.broken.get(group, packet + 1) <= packet:
            return True
        if self._still_gets_right(group):
            return True
        if not self.leading[packet]:
            return False
        before = int(self.group[group - 1]) if group else group
        return self.broken_leading.get(group, packet + 1) <= packet or (
            before != group and before in self.broken
        )
