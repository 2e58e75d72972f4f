"""The sound of a video object: stretches of its audio track, placed on the clock of its frames.

Only the packets of the stretches that are asked for are read; they lie between those of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from numpy.typing import NDArray
from scipy import signal

from workers.media.container import UnreadableVideo, open_container
from workers.media.index import Index
from workers.media.source import Source

Samples = NDArray[np.float32]

# Bytes between two packets of sound that are read rather than jumped over, and of one read.
GAP = 256 * 1024
READ = 4 * 1024 * 1024
# No packet of sound is larger.
ABSURD = 4 * 1024 * 1024
# Seconds decoded before a stretch: a decoder's first packets lean on those before them.
RUN_UP = 0.15
# A mix so much quieter than its channels (1 % of their power) is of channels that cancel out.
CANCELLED = 0.01


@dataclass(frozen=True)
class Sound:
    """The audio track of a video object.

    Attributes:
        index: of the video beside it, and of the file that both are in.
        origin: seconds on the file's clock at which spans are counted from, as a rule where the
            first frame of the stream is shown.
        track: number of the audio track among all tracks of the file.
        rate: its samples per second.
        time_base: seconds per unit of `pts`.
        pts, position, size: int64 [packets] in `time_base` and bytes; empty where the container
            does not list its packets in one place (fragments).
    """

    index: Index
    origin: float
    track: int
    rate: int
    time_base: Fraction
    pts: NDArray[np.int64]
    position: NDArray[np.int64]
    size: NDArray[np.int64]

    def read(
        self, source: Source, spans: Sequence[tuple[float, float]], rate: int
    ) -> list[Samples]:
        """The sound of some stretches, mixed to one channel.

        Args:
            source: where the bytes are.
            spans: seconds `[start, stop)` from the stream's first frame on, ascending, apart.
            rate: samples per second of the result.

        Returns:
            For each span float32 [round((stop - start) * rate)], 0 where there is no sound.

        Raises:
            UnreadableVideo: The track cannot be opened.
            StorageError: Bytes cannot be read.
        """
        packets = self._listed(source, spans) if len(self.pts) else self._passed(source, spans)
        with open_container(self.index.head.reopened()) as container:
            stream = self._selected(container)
            return [
                _resampled(self._decoded(stream, some, *span), self.rate, rate, *span)
                for span, some in zip(spans, packets, strict=True)
            ]

    def _listed(
        self, source: Source, spans: Sequence[tuple[float, float]]
    ) -> Iterator[list[tuple[int, bytes]]]:
        """By span, PTS and bytes of the packets that it needs, in few reads."""
        start = self.pts * float(self.time_base) - self.origin
        good = (self.size > 0) & (self.size < ABSURD)
        good &= self.position + self.size <= self.index.identity.size
        for first, last in spans:
            # A packet's sound begins at its PTS and ends at the next one's.
            near = np.flatnonzero(good & (start > first - RUN_UP) & (start < last))
            groups = _groups(self.position[near], self.size[near])
            found: list[tuple[int, bytes]] = []
            reads = source.read_ahead((low, high) for low, high, _ in groups)
            for (low, _, members), data in zip(groups, reads, strict=True):
                for number in near[members]:
                    at = int(self.position[number]) - low
                    found.append((int(self.pts[number]), data[at : at + int(self.size[number])]))
            yield sorted(found, key=lambda one: one[0])

    def _passed(
        self, source: Source, spans: Sequence[tuple[float, float]]
    ) -> Iterator[list[tuple[int, bytes]]]:
        """As `_listed`, by reading the file from its beginning."""
        found: list[list[tuple[int, bytes]]] = [[] for _ in spans]
        with open_container(self.index.head.again(source)) as container:
            try:
                for packet in container.demux(self._selected(container)):
                    if packet.pts is None or not packet.size:
                        continue
                    at = float(packet.pts * self.time_base) - self.origin
                    for span, some in zip(spans, found, strict=True):
                        if span[0] - RUN_UP < at < span[1]:
                            some.append((packet.pts, bytes(packet)))
                    if at > spans[-1][1]:
                        break
            except (av.FFmpegError, EOFError):
                pass  # what came before the fault can be heard
        return iter(found)

    def _selected(self, container: InputContainer) -> AudioStream:
        chosen: Any = container.streams[self.track]
        for other in container.streams:
            if other is not chosen:
                other.discard = Discard.all
        stream: AudioStream = chosen
        return stream

    def _decoded(
        self, stream: AudioStream, packets: Sequence[tuple[int, bytes]], first: float, last: float
    ) -> Samples:
        """Float32 [n] at the track's own rate, from `first` on."""
        mixed = np.zeros(max(1, round((last - first) * self.rate)), dtype=np.float32)
        codec = stream.codec_context
        codec.flush_buffers()
        for pts, data in packets:
            packet: Packet[Any] = Packet(data)
            packet.pts = packet.dts = pts
            packet.time_base = self.time_base
            try:
                frames = codec.decode(packet)
            except (av.FFmpegError, EOFError, ValueError):
                continue  # silence in its place
            for frame in frames:
                if frame.pts is None or frame.sample_rate != self.rate:
                    continue
                base = frame.time_base or self.time_base
                at = round((float(frame.pts * base) - self.origin - first) * self.rate)
                values = _mono(frame)
                low, high = max(0, at), min(len(mixed), at + len(values))
                if low < high:
                    mixed[low:high] = values[low - at : high - at]
        return mixed


