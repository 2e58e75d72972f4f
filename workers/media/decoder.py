"""A decoder that is strict about errors, loses no frame over one, and starts in mid-stream."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.packet import Packet, PacketSideData
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from workers.media.counters import Counters
from workers.media.index import Index
from workers.media.landing import ColdLanding

# Packets are kept to be decoded again when the decoder refuses one; not more than this.
REPLAYED_BYTES = 64 * 1024 * 1024

OpenDecoder = Callable[[Index], tuple[Any, VideoCodecContext]]


@dataclass(frozen=True)
class Piece:
    """A packet to be decoded: its number, its bytes, and what travels beside it."""

    number: int
    content: bytes
    beside: tuple[PacketSideData, ...]

    def packet(self, time_base: Fraction) -> Packet[Any]:
        """A new packet, with its number for its PTS."""
        # `Packet(data)` would lend the decoder our bytes without the zeros that libav reads past
        # a packet's end, and what stands there changes the picture.
        packet: Packet[Any] = Packet(len(self.content))
        packet.update(self.content)
        packet.pts, packet.time_base = self.number, time_base
        for data in self.beside:
            data.to_packet(packet)
        return packet


def open_cpu_decoder(index: Index, *, strict: bool = True) -> tuple[Any, VideoCodecContext]:
    """A fresh software decoder for the stream, on one thread.

    With libav's frame threads a frame can come out before its error flags are set, and what an
    error leaves in the decoder at the end is lost: which frames count as damaged would be chance.

    Args:
        index: the stream.
        strict: whether packets are refused for errors over which libav would show something.
            Without that its HEVC and VP9 decoders show most damage without a word.
    """
    container, stream = index.open()
    codec = stream.codec_context
    codec.thread_count = 1
    if strict:
        codec.options = {"err_detect": "explode"}
    return container, codec


class Decoder:
    """Decodes consecutive packets; `take` says of each whether it was refused.

    A strict decoder refuses the packet in which it meets an error, and forgets a good frame that
    was to come out then: so what it was given is decoded again without the packet. A packet that
    holds what none can is refused without being decoded. Where decoding
    begins in mid-stream it also misses pictures that it is told to forget; there, up to the next
    key packet, a decoder that overlooks errors takes its place.
    """

    def __init__(
        self, index: Index, opener: OpenDecoder, counters: Counters, *, patient: bool
    ) -> None:
        self._index, self._counters, self._patient = index, counters, patient
        self._container, self._codec = opener(index)
        self._lax: tuple[Any, VideoCodecContext] | None = None
        self._groups: deque[list[Piece]] = deque([[]], maxlen=2)
        self._bytes = 0
        self._fresh = True
        self._cold = False
        self.refused = False

    def close(self) -> None:
        """Free the decoders."""
        self._container.close()
        self._leave_lax()

    def begin_group(self, clean: bool) -> Iterator[VideoFrame]:
        """A key packet comes next; `clean` when nothing behind it leans on what came before."""
        if self._lax:
            yield from self._decode(None)
            self._leave_lax()
            self._codec.flush_buffers()
            if not clean:
                for piece in self._groups[-1]:
                    list(self._decode(piece))
        self._cold = self._fresh and not clean
        self._fresh = False
        self._groups.append([])
        self._bytes = sum(len(piece.content) for group in self._groups for piece in group)

    def take(self, piece: Piece) -> Iterator[VideoFrame]:
        """The frames that come out at a packet; `refused` then says whether it was refused.

        Raises:
            ColdLanding: it was, and decoding began so late that it may be for that reason.
        """
        self._fresh = False
        yield from self._decode(piece)
        if self.refused and self._cold and not self._lax:
            if self._patient:
                raise ColdLanding(piece.number)
            self._lax = open_cpu_decoder(self._index, strict=False)
            for again in self._groups[-1]:
                yield from self._decode(again)
            yield from self._decode(piece)
        if not self.refused:
            self._keep(piece)

    def go_back(self) -> Iterator[VideoFrame]:
        """After a refusal: decode what was given again, without the packet that was refused."""
        (self._lax[1] if self._lax else self._codec).flush_buffers()
        for piece in [piece for group in self._groups for piece in group]:
            yield from self._decode(piece)

    def give_up(self) -> Iterator[VideoFrame]:
        """The frames that are held back; the decoder knows nothing of the stream then."""
        yield from self._decode(None)
        self._leave_lax()
        self._codec.flush_buffers()
        self._groups.extend([[], []])
        self._bytes = 0
        self._fresh, self._cold, self._patient = True, False, False

    def content(self, number: int) -> bytes | None:
        """The bytes of a packet that was taken lately."""
        kept = (
            piece.content for group in self._groups for piece in group if piece.number == number
        )
        return next(kept, None)

    def finish(self) -> Iterator[VideoFrame]:
        """The frames that are held back at the end."""
        return self._decode(None)

    def _decode(self, piece: Piece | None) -> Iterator[VideoFrame]:
        codec = self._lax[1] if self._lax else self._codec
        self.refused = False
        if piece and not self._index.possible(piece.content):
            self._counters.add(decode_errors=1)
            self.refused = True
            return
        began = time.monotonic()
        try:
            frames = codec.decode(piece.packet(self._index.time_base) if piece else None)
        except (av.FFmpegError, EOFError):
            self._counters.add(decode_errors=1)
            self.refused = True
            return
        took = time.monotonic() - began
        self._counters.add(frames_decoded=len(frames), decode_seconds=took)
        if frames and frames[0].format.name == "cuda":
            self._counters.add(frames_decoded_gpu=len(frames))
        yield from frames

    def _keep(self, piece: Piece) -> None:
        self._bytes += len(piece.content)
        if self._bytes > REPLAYED_BYTES:
            self._groups.extend([[], []])
            self._bytes = len(piece.content)
        self._groups[-1].append(piece)

    def _leave_lax(self) -> None:
        if self._lax:
            self._lax[0].close()
            self._lax = None
