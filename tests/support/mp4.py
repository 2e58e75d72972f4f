"""Edits boxes of small MP4 files."""

from __future__ import annotations

import struct
from collections.abc import Sequence


class Mp4:
    """Edits boxes of an MP4 that has one track and its moov at the end."""

    TABLE = "moov.trak.mdia.minf.stbl."

    @classmethod
    def span(cls, data: bytes, path: str) -> tuple[int, int]:
        """Where the box at `path` begins and ends, its header included."""
        return cls._chain(data, path)[-1]

    @classmethod
    def get(cls, data: bytes, path: str) -> bytes:
        start, stop = cls.span(data, path)
        return data[start + 8 : stop]

    @classmethod
    def put(cls, data: bytes, path: str, content: bytes) -> bytes:
        """`data` with other content in the box at `path`; every box around it grows along."""
        chain = cls._chain(data, path)
        start, stop = chain[-1]
        out = bytearray(data[: start + 8] + content + data[stop:])
        for at, _ in chain:
            size = struct.unpack_from(">I", out, at)[0] + len(content) - (stop - start - 8)
            struct.pack_into(">I", out, at, size)
        return bytes(out)

    @classmethod
    def drop(cls, data: bytes, path: str) -> bytes:
        parent = path.rpartition(".")[0]
        (start, stop), (above, below) = cls.span(data, path), cls.span(data, parent)
        return cls.put(data, parent, data[above + 8 : start] + data[stop:below])

    @classmethod
    def edits(cls, data: bytes, *edits: tuple[int, int]) -> bytes:
        """`data` with this edit list of (first frame, frames); first frame -1 is an empty edit.

        For 30 frames per second as `encode_video` writes them: 512 ticks a frame.
        """
        delay = struct.unpack_from(">i", cls.get(data, "moov.trak.edts.elst"), 12)[0]
        entries = [
            struct.pack(">IiI", -(-count * 1000 // 30), -1 if at < 0 else at * 512 + delay, 1 << 16)
            for at, count in edits
        ]
        content = struct.pack(">II", 0, len(entries)) + b"".join(entries)
        return cls.put(data, "moov.trak.edts.elst", content)

    @classmethod
    def durations(cls, data: bytes, ticks: Sequence[int]) -> bytes:
        """`data` with these sample durations."""
        content = struct.pack(">II", 0, len(ticks))
        content += b"".join(struct.pack(">II", 1, tick) for tick in ticks)
        return cls.put(data, cls.TABLE + "stts", content)

    @classmethod
    def _chain(cls, data: bytes, path: str) -> list[tuple[int, int]]:
        start, stop, chain = 0, len(data), []
        for name in path.encode().split(b"."):
            while start < stop:
                size, kind = struct.unpack_from(">I4s", data, start)
                if kind == name:
                    break
                start += size
            else:
                raise KeyError(path)
            chain.append((start, start + size))
            start, stop = start + 8, start + size
        return chain
