"""Preprocessing against PIL and the processors of `transformers`."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.image_transforms import center_crop, get_resize_output_image_size

from configs.preprocess import PreprocessSpec
from models import preprocess
from models.preprocess import frame_to_tensor, normalise, resize_and_crop, resized_shape

SIZES = [(449, 333), (333, 449), (448, 796), (20, 30), (30, 20), (224, 224), (256, 341), (97, 1000)]
PIL_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SIDE = st.integers(1, 3000)


def shortest(edge, crop, interpolation="bilinear"):
    return PreprocessSpec(resize=edge, crop=crop, interpolation=interpolation)


@given(height=SIDE, width=SIDE, edge=st.integers(1, 600))
@settings(max_examples=300, deadline=None)
def test_shortest_edge_is_that_of_the_processors(height, width, edge):
    ours = resized_shape(height, width, shortest(edge, (1, 1)))
    # Whole numbers only: the long side is the floor of the exact ratio.
    floor = edge * max(height, width) // min(height, width)
    assert ours == ((floor, edge) if height >= width else (edge, floor))
    # A view of one byte: the hub's function only looks at the shape.
    blank = np.broadcast_to(np.uint8(0), (height, width, 3))
    theirs = get_resize_output_image_size(
        blank, edge, default_to_square=False, input_data_format="channels_last"
    )
    assert ours == tuple(theirs)


def test_exact_size_ignores_the_aspect_ratio():
    spec = PreprocessSpec(resize=(50, 70))
    assert resized_shape(448, 796, spec) == (50, 70)
    assert resize_and_crop(torch.zeros(2, 3, 448, 796, dtype=torch.uint8), spec).shape == (
        2,
        3,
        50,
        70,
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_are_within_one_level_of_pil(picture, height, width, interpolation):
    frame = picture(height, width)
    spec = shortest(256, (224, 224), interpolation)
    tall, wide = resized_shape(height, width, spec)
    resized = Image.fromarray(frame).resize((wide, tall), PIL_FILTERS[interpolation])
    expected = center_crop(
        np.asarray(resized), (224, 224), input_data_format="channels_last"
    ).astype(int)
    ours = resize_and_crop(frame_to_tensor(frame), spec)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(ours - expected).max() <= 1
    # Few pixels differ at all, so this is no shift of half a pixel hidden by smooth shades.
    assert (ours != expected).mean() < 0.06


@given(
    height=st.integers(8, 60),
    width=st.integers(8, 60),
    crop=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
@settings(max_examples=150, deadline=None)
def test_crop_is_that_of_the_processors(height, width, crop):
    random = np.random.default_rng(height * 100 + width)
    frame = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    # Resizing to what the picture has already leaves the crop alone to be looked at.
    ours = resize_and_crop(frame_to_tensor(frame), shortest(min(height, width), crop))
    expected = center_crop(frame, crop, input_data_format="channels_last")
    assert np.array_equal(ours[0].permute(1, 2, 0).numpy(), expected)


@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    crop=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
@settings(max_examples=200, deadline=None)
def test_crop_pads_with_zeros_where_the_picture_is_too_small(height, width, crop):
    frame = np.arange(1, 1 + height * width * 3, dtype=np.int64).reshape(height, width, 3)
    frame = (frame % 255 + 1).astype(np.uint8)  # no zero in the picture
    ours = resize_and_crop(
        frame_to_tensor(frame), PreprocessSpec(resize=(height, width), crop=crop)
    )
    canvas = ours[0].permute(1, 2, 0).numpy()
    assert canvas.shape == (*crop, 3)
    rows, columns = (_span(have, want) for have, want in zip((height, width), crop, strict=True))
    expected = np.zeros((*crop, 3), np.uint8)
    expected[rows[1], columns[1]] = frame[rows[0], columns[0]]
    assert np.array_equal(canvas, expected)


def _span(have: int, want: int) -> tuple[slice, slice]:
    """Where a side of `have` pixels is read and where it lands in one of `want` pixels."""
    if have >= want:
        first = (have - want) // 2
        return slice(first, first + want), slice(0, want)
    first = (want - have) // 2
    return slice(0, have), slice(first, first + have)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_layouts_and_batches_agree(picture, interpolation):
    spec = shortest(128, (112, 112), interpolation)
    frames = torch.cat([frame_to_tensor(picture(300, 401, seed)) for seed in range(3)])
    together = resize_and_crop(frames.contiguous(), spec)
    alone = torch.cat(
        [resize_and_crop(frame_to_tensor(picture(300, 401, s)), spec) for s in range(3)]
    )
    assert torch.equal(together, alone)


def test_the_result_owns_its_memory(picture):
    frame = picture(256, 341)
    spec = shortest(256, (224, 224))
    small = resize_and_crop(frame_to_tensor(frame), spec)
    assert small.untyped_storage().nbytes() == 224 * 224 * 3
    same = resize_and_crop(frame_to_tensor(frame), PreprocessSpec(resize=(256, 341)))
    before = same.clone()
    frame[:] = 0
    assert torch.equal(same, before)


def test_threads_do_not_disturb_each_other(picture):
    spec = shortest(128, (112, 112), "bicubic")
    frames = [picture(240, 320 + seed, seed) for seed in range(16)]
    alone = [resize_and_crop(frame_to_tensor(frame), spec) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda f: resize_and_crop(frame_to_tensor(f), spec), frames * 4))
    assert all(torch.equal(a, b) for a, b in zip(alone * 4, together, strict=True))


def test_frame_to_tensor_shares_memory_where_it_can(picture):
    frame = picture(20, 30)
    tensor = frame_to_tensor(frame)
    assert tensor.shape == (1, 3, 20, 30)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    frame[3, 4, 2] = 77
    assert tensor[0, 2, 3, 4] == 77
    flipped = frame_to_tensor(frame[::-1])
    assert flipped[0, 2, 16, 4] == 77
    frame.setflags(write=False)
    assert frame_to_tensor(frame)[0, 2, 3, 4] == 77


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_frame_to_tensor_refuses_other_arrays(bad):
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        frame_to_tensor(bad)


def test_resize_refuses_other_tensors():
    with pytest.raises(ValueError, match="expected uint8"):
        resize_and_crop(torch.zeros(1, 3, 8, 8), shortest(4, (4, 4)))


def test_normalise_is_the_formula(picture):
    spec = PreprocessSpec(resize=(8, 9), scale=1 / 127.5, mean=(1.1, 1.2, 1.3), std=(0.2, 0.3, 0.4))
    clips = torch.from_numpy(picture(8, 9)).permute(2, 0, 1).expand(2, 4, 3, 8, 9)
    x = clips.numpy().astype(np.float64)
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (spec.mean, spec.std))
    expected = (x / 127.5 - mean) / std
    ours = normalise(clips, spec)
    assert ours.dtype == torch.float32
    assert np.abs(ours.numpy() - expected).max() < 1e-5
    half = normalise(clips, spec, torch.bfloat16)
    assert torch.equal(half, ours.to(torch.bfloat16))


def test_normalise_keeps_the_layout():
    clips = torch.zeros(2, 3, 8, 9, dtype=torch.uint8).to(memory_format=torch.channels_last)
    ours = normalise(clips, PreprocessSpec(resize=(8, 9)))
    assert ours.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([(448, 796), (796, 448), (448, 448), (540, 960), (272, 640)])
    | st.tuples(st.integers(60, 500), st.integers(60, 500)),
    edge=st.sampled_from([64, 224, 256, 292, 384]),
    crop=st.sampled_from([56, 182, 224, 256]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    padding=st.sampled_from([0, 1, 4, 13]),
    seed=st.integers(0, 99),
)
def test_resizing_what_the_crop_keeps_changes_no_pixel(
    size, edge, crop, interpolation, padding, seed
):
    """Also where rows are longer than the picture, as libav's are."""
    spec = PreprocessSpec(resize=edge, crop=(crop, crop), interpolation=interpolation)
    padded = (size[0], size[1] + padding, 3)
    frame = np.random.default_rng(seed).integers(0, 256, padded, dtype=np.uint8)[:, : size[1]]
    frames = frame_to_tensor(frame)
    shape = resized_shape(*size, spec)
    resized = torch.nn.functional.interpolate(frames, shape, mode=interpolation, antialias=True)
    whole = preprocess._centre_crop(resized, spec.crop)
    assert torch.equal(resize_and_crop(frames, spec), whole)


def test_of_the_data_sets_pictures_a_third_less_is_resized():
    spec = PreprocessSpec(resize=256, crop=(224, 224), interpolation="bicubic")
    for size in ((448, 796), (540, 960), (2160, 3840)):
        part = preprocess._part(size, resized_shape(*size, spec), spec)
        assert part is not None
        height, width = resized_shape(*size, spec)
        assert part.rows.outputs * part.columns.outputs < 0.75 * height * width
