"""Preprocessing as the makers of the official features did it, against their own steps in torch.

Their steps: facebookresearch/Ego4d, `ego4d/features/models/{omnivore,maws}.py`, whose requirements
pin torchvision 0.12; pytorchvideo 0.1.5, `transforms/functional.py`; torchvision 0.12 and 0.15,
`transforms/functional.py` and `_functional_video.py`.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from configs.preprocess import PreprocessSpec
from models.preprocess import frame_to_tensor, normalise, resize_and_crop, resized_shape

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
OMNIVORE = PreprocessSpec(resize=256, crop=(224, 224), method="float")
MAWS = PreprocessSpec(resize=224, interpolation="bicubic", crop=(224, 224), method="float")
# The data set's own sizes, upright and lying, 448 ones, and sizes that need the picture enlarged.
SIZES = [
    (1408, 1408), (2160, 3840), (3840, 2160), (480, 640), (640, 480), (448, 796), (598, 448),
    (240, 640), (97, 210), (448, 449),
]  # fmt: skip


def omnivores(frame: Tensor) -> Tensor:
    """float32 [3, H, W], 0 to 255 → float32 [3, 224, 224]."""
    x = (frame / 255.0).sub(MEAN).div(STD)[:, None]
    height, width = x.shape[2:]
    if width < height:
        size = (math.floor((float(height) / width) * 256), 256)
    else:
        size = (256, math.floor((float(width) / height) * 256))
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    top, left = round((size[0] - 224) / 2.0), round((size[1] - 224) / 2.0)
    return x[:, 0, top : top + 224, left : left + 224]


def maws(frame: Tensor) -> Tensor:
    """float32 [3, H, W], 0 to 255 → float32 [3, 224, 224]."""
    x = frame / 255.0
    height, width = x.shape[1:]
    short, long = (width, height) if width <= height else (height, width)
    new_long = int(224 * long / short)
    size = (new_long, 224) if width <= height else (224, new_long)
    x = F.interpolate(x[None], size=size, mode="bicubic", align_corners=False)[0]
    top, left = round((size[0] - 224) / 2.0), round((size[1] - 224) / 2.0)
    return x[:, top : top + 224, left : left + 224].sub(MEAN).div(STD)


@pytest.mark.parametrize(("spec", "theirs"), [(OMNIVORE, omnivores), (MAWS, maws)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_are_theirs(picture, height, width, spec, theirs):
    frame = picture(height, width)
    ours = resize_and_crop(frame_to_tensor(frame), spec)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()
    expected = theirs(torch.from_numpy(frame).permute(2, 0, 1).float())
    assert float((normalise(ours, spec)[0] - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("spec", [OMNIVORE, MAWS])
def test_another_method_gives_other_pixels(picture, spec):
    # Antialiasing, rounding and the crop's offset, at the size of the data set's GoPros.
    frames = frame_to_tensor(picture(2160, 3840))
    plain = resize_and_crop(frames, spec.model_copy(update={"method": "pil"})).float()
    assert float((resize_and_crop(frames, spec) - plain).abs().mean()) > 1


def test_the_crop_of_a_gopro_starts_at_their_column():
    # 455 columns: half of what is cut off is 115.5, which they round to 116.
    columns = torch.arange(3840, dtype=torch.float32) / 3840 * 255
    frame = columns.to(torch.uint8).expand(1, 3, 2160, 3840)
    assert resized_shape(2160, 3840, OMNIVORE) == (256, 455)
    cut = resize_and_crop(frame.contiguous(), OMNIVORE)
    whole = F.interpolate(frame[:, :, :256].float(), (256, 455), mode="bilinear")
    assert torch.equal(cut[0, 0, 0], whole[0, 0, 0, 116:340])


@given(short=st.integers(1, 3000), more=st.integers(0, 3000))
@settings(max_examples=300, deadline=None)
def test_the_long_side_is_theirs(short, more):
    # pytorchvideo floors a ratio in float64 times 256, which is exact for a power of two.
    long = short + more
    assert resized_shape(short, long, OMNIVORE) == (256, math.floor(float(long) / short * 256))
    assert resized_shape(short, long, MAWS) == (224, int(224 * long / short))


def test_normalising_floats_leaves_them_alone(picture):
    clip = resize_and_crop(frame_to_tensor(picture(300, 400)), OMNIVORE)
    before = clip.clone()
    normalise(clip, OMNIVORE)
    assert torch.equal(clip, before)


def test_the_default_method_is_not_named_in_stores():
    assert "method" not in PreprocessSpec(resize=(8, 8)).model_dump(mode="json")
    assert OMNIVORE.model_dump(mode="json")["method"] == "float"
    assert PreprocessSpec.model_validate(OMNIVORE.model_dump()) == OMNIVORE
    assert OMNIVORE.sizing.method == "float"
