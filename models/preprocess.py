"""From decoded pictures to the network's input: resize and crop as uint8, then normalise.

The decode threads call `resize_and_crop` for each frame; the encoder calls `normalise` for each
batch. Keeping the picture uint8 in between is what the hub's processors do and makes a ring of
frames four times smaller.

The geometry is that of the processors in `transformers` 5 (`image_processing_backends.py`, the
torchvision backend, which is the one that runs by default there): the long side of a shortest-edge
resize is truncated, crop offsets are truncated, and a picture smaller than the crop is padded with
zeros. A preset may follow the makers of a network instead (`PreprocessSpec.method`), who resized
float tensors; such pictures are float32, and four times as large.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil, floor, gcd
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from configs.preprocess import PreprocessSpec
from models.fixed_resize import fixed_resize

# Pictures, or clips, of one shape: a tensor with one more dimension, or one tensor for each.
Pictures = Tensor | Sequence[Tensor]


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
    """Pictures resized and centre-cropped.

    On CPU give channels-last frames (`frame_to_tensor`), which resize two to three times faster.
    One picture is resized by one thread without the GIL, so one Python thread per stream uses the
    cores well. Every device gives the values of torch's fixed-point CPU kernel
    (`models.fixed_resize`), which stay within one level of PIL. What is not rounded is computed in
    float32, and devices differ by its rounding.

    Args:
        frames: uint8 [N, 3, H, W], on any device.
        spec: the sizes.

    Returns:
        uint8 [N, 3, h, w], (h, w) being `spec.size`, on the device of `frames`. It owns its memory;
        on CPU it keeps the layout of `frames`. Where `spec` rounds nothing it is float32 of the
        same range, contiguous.

    Raises:
        ValueError: another shape or dtype.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"expected uint8 [N, 3, H, W], got {frames.dtype} {list(frames.shape)}")
    shape = resized_shape(frames.shape[2], frames.shape[3], spec)
    if not spec.rounded:
        return _in_float(frames, shape, spec)
    if frames.device.type != "cpu":
        return _on_device(frames, shape, spec)
    same = shape == tuple(frames.shape[2:])
    part = None if same else _part(tuple(frames.shape[2:]), shape, spec)
    if part is not None:
        return part.resized(frames, spec.interpolation).clone()
    resized = frames if same else _resize(frames, shape, spec)
    cropped = resized if spec.crop is None else _centre_crop(resized, spec.crop)
    shares = _shares(cropped, frames)
    # A crop is a view: without a copy it would keep the whole resized picture alive in the ring.
    return cropped.clone() if shares or cropped.shape != resized.shape else cropped


