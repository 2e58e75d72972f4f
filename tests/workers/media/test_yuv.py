"""The device's colours are the CPU path's, for every value there is."""

import functools

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.media.decode import rgb
from workers.media.yuv import FULL_RANGE, Colours, to_rgb

HONOURED = {"untagged": 2, "709": 1, "fcc": 4, "470bg": 5, "170m": 6, "240m": 7, "2020": 9}
RANGES = [0, 1, FULL_RANGE]


def frame_of(luma, u, v, matrix, levels):
    """The planes as a frame that a software decoder would give."""
    frame = VideoFrame(luma.shape[1], luma.shape[0], "yuv420p")
    for plane, samples in zip(frame.planes, (luma, u, v), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: samples.shape[0], : samples.shape[1]] = samples
    frame.colorspace, frame.color_range = matrix, levels
    return frame


def check(planes, matrix, levels):
    expected = rgb(frame_of(*planes, matrix, levels))
    ours = to_rgb(*map(torch.from_numpy, planes), Colours(matrix, levels == FULL_RANGE))
    assert np.array_equal(ours.permute(1, 2, 0).numpy(), expected)


@functools.cache
def every_value():
    """Every (Y, U, V): four values of Y fit into the block of a chroma sample."""
    values = np.arange(256, dtype=np.uint8)
    u, v = np.meshgrid(values, values, indexing="ij")
    u, v = (np.tile(plane, (64, 1)) for plane in (u, v))
    luma = np.empty((2 * len(u), 512), np.uint8)
    for number, four in enumerate(values.reshape(-1, 4)):
        block = luma[512 * number : 512 * (number + 1)]
        block[::2, ::2], block[::2, 1::2], block[1::2, ::2], block[1::2, 1::2] = four
    return luma, u, v


@pytest.mark.parametrize("levels", RANGES)
@pytest.mark.parametrize("matrix", HONOURED.values(), ids=HONOURED)
def test_all_values_there_are(matrix, levels):
    check(every_value(), matrix, levels)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40).map(lambda half: 2 * half),
    width=st.integers(2, 90),
    matrix=st.sampled_from(list(HONOURED.values())),
    levels=st.sampled_from(RANGES),
)
def test_chroma_lies_where_the_cpu_has_it(height, width, matrix, levels):
    random = np.random.default_rng(height * width)
    luma = random.integers(0, 256, (height, width), dtype=np.uint8)
    u, v = random.integers(0, 256, (2, height // 2, (width + 1) // 2), dtype=np.uint8)
    check((luma, u, v), matrix, levels)


@pytest.mark.parametrize("size", [(448, 796), (1408, 1408), (1080, 1920)])
def test_sizes_of_cameras(size):
    random = np.random.default_rng(0)
    luma = random.integers(0, 256, size, dtype=np.uint8)
    u, v = random.integers(0, 256, (2, size[0] // 2, size[1] // 2), dtype=np.uint8)
    check((luma, u, v), HONOURED["709"], 1)


def test_what_the_cpu_refuses_or_does_otherwise_is_refused():
    plane = np.zeros((8, 8), np.uint8)
    small = plane[:4, :4]
    for matrix in (8, 10):  # YCgCo, BT.2020 with constant luminance
        with pytest.raises(av.FFmpegError):
            rgb(frame_of(plane, small, small, matrix, 1))
        with pytest.raises(ValueError, match="no plain conversion"):
            to_rgb(*map(torch.from_numpy, (plane, small, small)), Colours(matrix, False))
    with pytest.raises(ValueError, match="no plain conversion"):
        to_rgb(*map(torch.from_numpy, (plane[:7], small, small)), Colours(2, False))


FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "gray", "rgb24"]


def random_frame(rng, name, height, width, matrix, levels):
    frame = av.VideoFrame(width, height, name)
    for plane in frame.planes:
        data = rng.integers(0, 256, plane.buffer_size, dtype=np.uint8)
        if name.endswith("10le"):
            data[1::2] &= 3
        plane.update(data.tobytes())
    frame.colorspace, frame.color_range = matrix, levels
    return frame


def test_the_scaler_of_a_thread_gives_the_pixels_of_a_new_one():
    rng = np.random.default_rng(0)
    kinds = [
        (name, height, width, matrix, levels)
        for name in FORMATS
        for height, width in ((64, 98), (63, 97), (65, 96), (448, 796))
        for matrix in (1, 2, 5, 9)
        for levels in (0, 1, 2)
    ]
    # In any order: what one frame left in the scaler must not show in the next.
    for number in rng.permutation(len(kinds)):
        frame = random_frame(rng, *kinds[number])
        expected = frame.to_ndarray(format="rgb24")
        again = frame.reformat(format="rgb24", threads=1).to_ndarray()
        assert np.array_equal(rgb(frame), expected), kinds[number]
        assert np.array_equal(again, expected), kinds[number]
