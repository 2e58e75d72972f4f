"""What the first bytes of a packet say of it: whether decoding can begin there, what leans on it.

Containers only claim which packets are keys. H.264, HEVC, VP9 and MPEG-4 packets say it themselves
in a few bytes that need no decoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

H264_SLICES = range(1, 6)
H264_IDR, H264_SEI, H264_SETS = 5, 6, (7, 8)
HEVC_SLICES = range(32)
HEVC_RANDOM_ACCESS = range(16, 24)
HEVC_SETS, HEVC_SEI = (32, 33, 34), 39
RECOVERY_POINT = 6
MPEG4_START = b"\0\0\1"
INTRA_SLICES = (2, 4, 7, 9)
# What stands in no slice, because encoders put a byte between: H.264 and H.265, each in 7.4.
IMPOSSIBLE = re.compile(rb"\0\0[\0-\2]", re.DOTALL)
# So much of a slice is unescaped to read its type.
SLICE_HEAD = 16


@dataclass(frozen=True)
class Look:
    """What a packet shows of itself.

    Attributes:
        whole: its parts fill it exactly; None where the codec has no such structure.
        begins: its first bytes are sound, so that damage in it does not come from before.
        picture: there is a picture in it.
        entry: decoding can begin here.
        certain: the packet says outright that it can: not only that its picture leans on no other.
        clean: nothing behind it leans on anything before it.
        gradual: decoding can begin here, and pictures become right over the next groups only.
        leaned_on: later pictures may lean on it.
        sets: the parameter sets in it, with their length prefixes, in order.
    """

    whole: bool | None = None
    begins: bool = False
    picture: bool = True
    entry: bool = True
    certain: bool = True
    clean: bool = True
    gradual: bool = False
    leaned_on: bool = True
    sets: tuple[bytes, ...] = ()


def look(codec: str, data: bytes, claimed: bool, prefix: int = 4) -> Look:
    """Look at one packet.

    Args:
        codec: libav's name of the codec.
        data: the packet, or its first bytes; `whole` is then False.
        claimed: whether the container calls it a key; stands where the codec is not looked into.
        prefix: bytes of the length before each part (H.264 and HEVC).

    Returns:
        What it shows.
    """
    if codec == "h264":
        return _h264(data, prefix)
    if codec == "hevc":
        return _hevc(data, prefix)
    if codec == "vp9":
        key = _vp9_key(data)
        return Look(entry=key, certain=key)
    if codec == "mpeg4":
        key = _mpeg4_key(data)
        return Look(begins=data.startswith(MPEG4_START), entry=key, certain=key)
    return Look(entry=claimed, certain=claimed)


def parts(data: bytes, prefix: int) -> Iterator[tuple[int, int]]:
    """Where each part of an H.264 or HEVC packet begins and ends, as far as lengths make sense."""
    at = 0
    while at + prefix < len(data):
        size = int.from_bytes(data[at : at + prefix], "big")
        at += prefix
        if not size:
            return
        yield at, at + size
        at += size


def possible(codec: str, data: bytes, prefix: int) -> bool:
    """Whether a packet holds only what one can; zeros in the place of lost bytes are none of it.

    Decoders take much of that for pictures. Zeros at the end of a slice or of the packet are let
    pass: some cameras fill up with them.

    Args:
        codec: libav's name of the codec; of others than H.264 and HEVC nothing is known.
        data: the packet.
        prefix: bytes of the length before each part.
    """
    if codec not in ("h264", "hevc"):
        return True
    end = 0
    for start, end in parts(data, prefix):
        if codec == "h264":
            a_slice = data[start] & 31 in H264_SLICES
        else:
            a_slice = data[start] >> 1 & 63 in HEVC_SLICES
        if a_slice and IMPOSSIBLE.search(data[start:end].rstrip(b"\0")):
            return False
    # Zeros where a length should be; zeros up to the end fill up.
    return bool(any(data[end : end + prefix])) or not any(data[end:])


def length_prefix(codec: str, extradata: bytes | None) -> int | None:
    """Bytes of the length before each part; None where parts are told apart by start codes."""
    at = {"h264": 4, "hevc": 21}.get(codec)
    if at is None or not extradata or len(extradata) <= at or extradata[0] != 1:
        return None
    return (extradata[at] & 3) + 1


def _h264(data: bytes, prefix: int) -> Look:
    end, picture, entry, recovery, intra, leaned_on = 0, False, False, False, True, False
    sets = []
    for start, end in parts(data, prefix):
        kind = data[start] & 31
        if kind in H264_SLICES:
            picture = True
            leaned_on |= data[start] & 0x60 != 0
            entry |= kind == H264_IDR
            intra &= _slice_type(data[start + 1 : start + 1 + SLICE_HEAD]) in INTRA_SLICES
        elif kind == H264_SEI:
            recovery |= _has_recovery_point(data[start + 1 : end])
        elif kind in H264_SETS:
            sets.append(data[start - prefix : end])
    certain = entry or (recovery and picture)
    return Look(
        whole=end == len(data),
        begins=_begins(data, prefix),
        picture=picture,
        entry=certain or (picture and intra),
        certain=certain,
        clean=entry,
        gradual=certain and not entry and not intra,
        leaned_on=leaned_on,
        sets=tuple(sets),
    )


def _hevc(data: bytes, prefix: int) -> Look:
    end, picture, entry, recovery, leaned_on = 0, False, False, False, False
    sets = []
    for start, end in parts(data, prefix):
        kind = data[start] >> 1 & 63
        if kind in HEVC_SLICES:
            picture = True
            # Even numbers below 16 are pictures that none of their layer leans on.
            leaned_on |= kind >= 16 or kind % 2 == 1 or data[start + 1 : start + 2] != b"\x01"
            entry |= kind in HEVC_RANDOM_ACCESS
        elif kind == HEVC_SEI:
            recovery |= _has_recovery_point(data[start + 2 : end])
        elif kind in HEVC_SETS:
            sets.append(data[start - prefix : end])
    certain = entry or (recovery and picture)
    return Look(
        whole=end == len(data),
        begins=_begins(data, prefix),
        picture=picture,
        entry=certain,
        certain=certain,
        gradual=certain and not entry,
        leaned_on=leaned_on,
        sets=tuple(sets),
    )


def _begins(data: bytes, prefix: int) -> bool:
    # A length that fits is no chance; nor is one of which a single byte is wrong.
    room = len(data) - prefix
    if not 0 < room < 1 << 8 * prefix:
        return False
    length = int.from_bytes(data[:prefix], "big")
    if 0 < length <= room:
        return True
    right = room.to_bytes(prefix, "big")
    return sum(a != b for a, b in zip(data[:prefix], right, strict=False)) == 1


def _has_recovery_point(message: bytes) -> bool:
    at = 0
    while at + 2 <= len(message) and message[at] != 0x80:
        numbers = []
        for _ in range(2):
            number = 0
            while at < len(message) and message[at] == 0xFF:
                number += 255
                at += 1
            number += message[at] if at < len(message) else 0
            at += 1
            numbers.append(number)
        if numbers[0] == RECOVERY_POINT:
            return True
        at += numbers[1]
    return False


def _slice_type(head: bytes) -> int:
    bits = int.from_bytes(head.replace(b"\0\0\3", b"\0\0").ljust(SLICE_HEAD, b"\0"), "big")
    left = SLICE_HEAD * 8
    values = []
    for _ in range(2):  # first_mb_in_slice, slice_type: Exp-Golomb
        zeros = left - (bits & ((1 << left) - 1)).bit_length()
        if 2 * zeros + 1 > left:
            return -1
        left -= 2 * zeros + 1
        values.append((bits >> left & ((1 << (zeros + 1)) - 1)) - 1)
    return values[1]


def _vp9_key(data: bytes) -> bool:
    if not data or data[0] >> 6 != 2:
        return False
    reserved = 1 if data[0] >> 4 & 3 == 3 else 0
    shows_existing, kind = data[0] >> (3 - reserved) & 1, data[0] >> (2 - reserved) & 1
    return not shows_existing and not kind


def _mpeg4_key(data: bytes) -> bool:
    at = data.find(b"\0\0\1\xb6")
    return 0 <= at < len(data) - 4 and data[at + 4] >> 6 == 0
