"""Kinds of damage to a film's file, each drawn from a random generator."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from numpy.random import Generator

from tests.fuzz.films import Film, without

PARENTS = {
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"mvex", b"moof", b"traf", b"dinf",
}  # fmt: skip
# What a file's tables and headers are called.
TABLES = (
    "ctts", "stts", "stss", "stsz", "stco", "stsc", "elst", "tkhd", "mdhd", "mvhd", "stsd", "hdlr",
    "trun", "tfhd", "tfdt", "mfhd", "trex", "avcC", "hvcC", "vpcC", "esds", "av1C",
)  # fmt: skip


def boxes(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each box, parents before their children."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > stop:
            return
        yield kind, start, start + size
        if kind in PARENTS:
            yield from boxes(data, start + 8, start + size)
        start += size


def _media(film: Film) -> tuple[int, int]:
    return min(p for p, _ in film.packets), max(p + s for p, s in film.packets)


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _flipped(data: bytes, random: Generator, places: list[int]) -> bytes:
    out = bytearray(data)
    for at in places:
        out[at] ^= (
            1 << int(random.integers(8)) if random.random() < 0.5 else random.integers(1, 256)
        )
    return bytes(out)


def flips(film: Film, random: Generator) -> bytes:
    """Bytes of the media change."""
    start, stop = _media(film)
    count = int(random.choice([1, 1, 3, 20]))
    return _flipped(film.data, random, random.integers(start, stop, count).tolist())


def heads(film: Film, random: Generator) -> bytes:
    """A byte near a packet's beginning changes."""
    position, size = film.packets[random.integers(len(film.packets))]
    at = position + int(random.integers(min(size, 12)))
    return _flipped(film.data, random, [at])


def garbage(film: Film, random: Generator) -> bytes:
    """A stretch of the media is noise, or zeros."""
    start, stop = _media(film)
    size = min(int(2 ** random.uniform(4, 13)), (stop - start) // 2)
    at = int(random.integers(start, stop - size))
    return _put(film.data, at, bytes(size) if random.random() < 0.4 else random.bytes(size))


def truncation(film: Film, random: Generator) -> bytes:
    """The file's end is not there."""
    if random.random() < 0.5:
        position, size = film.packets[random.integers(1, len(film.packets))]
        return film.data[: position + int(random.choice([0, size // 2]))]
    return film.data[: int(random.integers(16, len(film.data)))]


def cut(film: Film, random: Generator) -> bytes:
    """Bytes are missing, or are there twice, so that all behind them moves."""
    start, stop = _media(film)
    size = int(2 ** random.uniform(0, 12))
    at = int(random.integers(start, stop))
    kept = at if random.random() < 0.5 else at - min(size, at)
    return film.data[:at] + film.data[min(kept + size, len(film.data)) :]


def packets(film: Film, random: Generator) -> bytes:
    """Whole packets are zeros, or another packet's bytes."""
    data = film.data
    first = int(random.integers(len(film.packets)))
    for number in range(first, min(first + int(random.choice([1, 1, 2, 8])), len(film.packets))):
        position, size = film.packets[number]
        other, length = film.packets[random.integers(len(film.packets))]
        new = bytes(size) if random.random() < 0.5 else data[other : other + min(size, length)]
        data = _put(data, position, new)
    return data


def lost(film: Film, random: Generator) -> bytes:
    """An ordinary file that lacks some packets."""
    if not film.plain:
        return packets(film, random)
    count = int(random.choice([1, 1, 2, 5]))
    # Without its first packet a file is one of another film, which begins later.
    some = 1 + random.choice(len(film.packets) - 1, count, replace=False)
    burst = int(random.integers(1, len(film.packets)))
    return without(film, set(range(burst, burst + count)) if random.random() < 0.5 else set(some))


def table_bytes(film: Film, random: Generator) -> bytes:
    """A byte of a table or header changes."""
    kinds: dict[bytes, list[tuple[int, int]]] = {}
    for kind, start, stop in boxes(film.data):
        if kind.decode("latin1") in TABLES:
            kinds.setdefault(kind, []).append((start, stop))
    spans = kinds[sorted(kinds)[random.integers(len(kinds))]]
    start, stop = spans[random.integers(len(spans))]
    at = int(random.integers(start + 8, stop))
    return _flipped(film.data, random, [at])


def table_numbers(film: Film, random: Generator) -> bytes:
    """A number of a table becomes another one: near, negative, huge, or another entry's."""
    found = [
        (start, stop)
        for kind, start, stop in boxes(film.data)
        if kind in (b"ctts", b"stts", b"stss", b"stsz", b"stco", b"stsc", b"elst", b"trun")
    ]
    start, stop = found[random.integers(len(found))]
    words = (stop - start) // 4
    at = start + 4 * int(random.integers(3, words)) if words > 3 else start + 8
    (value,) = struct.unpack_from(">I", film.data, at)
    (other,) = struct.unpack_from(">I", film.data, start + 4 * int(random.integers(words)))
    chosen = random.choice([value + 1, value - 1, 2 * value, value + 512, 0, 2**32 - 1, other])
    return _put(film.data, at, struct.pack(">I", int(chosen) % 2**32))


def box_heads(film: Film, random: Generator) -> bytes:
    """A box's size or name changes."""
    found = list(boxes(film.data))
    _, start, stop = found[random.integers(len(found))]
    if random.random() < 0.3:
        return _flipped(film.data, random, [start + int(random.integers(8))])
    chosen = random.choice([0, 1, stop - start - 1, stop - start + 8, 2**32 - 1])
    return _put(film.data, start, struct.pack(">I", int(chosen)))


def box_surgery(film: Film, random: Generator) -> bytes:
    """A box is dropped, or is there twice; the boxes around it know nothing of it."""
    found = [b for b in boxes(film.data) if b[0] != b"mdat"]
    _, start, stop = found[random.integers(len(found))]
    again = film.data[start:stop] * int(random.choice([0, 2]))
    return film.data[:start] + again + film.data[stop:]


def fragments(film: Film, random: Generator) -> bytes:
    """A fragment is lost, there twice, or another's neighbour; in other films, its index."""
    whole = list(boxes(film.data))
    heads = [start for kind, start, _ in whole if kind == b"moof"]
    if len(heads) < 3:
        return table_numbers(film, random)
    ends = [*heads[1:], max(stop for kind, _, stop in whole if kind == b"mdat")]
    spans = list(zip(heads, ends, strict=True))
    first = int(random.integers(len(spans) - 1))
    order = list(range(len(spans)))
    match int(random.integers(4)):
        case 0:
            order.remove(first)
        case 1:
            order.insert(first, first)
        case 2:
            order[first], order[first + 1] = order[first + 1], order[first]
        case _:
            trun = [start for kind, start, _ in whole if kind in (b"trun", b"tfhd")]
            return _flipped(film.data, random, [trun[random.integers(len(trun))] + 9])
    body = b"".join(film.data[slice(*spans[number])] for number in order)
    return film.data[: heads[0]] + body + film.data[ends[-1] :]


def nothing(film: Film, random: Generator) -> bytes:
    """No damage."""
    return film.data


KINDS: tuple[Callable[[Film, Generator], bytes], ...] = (
    flips, heads, garbage, truncation, cut, packets, lost, table_bytes, table_numbers, box_heads,
    box_surgery, fragments,
)  # fmt: skip
