"""H.264 numbers its pictures: whether one on which others may lean is missing before a packet.

Only that number is read (ISO 14496-10, 7.3.2.1.1 and 7.3.3); a decoder that starts in mid-stream
overlooks such a gap, one that comes from the beginning may meet it far behind.
"""

from __future__ import annotations

from workers.media.bitstream import H264_IDR, H264_SLICES, parts

SPS = 7
# So much of a slice and of a parameter set is read.
SLICE, SET = 24, 256
# Profiles whose parameter sets say more of chroma and scaling.
HIGH = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


class FrameNumbers:
    """Follows the numbers of a stream's packets in decode order.

    Args:
        extradata: the stream's, with its parameter sets.
        prefix: bytes of the length before each part of a packet.
    """

    def __init__(self, extradata: bytes, prefix: int) -> None:
        self._prefix = prefix
        self._bits = 0  # of a number; none while the parameter sets are not known
        self._gaps_allowed = False
        self._planes = False
        self._last = -1
        at = 6
        for _ in range(extradata[5] & 31 if len(extradata) > 8 else 0):
            size = int.from_bytes(extradata[at : at + 2], "big")
            self._learn(extradata[at + 2 : at + 2 + size])
            at += 2 + size

    def gap_before(self, packet: bytes) -> bool:
        """Whether a picture is missing between the packet before and this one."""
        gap = False
        for start, end in parts(packet, self._prefix):
            kind = packet[start] & 31
            if kind == SPS:
                self._learn(packet[start:end])
            elif kind in H264_SLICES and self._bits:
                number = self._number(packet[start + 1 : min(end, start + 1 + SLICE)])
                leaned_on = packet[start] & 0x60 != 0
                if number is None:
                    self._last = -1
                    break
                if self._last >= 0 and kind != H264_IDR and not self._gaps_allowed:
                    gap = (number - self._last) % (1 << self._bits) > 1
                if leaned_on:
                    self._last = number
                break
        return gap

    def forget(self) -> None:
        """What comes next does not follow what came before."""
        self._last = -1

    def _number(self, data: bytes) -> int | None:
        bits = _Bits(data)
        try:
            for _ in range(3):
                bits.golomb()
            if self._planes:
                bits.take(2)
            return bits.take(self._bits)
        except EOFError:
            return None

    def _learn(self, data: bytes) -> None:
        bits = _Bits(data[1 : 1 + SET])
        try:
            profile = bits.take(8)
            bits.take(16)
            bits.golomb()
            self._planes = False
            if profile in HIGH:
                if bits.golomb() == 3:
                    self._planes = bool(bits.take(1))
                    lists = 12
                else:
                    lists = 8
                bits.golomb(), bits.golomb(), bits.take(1)
                if bits.take(1):
                    for number in range(lists):
                        if bits.take(1):
                            bits.scaling_list(16 if number < 6 else 64)
            width = bits.golomb() + 4
            kind = bits.golomb()
            if kind == 0:
                bits.golomb()
            elif kind == 1:
                bits.take(1), bits.golomb(), bits.golomb()
                for _ in range(bits.golomb()):
                    bits.golomb()
            bits.golomb()
            self._gaps_allowed = bool(bits.take(1))
            self._bits = width if width <= 16 else 0
        except EOFError:
            self._bits = 0
        self._last = -1


class _Bits:
    """Bits of a part, without the bytes that keep start codes out of it."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def scaling_list(self, size: int) -> None:
        last = following = 8
        for _ in range(size):
            if following:
                code = self.golomb()
                following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            last = following or last
