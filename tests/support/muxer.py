"""Writes MP4 files box by box, so that a test can make them odd."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import av

from tests.support.mp4 import Mp4

STEP = 512
SCALE = 15_360
IDENTITY = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


@dataclass(frozen=True)
class Sample:
    """One sample: its bytes, DTS and composition offset in ticks of 1/15360 s."""

    data: bytes
    dts: int
    offset: int
    key: bool
    entry: int = 1


@dataclass(frozen=True)
class Track:
    """A video track.

    Attributes:
        samples: in decode order; each is a chunk of its own.
        entries: the sample descriptions' boxes.
        size: width and height.
        durations: of the samples, in ticks; by default what the DTS say.
        sync: numbers of the samples listed as sync, from 1; None writes no list.
        matrix: of the track header, nine numbers.
        scale: ticks per second that the header names.
        flags: of the track header; 7 is enabled, 6 is not.
    """

    samples: Sequence[Sample]
    entries: Sequence[bytes]
    size: tuple[int, int]
    durations: Sequence[int] | None = None
    sync: Sequence[int] | None = ()
    matrix: Sequence[int] = IDENTITY
    scale: int = SCALE
    flags: int = 7
    edits: Sequence[tuple[int, int]] = ()


def track_of(data: bytes, path: str = "moov.trak.mdia.minf.stbl.stsd") -> Track:
    """The video of an ordinary file as a track, to be changed and written again."""
    with av.open(io.BytesIO(data)) as container:
        video = container.streams.video[0]
        ticks = video.time_base * SCALE
        packets = [packet for packet in container.demux(video) if packet.size]
        first = int(packets[0].dts * ticks)
        samples = [
            Sample(
                bytes(packet),
                int(packet.dts * ticks) - first,
                int((packet.pts - packet.dts) * ticks),
                packet.is_keyframe,
            )
            for packet in packets
        ]
        return Track(samples, [Mp4.get(data, path)[8:]], (video.width, video.height))


def joined(*tracks: Track) -> Track:
    """The tracks' samples one after another, each with its own sample description."""
    samples: list[Sample] = []
    for number, track in enumerate(tracks, 1):
        start = samples[-1].dts + STEP if samples else 0
        samples += [replace(s, dts=s.dts + start, entry=number) for s in track.samples]
    return replace(tracks[0], samples=samples, entries=[e for t in tracks for e in t.entries])


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box."""
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def mux(*tracks: Track, first: bytes = b"", last: bytes = b"") -> bytes:
    """An MP4 file of the tracks, moov at the end; `first` and `last` stand around its traks."""
    begin = box(b"ftyp", b"isom", bytes(4), b"isom", b"mp41")
    at = len(begin) + 8
    order = sorted(
        (s.dts, t, n) for t, track in enumerate(tracks) for n, s in enumerate(track.samples)
    )
    offsets = [[0] * len(track.samples) for track in tracks]
    body = b""
    for _, t, n in order:
        offsets[t][n] = at + len(body)
        body += tracks[t].samples[n].data
    traks = [_trak(n, t, offsets[n - 1]) for n, t in enumerate(tracks, 1)]
    length = max(_ticks(t) for t in tracks) * 1000 // SCALE
    header = full(
        b"mvhd",
        struct.pack(">IIIIIHxx8x", 0, 0, 1000, length, 1 << 16, 1 << 8),
        struct.pack(">9i", *IDENTITY),
        struct.pack(">24xI", len(tracks) + 1),
    )
    return begin + box(b"mdat", body) + box(b"moov", header, first, *traks, last)


def _durations(track: Track) -> list[int]:
    if track.durations is not None:
        return list(track.durations)
    return [b.dts - a.dts for a, b in pairwise(track.samples)] + [STEP]


def _ticks(track: Track) -> int:
    return sum(_durations(track))


def _table(kind: bytes, form: str, rows: Sequence[tuple[int, ...]]) -> bytes:
    return full(kind, struct.pack(">I", len(rows)), *(struct.pack(form, *row) for row in rows))


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    return [(len(list(run)), value) for value, run in groupby(values)]


def _trak(number: int, track: Track, offsets: Sequence[int]) -> bytes:
    samples = track.samples
    sync = track.sync
    if sync is not None and not sync:
        sync = [n for n, sample in enumerate(samples, 1) if sample.key]
    entries = [(n, 1, s.entry) for n, s in enumerate(samples, 1)]
    changes = [e for n, e in enumerate(entries) if not n or e[2] != entries[n - 1][2]]
    table = box(
        b"stbl",
        full(b"stsd", struct.pack(">I", len(track.entries)), *track.entries),
        _table(b"stts", ">II", _runs(_durations(track))),
        _table(b"ctts", ">Ii", _runs([sample.offset for sample in samples])),
        b"" if sync is None else _table(b"stss", ">I", [(n,) for n in sync]),
        _table(b"stsc", ">III", changes),
        full(b"stsz", struct.pack(">II", 0, len(samples))
             + b"".join(struct.pack(">I", len(s.data)) for s in samples)),
        _table(b"stco", ">I", [(offset,) for offset in offsets]),
    )  # fmt: skip
    reference = full(b"dref", struct.pack(">I", 1), full(b"url ", flags=1))
    media = box(
        b"mdia",
        full(b"mdhd", struct.pack(">IIIIHH", 0, 0, track.scale, _ticks(track), 0x55C4, 0)),
        full(b"hdlr", struct.pack(">I4s12x", 0, b"vide"), b"video\0"),
        box(b"minf", full(b"vmhd", bytes(8), flags=1), box(b"dinf", reference), table),
    )
    length = _ticks(track) * 1000 // SCALE
    header = full(
        b"tkhd",
        struct.pack(">IIIII", 0, 0, number, 0, length),
        bytes(16),
        struct.pack(">9i", *track.matrix),
        struct.pack(">II", *(side << 16 for side in track.size)),
        flags=track.flags,
    )
    edits = [struct.pack(">IiI", length, at, 1 << 16) for length, at in track.edits]
    edit_list = full(b"elst", struct.pack(">I", len(edits)), *edits)
    return box(b"trak", header, box(b"edts", edit_list) if edits else b"", media)
