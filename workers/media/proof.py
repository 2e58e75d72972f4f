"""What an index assumes, proven on the first packets: each is one frame, PTS are the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.video.frame import VideoFrame

from workers.media.container import UnreadableVideo
from workers.media.decoder import Piece
from workers.media.index import Index
from workers.media.landing import look_at
from workers.media.orientation import matrix_of, orientation
from workers.media.source import Source

# So many packets are tried, fewer of large pictures, and read when opening the file read fewer.
TRIED = 32
TRIED_PIXELS = 20_000_000
ENOUGH = 6
READ_BYTES = 2 * 1024 * 1024
# Key packets tried when the first one is refused.
KEYS = 4
NOT_FRAMES = "its packets are not one frame each"


@dataclass(frozen=True)
class Proof:
    """What the first packets show.

    Attributes:
        doubt: why packets and PTS cannot tell which frame is which, or nothing.
        problems: what is odd about the stream, in plain words.
    """

    doubt: str = ""
    problems: tuple[str, ...] = ()


def prove(source: Source, index: Index) -> Proof:
    """Decode the first packets, most of which opening the file has read already.

    Raises:
        UnreadableVideo: the stream's parameter sets are broken.
        StorageError: bytes cannot be read.
    """
    pieces = _first(source, index)
    if not pieces:
        return Proof()
    for piece in pieces:
        if index.key[piece.number]:
            index.learn(piece.number, look_at(index, piece.number, piece.content))
    frames, refused = _decoded(index, pieces)
    looks = [look_at(index, piece.number, piece.content) for piece in pieces]
    # A packet whose parts make no sense may have held a picture: that is damage, no doubt.
    if any(look.whole and not look.picture for look in looks):
        return Proof(NOT_FRAMES, _matrix_problem(frames))
    if refused:
        if 0 in refused:
            _check_parameter_sets(source, index)
        return Proof(problems=_matrix_problem(frames))
    came = [-1 if frame.pts is None else frame.pts for frame in frames]
    numbers = [piece.number for piece in pieces]
    expected = sorted(numbers, key=lambda number: int(index.turn[number]))
    doubt = ""
    if sorted(numbers) != sorted(came):
        doubt = NOT_FRAMES
    elif came != expected:
        doubt = "its frames come in another order than its PTS say"
    return Proof(doubt, _matrix_problem(frames))


def _first(source: Source, index: Index) -> list[Piece]:
    count = min(
        len(index.pts), TRIED, max(ENOUGH, TRIED_PIXELS // max(1, index.width * index.height))
    )
    numbers = []
    for number in range(count):
        if not index.there[number]:
            break
        numbers.append(number)
    kept = 0
    for number in numbers:
        start = int(index.position[number])
        if not index.head.has(start, start + int(index.size[number])):
            break
        kept += 1
    contents = [index.head.peek(int(index.position[n]), int(index.size[n])) for n in numbers[:kept]]
    for number in numbers[kept:ENOUGH]:
        start, size = int(index.position[number]), int(index.size[number])
        if sum(map(len, contents)) + size > READ_BYTES:
            break
        contents.append(source.read(start, start + size))
    return [
        Piece(number, content, index.beside.get(number, ()))
        for number, content in zip(numbers, contents, strict=False)
    ]


def _decoded(index: Index, pieces: Sequence[Piece]) -> tuple[list[VideoFrame], set[int]]:
    """The frames of the packets, and the packets that a strict decoder refuses."""
    frames: list[VideoFrame] = []
    refused = set()
    container, stream = index.open()
    with container:
        codec = stream.codec_context
        codec.thread_count = 1
        codec.options = {"err_detect": "explode"}
        for piece in (*pieces, None):
            try:
                frames += codec.decode(piece.packet(index.time_base) if piece else None)
            except (av.FFmpegError, EOFError):
                refused.add(piece.number if piece else -1)
    return frames, refused


def _check_parameter_sets(source: Source, index: Index) -> None:
    """Raise UnreadableVideo when no key packet can be decoded, wherever it stands."""
    keys = np.flatnonzero(index.entries() & index.there)
    chosen = keys[np.unique(np.linspace(0, len(keys) - 1, KEYS).astype(int))] if len(keys) else keys
    for key in chosen.tolist():
        start = int(index.position[key])
        content = source.read(start, start + int(index.size[key]))
        beside = tuple(index.in_force(key).values())
        if not _decoded(index, [Piece(key, content, beside)])[1]:
            return
    if len(chosen) > 1:
        raise UnreadableVideo(
            "its parameter sets are broken: the decoder refuses its key frames wherever they stand"
        )


def _matrix_problem(frames: Sequence[VideoFrame]) -> tuple[str, ...]:
    matrix = matrix_of(frames[0]) if frames else None
    if orientation(matrix) is not None:
        return ()
    numbers = " ".join(map(str, matrix or ()))
    return (f"its display matrix is no orientation ({numbers}): pictures are as they are stored",)
