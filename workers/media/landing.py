"""Where decoding can begin, proven by the packets themselves, and what has to be known there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from workers.media.bitstream import Look, look
from workers.media.index import Index
from workers.media.source import Source

# The first bytes of a key packet, where its parameter sets stand.
HEAD = 512
AT_ONCE = 16
# Key packets before a landing that are asked for parameter sets.
ASKED = 1024
# With intra refresh a key packet is no whole picture: pictures are right in the third group after
# the one with which decoding began, or that was broken.
GRADUAL = 3
# When a landing proves false, so many packets and bytes before it are looked at together.
LOOK_BACK = 256
LOOK_BACK_BYTES = 4 * 1024 * 1024


class FalseLanding(Exception):
    """The container calls a packet a key at which decoding cannot begin."""


class ColdLanding(Exception):
    """Where decoding began, the decoder does not know enough; begin earlier."""


def look_at(index: Index, packet: int, content: bytes, claimed: bool | None = None) -> Look:
    """What a packet shows of itself; the container's word where its codec shows nothing."""
    claimed = bool(index.key[packet]) if claimed is None else claimed
    if index.codec in ("h264", "hevc") and index.prefix is None:
        return Look(entry=claimed, certain=claimed)
    return look(index.codec, content, claimed, index.prefix or 4)


def look_back(source: Source, index: Index, packet: int) -> None:
    """Learn which of the packets before `packet` that are called keys are none."""
    first = max(0, packet - LOOK_BACK)
    while first < packet - 1 and _extent(index, first, packet) > LOOK_BACK_BYTES:
        first += (packet - first) // 2
    numbers = [n for n in range(first, packet) if index.there[n]]
    if not numbers:
        return
    start = int(index.position[numbers].min())
    data = source.read(start, int((index.position[numbers] + index.size[numbers]).max()))
    for number in numbers:
        at = int(index.position[number]) - start
        if index.key[number]:
            content = data[at : at + int(index.size[number])]
            index.learn(number, look_at(index, number, content))


def sets_before(source: Source, index: Index, packet: int) -> bytes:
    """The parameter sets that key packets before `packet` carried, to be put in front of it.

    A key packet need not repeat what an earlier one said. Each key packet is asked once.
    """
    if index.prefix is None or index.sets.get(packet):
        return b""
    described = max((n for n, beside in index.beside.items() if n <= packet and any(
        data.data_type == "new_extradata" for data in beside)), default=0)  # fmt: skip
    keys = np.flatnonzero(index.entries()[:packet] & index.there[:packet])
    keys = keys[keys >= described][-ASKED:]
    unknown = [int(key) for key in keys if int(key) not in index.sets]
    spans = [
        (int(index.position[key]), int(index.position[key]) + min(HEAD, int(index.size[key])))
        for key in unknown
    ]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="source") as pool:
        heads = list(pool.map(lambda span: source.read(*span), spans))
    for key, head in zip(unknown, heads, strict=True):
        index.sets[key] = look_at(index, key, head).sets
    found: dict[bytes, None] = {}
    for key in keys.tolist():
        for one in index.sets[key]:
            found.pop(one, None)
            found[one] = None
    return b"".join(found)


def _extent(index: Index, first: int, last: int) -> int:
    position = index.position[first:last]
    return int((position + index.size[first:last]).max() - position.min())