def normalise(clips: Tensor, spec: PreprocessSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 or float [..., 3, H, W] → (x * scale - mean) / std as `dtype`, on the same device.

    Computed in float32 whatever `dtype`, so that bfloat16 rounds once.
    """
    gain, offset = _gain_and_offset(spec.scale, spec.mean, spec.std, clips.device)
    return clips.to(torch.float32, copy=True).mul_(gain).add_(offset).to(dtype)


@lru_cache(maxsize=16)
def _gain_and_offset(
    scale: float, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    # Kept, because a copy to a GPU waits for all earlier work on its stream.
    with torch.inference_mode(False):
        deviation = torch.tensor(std, dtype=torch.float64)
        gain = (scale / deviation).to(device, torch.float32)
        offset = (-torch.tensor(mean, dtype=torch.float64) / deviation).to(device, torch.float32)
        return gain.view(3, 1, 1), offset.view(3, 1, 1)


def stacked(pictures: Pictures) -> Tensor:
    """Pictures (or clips) of one shape, uint8 or float32 [..., 3, H, W], as one tensor of all.

    On CPU they are laid out as single pictures are, channels last, so that it is a plain copy.
    """
    if isinstance(pictures, Tensor):
        return pictures
    if pictures[0].device.type != "cpu":
        return torch.stack(list(pictures))
    return torch.stack([picture.movedim(-3, -1) for picture in pictures]).movedim(-1, -3)


def picture_dtype(spec: PreprocessSpec) -> torch.dtype:
    """Of the pictures that `resize_and_crop` makes."""
    return torch.uint8 if spec.rounded else torch.float32


def _in_float(frames: Tensor, shape: tuple[int, int], spec: PreprocessSpec) -> Tensor:
    # Channel by channel: a whole 4K picture in float32 would take 100 MB.
    channels = [
        F.interpolate(frames[:, n : n + 1].float(), shape, mode=spec.interpolation)
        for n in range(3)
    ]
    resized = torch.cat(channels, dim=1)
    return resized if spec.crop is None else _centre_crop(resized, spec.crop, round).contiguous()


def _resize(frames: Tensor, shape: tuple[int, int], spec: PreprocessSpec) -> Tensor:
    return F.interpolate(frames, shape, mode=spec.interpolation, antialias=True)


class _Axis(NamedTuple):
    """What has to be resized along one axis for a crop, and what of it is cut off afterwards.

    Attributes:
        start, stop: input samples that are resized.
        outputs: samples that they become.
        skip: of those, how many come before the crop.
        scale: output samples for an input sample.
    """

    start: int
    stop: int
    outputs: int
    skip: int
    scale: float

    @classmethod
    def of(cls, size: int, target: int, crop: int, taps: int) -> "_Axis":
        offset = (target - crop) // 2
        scale = size / target
        support = taps / 2 * max(scale, 1.0)
        # Weights are the same where a step of the output is a whole number of input samples; what
        # stands nearer to the new border than the filter reaches would differ, so it is cut off.
        whole = target // gcd(size, target)
        before = max(0, offset - ceil(support / scale) - 1) // whole * whole
        stop = ceil(scale * (offset + crop - 0.5) + support) + 1
        return cls(
            before * size // target,
            min(size, stop),
            offset + crop - before,
            offset - before,
            target / size,
        )


class _Part(NamedTuple):
    """The part of a picture that a crop keeps, resized alone."""

    rows: _Axis
    columns: _Axis

    def resized(self, frames: Tensor, interpolation: str) -> Tensor:
        rows, columns = self
        kernel = getattr(torch.ops.aten, f"_upsample_{interpolation}2d_aa").default
        taken = frames[:, :, rows.start : rows.stop, columns.start : columns.stop]
        if columns.stop < frames.shape[3]:
            taken = _unbroken(taken, columns.outputs)
        outputs = (rows.outputs, columns.outputs)
        whole: Tensor = kernel(taken, outputs, False, rows.scale, columns.scale)
        return whole[:, :, rows.skip :, columns.skip :]


def _unbroken(picture: Tensor, outputs: int) -> Tensor:
    """A part of a picture with all that lies behind it in its rows, if then it need not be copied.

    The kernel copies what has gaps in memory: rows of which a part is cut off, and rows that
    libav pads. For `outputs` columns that end before the part's last one it reads none of the rest.
    It resizes nothing where they are as many as it is given, whatever the scale.
    """
    rows, line = picture.shape[2], picture.stride(2)
    behind = picture.untyped_storage().nbytes() - picture.storage_offset()
    fits = len(picture) == 1 and line % 3 == 0 and rows * line <= behind
    if not fits or picture.stride()[1::2] != (1, 3) or line // 3 == outputs:
        return picture
    return picture.as_strided((1, 3, rows, line // 3), (rows * line, 1, line, 3))


@lru_cache(maxsize=64)
def _part(size: tuple[int, int], shape: tuple[int, int], spec: PreprocessSpec) -> _Part | None:
    """The part to resize, tried on noise; None where that is nothing less, or not the same."""
    if spec.crop is None or any(want > have for want, have in zip(spec.crop, shape, strict=True)):
        return None
    taps = {"bilinear": 2, "bicubic": 4}[spec.interpolation]
    part = _Part(*(_Axis.of(*axis, taps) for axis in zip(size, shape, spec.crop, strict=True)))
    if part.rows.outputs * part.columns.outputs > 0.9 * shape[0] * shape[1]:
        return None
    generator = torch.Generator().manual_seed(0)
    # Rows longer than the picture, as libav lays them.
    padded = (1, size[0], size[1] + 4, 3)
    noise = torch.randint(0, 256, padded, dtype=torch.uint8, generator=generator)
    frames = noise.permute(0, 3, 1, 2)[..., : size[1]]
    whole = _centre_crop(_resize(frames, shape, spec), spec.crop)
    return part if torch.equal(part.resized(frames, spec.interpolation), whole) else None


def _on_device(frames: Tensor, shape: tuple[int, int], spec: PreprocessSpec) -> Tensor:
    crop = spec.crop or shape
    if crop[0] > shape[0] or crop[1] > shape[1]:
        return _centre_crop(fixed_resize(frames, shape, spec.interpolation), crop)
    window = tuple(
        slice((have - want) // 2, (have - want) // 2 + want)
        for have, want in zip(shape, crop, strict=True)
    )
    cut = fixed_resize(frames, shape, spec.interpolation, (window[0], window[1]))
    return cut.clone() if _shares(cut, frames) else cut


def _shares(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _centre_crop(
    frames: Tensor, crop: tuple[int, int], whole: Callable[[float], int] = floor
) -> Tensor:
    missing = [max(0, want - have) for want, have in zip(crop, frames.shape[2:], strict=True)]
    if any(missing):
        (down, right) = missing
        frames = F.pad(frames, (right // 2, right - right // 2, down // 2, down - down // 2))
    top, left = (
        whole((have - want) / 2) for have, want in zip(frames.shape[2:], crop, strict=True)
    )
    return frames[:, :, top : top + crop[0], left : left + crop[1]]
