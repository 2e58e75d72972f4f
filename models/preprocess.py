"""From decoded pictures to the network's input: resize and crop as uint8, then normalise.

The decode threads call `resize_and_crop` for each frame; the encoder calls `normalise` for each
batch. Keeping the picture uint8 in between is what the hub's processors do and makes a ring of
frames four times smaller.

The geometry is that of the processors in `transformers` 5 (`image_processing_backends.py`, the
torchvision backend, which is the one that runs by default there): the long side of a shortest-edge
resize is truncated, crop offsets are truncated, and a picture smaller than the crop is padded with
zeros.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import PreprocessSpec

# Part of every `encoder_id`: raise it whenever the same picture and spec give other numbers.
PREPROCESSING_VERSION = 1


def frame_to_tensor(frame: NDArray[np.uint8]) -> Tensor:
    """An RGB picture uint8 [H, W, 3] as uint8 [1, 3, H, W], sharing its memory.

    The result is laid out channels-last, which is the fast path of `resize_and_crop` on CPU.
    Arrays that torch cannot share (read-only, or with negative strides) are copied.
    Raises ValueError for another shape or dtype.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"expected uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}")
    if not frame.flags.writeable or min(frame.strides) < 0:
        frame = frame.copy(order="C")
    return torch.from_numpy(frame).permute(2, 0, 1).unsqueeze(0)


def resized_shape(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int]:
    """(height, width) in pixels that a picture of `height` × `width` has before the crop."""
    if isinstance(spec.resize, tuple):
        return spec.resize
    long = int(spec.resize * max(height, width) / min(height, width))
    return (long, spec.resize) if width <= height else (spec.resize, long)


def resize_and_crop(frames: Tensor, spec: PreprocessSpec) -> Tensor:
    """Pictures uint8 [N, 3, H, W] on any device, resized and centre-cropped to uint8 [N, 3, h, w].

    (h, w) is `spec.size`. The result owns its memory and keeps the layout of `frames`: on CPU give
    channels-last frames (`frame_to_tensor`), which resize two to three times faster. One picture is
    resized by one thread without the GIL, so one Python thread per stream uses the cores well.
    Device and values: CPU uses torch's fixed-point uint8 kernel; CUDA, which has none, computes in
    float32 and rounds. Both stay within one level of PIL.
    Raises ValueError for another shape or dtype.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"expected uint8 [N, 3, H, W], got {frames.dtype} {list(frames.shape)}")
    shape = resized_shape(frames.shape[2], frames.shape[3], spec)
    resized = frames if shape == tuple(frames.shape[2:]) else _resize(frames, shape, spec)
    cropped = resized if spec.crop is None else _centre_crop(resized, spec.crop)
    shares = cropped.untyped_storage().data_ptr() == frames.untyped_storage().data_ptr()
    # A crop is a view: without a copy it would keep the whole resized picture alive in the ring.
    return cropped.clone() if shares or cropped.shape != resized.shape else cropped


def normalise(clips: Tensor, spec: PreprocessSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 [..., 3, H, W] → (x * scale - mean) / std as `dtype`, on the device of `clips`.

    Computed in float32 whatever `dtype`, so that bfloat16 rounds once.
    """
    std = torch.tensor(spec.std, dtype=torch.float64)
    gain = (spec.scale / std).to(clips.device, torch.float32).view(3, 1, 1)
    offset = (-torch.tensor(spec.mean, dtype=torch.float64) / std).to(clips.device, torch.float32)
    return clips.to(torch.float32).mul_(gain).add_(offset.view(3, 1, 1)).to(dtype)


def _resize(frames: Tensor, shape: tuple[int, int], spec: PreprocessSpec) -> Tensor:
    if frames.device.type != "cpu":
        return _resize_in_float(frames, shape, spec.interpolation)
    return F.interpolate(frames, shape, mode=spec.interpolation, antialias=True)


def _resize_in_float(frames: Tensor, shape: tuple[int, int], interpolation: str) -> Tensor:
    exact = F.interpolate(frames.float(), shape, mode=interpolation, antialias=True)
    # Bicubic overshoots at edges, and a float outside 0..255 would wrap around.
    return exact.round_().clamp_(0, 255).to(torch.uint8)


def _centre_crop(frames: Tensor, crop: tuple[int, int]) -> Tensor:
    missing = [max(0, want - have) for want, have in zip(crop, frames.shape[2:], strict=True)]
    if any(missing):
        (down, right) = missing
        frames = F.pad(frames, (right // 2, right - right // 2, down // 2, down - down // 2))
    top, left = ((have - want) // 2 for have, want in zip(frames.shape[2:], crop, strict=True))
    return frames[:, :, top : top + crop[0], left : left + crop[1]]
