"""Small films of every kind that cameras and muxers make, and what plain PyAV says of them."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property
from typing import Any

import av
import numpy as np

from tests.support.mp4 import Mp4
from workers.media.source import Source

FRAMES = 60
STEADY = {"scenecut": 0}
GOP12 = {"gop": 12, "x264_params": STEADY}


class Film:
    """A video file in memory, and plain sequential decoding of it by PyAV."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def lists_keys(self) -> bool:
        """Whether the container says which packets are keys."""
        at = self.data.find(b"stss")
        return at < 0 or self.data[at + 8 : at + 12] != bytes(4)

    def open(self) -> Any:
        return av.open(io.BytesIO(self.data), metadata_errors="replace")

    @cached_property
    def decoded(self) -> list[tuple[int, np.ndarray]]:
        """PTS and rgb24 picture of each frame as it comes out."""
        with self.open() as container:
            return [
                (frame.pts, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
            ]

    @property
    def pictures(self) -> list[np.ndarray]:
        return [picture for _, picture in self.decoded]

    @cached_property
    def packets(self) -> list[Any]:
        """The video packets as plain demuxing lists them."""
        with self.open() as container:
            return [packet for packet in container.demux(video=0) if packet.size]

    @cached_property
    def group(self) -> list[int]:
        """For each packet, the number of the key packet that its group begins with."""
        keys = [number if packet.is_keyframe else 0 for number, packet in enumerate(self.packets)]
        return list(itertools.accumulate(keys, max))

    @cached_property
    def packet_of(self) -> dict[int, int]:
        """The packet of each frame, for films without hidden frames."""
        order = sorted(range(len(self.packets)), key=lambda number: self.packets[number].pts)
        return dict(enumerate(order))

    def touched(self, damaged: bytes) -> set[int]:
        """The packets whose bytes are not the same in `damaged`."""
        spans = [(packet.pos, packet.pos + packet.size) for packet in self.packets]
        return {n for n, (a, b) in enumerate(spans) if self.data[a:b] != damaged[a:b]}


def pictures(
    count: int, width: int = 160, height: int = 120, seed: int = 0
) -> Iterator[np.ndarray]:
    """Moving noise with a coloured block in it: no two frames alike."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (height // 4 + 2, width // 4 + 40, 3), dtype=np.uint8)
    noise = noise.repeat(4, 0).repeat(4, 1)
    for number in range(count):
        x = 3 * number % 120
        picture = noise[:height, x : x + width].copy()
        y, x = 5 * number % (height - 16), 7 * number % (width - 16)
        picture[y : y + 16, x : x + 16] = random.integers(0, 256, 3)
        yield picture


def _uneven(first: int = 0) -> list[int]:
    steps = np.random.default_rng(0).integers(1500, 6000, FRAMES)
    return [first + int(t) for t in np.cumsum(steps)]


FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
X265 = "keyint=12:open-gop={}:scenecut=0:bframes=4:log-level=none"
# What is not named is as `encode_video` has it: H.264, B-frames, sound, the moov at the end.
FILMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "moov in front": {"faststart": True},
    "closed gop": GOP12,
    "open gop": {**GOP12, "open_gop": True},
    "open gop, pyramid": {
        "gop": 20,
        "open_gop": True,
        "bframes": 5,
        "x264_params": {**STEADY, "b-pyramid": "normal", "b-adapt": 0},
    },
    "deep pyramid": {
        "gop": 20,
        "bframes": 7,
        "x264_params": {**STEADY, "b-pyramid": "normal", "b-adapt": 0},
    },
    "no b-frames": {**GOP12, "bframes": 0},
    "intra refresh": {"gop": 12, "x264_params": {**STEADY, "intra-refresh": 1}},
    "sliced": {**GOP12, "x264_params": {**STEADY, "slices": 4}},
    "interlaced": {**GOP12, "x264_params": {**STEADY, "interlaced": 1}},
    "late start": {"start": Fraction(5, 2)},
    "first frames hidden": {"start": Fraction(-1, 3)},
    "first groups hidden": {"start": Fraction(-5, 4), **GOP12},
    "uneven": {"pts": _uneven()},
    "uneven, from below zero": {"pts": _uneven(-40_000)},
    "25 fps": {"fps": 25},
    "29.97 fps": {"fps": Fraction(30000, 1001)},
    "silent": {"audio": False},
    "fragments": {**GOP12, "container_options": FRAGMENTS},
    "fragments, the first in the moov": {
        **GOP12,
        "container_options": {"movflags": "frag_keyframe"},
    },
    "odd size": {"size": (157, 119), "pix_fmt": "yuv444p"},
    "uneven size": {"size": (158, 118)},
    "full range": {"pix_fmt": "yuvj420p"},
    "4:2:2": {"pix_fmt": "yuv422p"},
    "10 bits": {"pix_fmt": "yuv420p10le"},
    "bt.709": {"colors": "bt709"},
    "mov": {"suffix": ".mov"},
    "one frame": {"count": 1},
    "two frames": {"count": 2},
    "mpeg4": {"codec": "mpeg4", "gop": 12, "bframes": 2},
    "hevc": {"codec": "libx265", "options": {"x265-params": X265.format(0)}},
    "hevc, open gop": {"codec": "libx265", "options": {"x265-params": X265.format(1)}},
    "vp9": {"codec": "libvpx-vp9", "gop": 20, "options": {"cpu-used": "8"}},
    "av1": {"codec": "libsvtav1", "gop": 20, "options": {"preset": "12"}},
    "large": {"count": 250, "size": (240, 176), "crf": 8, "bframes": 2, "gop": 50},
    "large, moov in front": {
        "count": 250, "size": (240, 176), "crf": 8, "bframes": 2, "gop": 50, "faststart": True,
    },
}  # fmt: skip


# Made from "silent": closed groups of twelve, no sound.
EDITED: dict[str, Callable[[bytes], bytes]] = {
    "start and end hidden": lambda data: Mp4.edits(data, (3, 40)),
    "pause, then the middle": lambda data: Mp4.edits(data, (-1, 15), (20, 20)),
    "two edits": lambda data: Mp4.edits(data, (0, 15), (30, 15)),
    "two edits, the second at a key": lambda data: Mp4.edits(data, (0, 15), (36, 15)),
    "two edits, backwards": lambda data: Mp4.edits(data, (40, 15), (3, 15)),
    "the same thrice": lambda data: Mp4.edits(data, (13, 20), (13, 20), (13, 20)),
    "two edits with a pause": lambda data: Mp4.edits(data, (13, 15), (-1, 20), (30, 15)),
    "equal PTS": lambda data: Mp4.durations(data, [512] * 30 + [0] + [512] * (FRAMES - 31)),
    "no keys listed": lambda data: Mp4.put(data, Mp4.TABLE + "stss", bytes(8)),
    "tags that are not UTF-8": lambda data: data.replace(b"VideoHandler", b"Vid\xe9oHandler"),
}


class CountedSource(Source):
    """Remembers what was read."""

    reads: list[tuple[int, int]]

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.reads = []

    def read(self, start: int, stop: int) -> bytes:
        self.reads.append((start, stop))
        return super().read(start, stop)

    @property
    def bytes_read(self) -> int:
        return sum(stop - start for start, stop in self.reads)
