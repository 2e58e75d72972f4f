"""What plain PyAV shows of a file, and what it says of its damage."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from tests.fuzz.films import Picture

Errors = (av.FFmpegError, EOFError)


@dataclass
class Witness:
    """What a patient user of PyAV gets.

    Attributes:
        pictures: of the frames as they come out, uint8 [H, W, 3].
        pts: of those frames, as the container has it; None where it has none.
        packets: the packet that each of those frames comes from.
        keys: by packet, whether the demuxer calls it a key. contents: its bytes.
        times: its PTS.
        reported: packets in which a decoder of strict ways (`err_detect=explode`) finds an error,
            or whose frame any decoder flags as corrupt.
    """

    pictures: list[Picture] = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)
    packets: list[int] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    reported: set[int] = field(default_factory=set)

    def says(self, frame: int, whole: set[bytes]) -> bool:
        """Whether an error is reported where the frame may lean on it: since its key packet.

        Args:
            frame: which of those that came out.
            whole: the undamaged film's packets. After a broken group a strict decoder complains of
                such ones too, because they name pictures that it has not got.
        """
        packet = self.packets[frame]
        keys = [n for n in range(packet + 1) if self.keys[n]] or [0]
        before = set(range(keys[-2] if len(keys) > 1 else 0, keys[-1]))
        key = self.times[keys[-1]]
        # On a frame that is shown before its group's key the frames behind the key do not lean.
        leading = self.times[packet] < key
        found = {
            n
            for n in self.reported
            if keys[-1] <= n <= packet and (leading or self.times[n] >= key)
        }
        if before & self.reported:
            found = {n for n in found if self.contents[n] not in whole}
        return bool(found)

    def right(self, shown: list[Picture], pts: list[int]) -> set[int]:
        """Which of the undamaged film's frames are here as they should be, and in their place."""
        found = set()
        for rank, (picture, when) in enumerate(zip(self.pictures, self.pts, strict=True)):
            at = {rank} | ({pts.index(when)} if when in pts else set())
            found |= {n for n in at if n < len(shown) and np.array_equal(picture, shown[n])}
        return found


def testimony(data: bytes) -> Witness:
    """Demux and decode a file twice: as PyAV does by itself, and strictly."""
    witness = Witness()
    for number, frame in _run(data, witness, strict=False):
        witness.pictures.append(frame.to_ndarray(format="rgb24"))
        witness.pts.append(frame.opaque)
        witness.packets.append(number)
        if frame.is_corrupt:
            witness.reported.add(number)
    strict = Witness()
    for number, frame in _run(data, strict, strict=True):
        if frame.is_corrupt:
            strict.reported.add(number)
    witness.reported |= strict.reported
    return witness


def _run(data: bytes, witness: Witness, *, strict: bool) -> Iterator[tuple[int, Any]]:
    try:
        container: Any = av.open(io.BytesIO(data), metadata_errors="replace")
    except Errors:
        return
    with container:
        if not container.streams.video:
            return
        stream = container.streams.video[0]
        codec = getattr(stream, "codec_context", None)
        if codec is None:
            return
        codec.thread_count = 1
        codec.options = {"err_detect": "explode"} if strict else {}
        times: list[int | None] = []
        for packet in [*_packets(container, stream), None]:
            if packet is not None:
                times.append(packet.pts)
                witness.keys.append(packet.is_keyframe)
                witness.contents.append(bytes(packet))
                witness.times.append(times[-1] if times[-1] is not None else 0)
                packet.pts = len(times) - 1
            try:
                frames = codec.decode(packet)
            except Errors:
                witness.reported.add(len(times) - 1)
                continue
            for frame in frames:
                if frame.pts is not None and 0 <= frame.pts < len(times):
                    number = frame.pts
                    frame.opaque = times[number]
                    yield number, frame


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except Errors:
        return
