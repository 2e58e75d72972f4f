"""Small films of the kinds that cameras make, whose every frame carries its number."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np

from service.demo.footage import burn_frame_number, encode_video, read_frame_number
from tests.fuzz.cells import SIZE, Picture, Vectors, seen
from tests.support.films import FRAGMENTS, STEADY, pictures
from tests.support.mp4 import Mp4
from tests.support.muxer import STEP, mux, track_of

FRAMES = 96
GOP = {"gop": 16, "bframes": 2, "audio": False, "x264_params": STEADY}
X265 = "keyint=16:open-gop={}:scenecut=0:bframes=3:log-level=none"


def _uneven() -> list[int]:
    steps = np.random.default_rng(0).integers(1500, 6000, FRAMES)
    return [int(t) for t in np.cumsum(steps)]


def _hevc(open_gop: bool) -> dict[str, Any]:
    options = {"x265-params": X265.format(int(open_gop))}
    return {"codec": "libx265", "audio": False, "options": options}


VP9 = {"codec": "libvpx-vp9", "gop": 16, "audio": False, "options": {"cpu-used": "8"}}
FILMS: dict[str, dict[str, Any]] = {
    "h264": {**GOP, "audio": True},
    "h264, moov in front": {**GOP, "faststart": True},
    "h264, one group": {"audio": False, "faststart": True, "gop": 250},
    "h264, no b-frames": {**GOP, "bframes": 0, "faststart": True},
    "h264, open groups": {
        "gop": 20,
        "audio": False,
        "faststart": True,
        "open_gop": True,
        "bframes": 5,
        "x264_params": {**STEADY, "b-pyramid": "normal", "b-adapt": 0},
    },
    "h264, sliced": {**GOP, "x264_params": {**STEADY, "slices": 4}},
    "h264, interlaced": {**GOP, "x264_params": {**STEADY, "interlaced": 1}},
    "h264, intra refresh": {**GOP, "bframes": 0, "x264_params": {**STEADY, "intra-refresh": 1}},
    "h264, fragments": {**GOP, "container_options": FRAGMENTS},
    "h264, first frames hidden": {**GOP, "start": Fraction(-1, 3)},
    "h264, two edits": GOP,
    "h264, uneven": {**GOP, "pts": _uneven()},
    "h264, 60 fps": {**GOP, "fps": 60, "faststart": True},
    "hevc": _hevc(False),
    "hevc, open groups": {**_hevc(True), "faststart": True},
    "hevc, fragments": {**_hevc(False), "container_options": FRAGMENTS},
    "vp9": {**VP9, "faststart": True},
    "vp9, fragments": {**VP9, "container_options": FRAGMENTS},
    "mpeg4": {"codec": "mpeg4", "gop": 16, "bframes": 2, "audio": False, "faststart": True},
    "av1": {"codec": "libsvtav1", "gop": 16, "audio": False, "options": {"preset": "12"}},
}  # fmt: skip
SISTER = "h264, sister"


@dataclass(frozen=True)
class Film:
    """A film in memory.

    Attributes:
        name: its kind.
        data: the file.
    """

    name: str
    data: bytes

    @property
    def codec(self) -> str:
        """Name of the codec."""
        return self.name.partition(",")[0]

    @property
    def plain(self) -> bool:
        """Whether its packets and their times are all that there is to it."""
        return not self.name.endswith(("hidden", "edits", "uneven", "60 fps"))

    @cached_property
    def shown(self) -> list[Picture]:
        """The frames that plain PyAV shows, uint8 [H, W, 3]."""
        with av.open(io.BytesIO(self.data)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    @cached_property
    def vectors(self) -> Vectors:
        """What the encoder makes of each of them."""
        return seen(self.shown)

    @cached_property
    def numbers(self) -> list[int]:
        """The number that each shown frame carries."""
        numbers = [read_frame_number(picture) for picture in self.shown]
        assert None not in numbers, self.name
        return [int(number or 0) for number in numbers]

    @cached_property
    def pts(self) -> list[int]:
        """PTS of each shown frame."""
        with av.open(io.BytesIO(self.data)) as container:
            return [int(frame.pts or 0) for frame in container.decode(video=0)]

    @cached_property
    def packets(self) -> list[tuple[int, int]]:
        """Position and size of each video packet, in decode order."""
        with av.open(io.BytesIO(self.data)) as container:
            video = container.demux(video=0)
            return [(int(packet.pos or 0), packet.size) for packet in video if packet.size]


@cache
def make_film(name: str, folder: Path) -> Film:
    """The film of that name, made once in `folder`."""
    path = folder / f"{name}.mp4"
    if not path.exists():
        settings = GOP if name == SISTER else FILMS[name]
        plain = (p for p in pictures(FRAMES, *SIZE, seed=7 if name == SISTER else 0))
        numbered = (burn_frame_number(picture, n) for n, picture in enumerate(plain))
        made = path.with_suffix(".new.mp4")
        encode_video(made, numbered, **settings)
        if name == "h264, two edits":
            made.write_bytes(Mp4.edits(made.read_bytes(), (0, 30), (48, 48)))
        made.rename(path)
    return Film(name, path.read_bytes())


def without(film: Film, lost: set[int]) -> bytes:
    """An ordinary file of the film's packets but for some; the others keep their times."""
    track = track_of(film.data)
    kept = [n for n in range(len(track.samples)) if n not in lost]
    samples = [track.samples[n] for n in kept]
    after = [*(s.dts for s in samples[1:]), samples[-1].dts + STEP]
    durations = [b - s.dts for s, b in zip(samples, after, strict=True)]
    return mux(replace(track, samples=samples, durations=durations))
