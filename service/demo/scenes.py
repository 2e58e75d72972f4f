"""The example's video files: parts of the originals, scaled, numbered and encoded."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from service.demo.footage import RgbFrame, burn_frame_number, encode_video, rgb_pixels
from service.demo.originals import pictures, shown
from service.demo.takes import Size, Take, View, video_path

FPS = 30
_AT_ONCE = 4


def encode_take(take: Take, root: Path) -> None:
    """Write all video files of a take.

    Args:
        take: Which.
        root: The data set's root, or a folder that stands for it.
    """
    # Each holds an original's pictures in memory, up to 160 MB.
    with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1)) as pool:
        jobs = [
            pool.submit(_encode, take, view, root, small)
            for view in take.views
            for small in (True, False)
        ]
        for done in jobs:
            done.result()


def _encode(take: Take, view: View, root: Path, small: bool) -> None:
    encode_video(
        root / video_path(take, view, small=small),
        _see(take, view, view.small if small else view.full),
        fps=FPS,
        faststart=view.faststart,
        colors=view.colors,
        audio=view.sound,
        layout="stereo",
        preset="superfast",
        # Always three B-frames, where x264 would use few in quick motion.
        x264_params={"b-adapt": 0},
    )


def _see(take: Take, view: View, size: Size) -> Iterator[RgbFrame]:
    """The pictures of one stream at one size: crop, scale, number."""
    scaler = VideoReformatter()
    parts = [_part(p, view, size, scaler) for p in pictures(take.original, view.camera)]
    black = np.zeros((size[1], size[0], 3), np.uint8)
    for number in range(take.frames - view.missing_frames):
        rgb = black if number % view.every else parts[shown(number)]
        yield burn_frame_number(rgb, number) if take.numbered else rgb


def _part(picture: RgbFrame, view: View, size: Size, scaler: VideoReformatter) -> RgbFrame:
    height, width = picture.shape[:2]
    left, top = round(view.crop[0] * width), round(view.crop[1] * height)
    right = min(width, left + round(view.crop[2] * width))
    bottom = min(height, top + round(view.crop[3] * height))
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    scaled = scaler.reformat(
        av.VideoFrame.from_ndarray(part, format="rgb24"),
        *size,
        interpolation=Interpolation.FAST_BILINEAR,
    )
    rgb = rgb_pixels(scaled)
    return np.repeat(rgb[:, :, 1:2], 3, axis=2) if view.gray else rgb
