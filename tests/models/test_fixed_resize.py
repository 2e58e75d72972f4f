"""The resize that runs on a GPU gives the bits of torch's CPU kernel; shown on CPU tensors."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.preprocess import PreprocessSpec
from models import preprocess
from models.fixed_resize import fixed_resize
from models.preprocess import resize_and_crop

SIZES = [
    ((448, 796), (224, 398)), ((448, 796), (256, 454)), ((1408, 1408), (224, 224)),
    ((2160, 3840), (256, 455)), ((796, 448), (398, 224)), ((120, 160), (256, 341)),
    ((448, 796), (448, 398)), ((448, 796), (224, 796)), ((100, 101), (37, 300)),
]  # fmt: skip


def picture(height, width, seed=0):
    """Noise, which overshoots, with flat white and black beside it, which must stay so."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8, generator=generator)
    frame[:, : height // 4] = 255
    frame[:, :, : width // 4] = 0
    return frame.permute(0, 3, 1, 2)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "shape"), SIZES)
def test_bits_are_those_of_the_cpu_kernel(size, shape, interpolation):
    frames = picture(*size)
    expected = F.interpolate(frames, shape, mode=interpolation, antialias=True)
    assert torch.equal(fixed_resize(frames.contiguous(), shape, interpolation), expected)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_any_size(size, shape, interpolation):
    frames = picture(*size, seed=size[0])
    expected = F.interpolate(frames, shape, mode=interpolation, antialias=True)
    assert torch.equal(fixed_resize(frames.contiguous(), shape, interpolation), expected)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(20, 200), st.integers(20, 200)),
    resize=st.one_of(st.integers(8, 90), st.tuples(st.integers(8, 90), st.integers(8, 90))),
    crop=st.tuples(st.integers(4, 100), st.integers(4, 100)),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_resize_and_crop_is_the_same_on_a_device(size, resize, crop, interpolation):
    spec = PreprocessSpec(resize=resize, crop=crop, interpolation=interpolation)
    frames = picture(*size)
    shape = preprocess.resized_shape(*size, spec)
    assert torch.equal(
        preprocess._on_device(frames.contiguous(), shape, spec), resize_and_crop(frames, spec)
    )


def test_what_is_not_resized_is_copied_all_the_same():
    spec = PreprocessSpec(resize=(40, 60), crop=(40, 60))
    frames = picture(40, 60).contiguous()
    kept = preprocess._on_device(frames, (40, 60), spec)
    expected = frames.clone()
    frames.zero_()
    assert torch.equal(kept, expected)


@pytest.mark.slow
def test_no_sum_reaches_what_float32_cannot_hold():
    # From the largest camera to the smallest input: the most and the smallest weights.
    for interpolation in ("bilinear", "bicubic"):
        for level in (255, 254):
            frames = torch.full((1, 3, 4320, 7680), level, dtype=torch.uint8)
            assert (fixed_resize(frames, (112, 112), interpolation) == level).all()
