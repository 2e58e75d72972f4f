"""Bytes of an object as a file for libav: read by range on demand, and kept."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from workers.media.source import Source

BLOCK = 64 * 1024
# Reads in a row grow up to this; a jump to what must be the moov at the end takes all of it. A
# 15 minute take's moov is about half a megabyte.
READ = 1024 * 1024
TAIL = 4 * 1024 * 1024


class SparseFile(io.RawIOBase):
    """A read-only file over a source that keeps what was read, or reads zeros elsewhere."""

    def __init__(self, source: Source, size: int) -> None:
        self.source = source
        self.length = size
        self._hollow = False
        self._position = 0
        self._kept: dict[int, bytes] = {}
        self._passing: dict[int, bytes] = {}
        self._into = self._kept
        self._ahead = (-1, BLOCK)

    def reopened(self, length: int = 0) -> SparseFile:
        """Another reader of the kept bytes, at least `length` long; all else in it reads as zeros.

        So the packets that a cut object lacks can be listed too.
        """
        copy = SparseFile(self.source, max(self.length, length))
        copy._kept = self._kept
        copy._hollow = True
        return copy

    def again(self, source: Source) -> SparseFile:
        """Another reader of the file, all of it; what was kept is not read again."""
        copy = SparseFile(source, self.length)
        copy._kept = self._kept
        for number, data in self._kept.items():
            source.note(number * BLOCK, data)
        copy.keep_no_more()
        return copy

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.length}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = self.length if size < 0 else min(self.length, self._position + size)
        parts = []
        while self._position < stop:
            start = self._position // BLOCK * BLOCK
            upto = min(stop, start + BLOCK)
            part = self._block(start)[self._position - start : upto - start]
            parts.append(part + bytes(upto - self._position - len(part)))
            self._position = upto
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def keep_no_more(self) -> None:
        """What is read from now on is forgotten at the next read."""
        self._into = self._passing

    def has(self, start: int, stop: int) -> bool:
        """Whether all of `[start, stop)` is kept."""
        return all(
            number in self._kept for number in range(start // BLOCK, (stop - 1) // BLOCK + 1)
        )

    def read_ahead(self, source: Source, spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of each span in order; `source` reads what is not kept of it, ahead."""
        left = [self._lacking(start, stop) for start, stop in spans]
        coming = source.read_ahead(span for span in left if span)
        for (start, stop), span in zip(spans, left, strict=True):
            first, last = span or (stop, stop)
            before, after = self.peek(start, first - start), self.peek(last, stop - last)
            for at, kept in ((start, before), (last, after)):
                if kept:
                    source.note(at, kept)
            yield before + next(coming) + after if span else before

    def _lacking(self, start: int, stop: int) -> tuple[int, int] | None:
        """Of `[start, stop)`, without kept blocks at its ends; None when all of it is kept."""
        first, last = start // BLOCK, (stop - 1) // BLOCK
        while first <= last and first in self._kept:
            first += 1
        while first < last and last in self._kept:
            last -= 1
        if first > last:
            return None
        return max(start, first * BLOCK), min(stop, (last + 1) * BLOCK)

    def peek(self, start: int, size: int) -> bytes:
        """Bytes that are kept."""
        copy = self.reopened()
        copy.seek(start)
        return copy.read(size)

    def holds(self, word: bytes) -> bool:
        """Whether `word` stands in the kept bytes."""
        runs = bytearray()
        for number in sorted(self._kept):
            runs += self._kept[number]
            if number + 1 not in self._kept:
                runs += b"\0"
        return word in runs

    def _block(self, start: int) -> bytes:
        number = start // BLOCK
        if number not in self._kept and number not in self._passing and not self._hollow:
            self._fetch(start)
        return self._kept.get(number) or self._passing.get(number, b"")

    def _fetch(self, start: int) -> None:
        expected, size = self._ahead
        size = min(2 * size, READ) if start == expected else 2 * BLOCK
        jumped = start not in (0, expected)
        if jumped and self.length - start <= TAIL:
            size = TAIL
        data = self.source.read(start, min(self.length, start + size))
        self._passing.clear()
        for at in range(0, len(data), BLOCK):
            self._into[(start + at) // BLOCK] = data[at : at + BLOCK]
        self._ahead = (start + size, size)