def find_sound(index: Index, origin: float) -> Sound | None:
    """The audio track of a file that a player would play; None where there is none.

    Costs no read: the index of the video was read with that of the sound.

    Args:
        index: of the file's video.
        origin: seconds on the file's clock at which the stream's first frame is shown.

    Raises:
        UnreadableVideo: the file cannot be opened any more.
    """
    with open_container(index.head.reopened()) as container:
        known = [s for s in container.streams.audio if getattr(s, "codec_context", None)]
        usual = [s for s in known if s.disposition & Disposition.default] or known
        if not usual:
            return None
        stream = usual[0]
        rate, base = stream.codec_context.sample_rate, stream.time_base
        if not rate or base is None:
            return None
        entries = list(stream.index_entries)
        if index.head.holds(b"mvex") or not stream.frames:
            entries = []
        columns = np.array([(e.timestamp, e.pos, e.size) for e in entries], dtype=np.int64)
        pts, position, size = columns.reshape(-1, 3).T
        return Sound(index, origin, stream.index, rate, base, pts, position, size)


def _groups(
    position: NDArray[np.int64], size: NDArray[np.int64]
) -> list[tuple[int, int, list[int]]]:
    """First byte, byte after the last, and the packets, of each read."""
    groups: list[tuple[int, int, list[int]]] = []
    for number in np.argsort(position, kind="stable").tolist():
        low, high = int(position[number]), int(position[number] + size[number])
        if groups:
            start, stop, members = groups[-1]
            if low - stop <= GAP and high - start <= READ:
                groups[-1] = (start, max(stop, high), [*members, number])
                continue
        groups.append((low, high, [number]))
    return groups


def _mono(frame: av.AudioFrame) -> Samples:
    """The frame's channels as one; float32 [samples], full scale is 1."""
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    if values.dtype.kind in "iu":
        # Unsigned bytes have their silence in the middle.
        full = float(2 ** (8 * values.dtype.itemsize - 1))
        middle = full if values.dtype.kind == "u" else 0.0
        values = (values.astype(np.float64) - middle) / full
    values = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    mixed: Samples = values.mean(axis=0)
    if channels > 1:
        power = np.square(values).mean(axis=1)
        if np.square(mixed).mean() < CANCELLED * power.max(initial=0):
            loudest: Samples = values[int(power.argmax())]
            return loudest
    return mixed


def _resampled(sound: Samples, rate: int, wanted: int, first: float, last: float) -> Samples:
    common = np.gcd(rate, wanted)
    made = signal.resample_poly(sound, wanted // common, rate // common)
    result = np.zeros(round((last - first) * wanted), dtype=np.float32)
    count = min(len(result), len(made))
    result[:count] = made[:count]
    return result


__all__ = ["Samples", "Sound", "UnreadableVideo", "find_sound"]
