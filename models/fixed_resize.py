"""Antialiased resize of uint8 pictures on any device, bit for bit as torch's CPU kernel has it.

torch resizes uint8 on CPU in fixed point: columns first, then rows, each pass with 16-bit weights,
its sums rounded, shifted and clamped back to uint8 (`aten/src/ATen/native/cpu/UpSampleKernel.cpp`,
`_compute_index_ranges_int16_weights`). CUDA has no such kernel, and its float one differs in 6 to
20 % of the values, by up to 18 levels where bicubic weights overshoot between the passes. Here the
same sums are matrix products. A 16-bit weight is split into two bytes, so every factor is an
integer of eight bits and every partial sum one of fewer than 24: float32 holds them exactly, and so
do tensor cores that multiply float16 and add in float32.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TAPS = {"bilinear": 2, "bicubic": 4}


def fixed_resize(
    frames: Tensor,
    shape: tuple[int, int],
    interpolation: str,
    window: tuple[slice, slice] | None = None,
) -> Tensor:
    """Pictures resized to `shape`, of which only `window` is computed.

    Equal to `F.interpolate(frames.cpu(), shape, mode=interpolation, antialias=True)[..., window]`.

    Args:
        frames: uint8 [N, C, H, W], on any device.
        shape: height and width after the resize.
        interpolation: `bilinear` or `bicubic`.
        window: rows and columns of the resized picture that are wanted; all by default.

    Returns:
        uint8 [N, C, rows, columns], on the device of `frames`; may share their memory.
    """
    rows, columns = window or (slice(0, shape[0]), slice(0, shape[1]))
    height, width = frames.shape[2:]
    top, bottom = _needed(height, shape[0], interpolation, rows)
    frames = frames[:, :, top:bottom]
    if width == shape[1]:
        frames = frames[..., columns]
    else:
        frames = _pass(frames, width, shape[1], interpolation, columns, 0)
    if height == shape[0]:
        return frames
    turned = _pass(frames.transpose(2, 3), height, shape[0], interpolation, rows, top)
    return turned.transpose(2, 3).contiguous()


def _needed(size: int, target: int, interpolation: str, wanted: slice) -> tuple[int, int]:
    if size == target:
        return wanted.start, wanted.stop
    weights, _ = _weights(size, target, interpolation)
    used = np.flatnonzero(weights[wanted].any(0))
    return int(used[0]), int(used[-1]) + 1


def _pass(
    frames: Tensor, size: int, target: int, interpolation: str, wanted: slice, offset: int
) -> Tensor:
    """The last axis resized, outputs `wanted` of it; `frames` holds its inputs from `offset` on."""
    start, weights, bits = _bytes(
        size, target, interpolation, wanted.start, wanted.stop, frames.device
    )
    taken = frames[..., start - offset : start - offset + len(weights)]
    taken = taken.to(weights.dtype, memory_format=torch.contiguous_format)
    sums = _product(taken.flatten(0, -2), weights).to(torch.int32)
    low, high = sums.chunk(2, -1)
    whole = torch.add(low, high, alpha=256).add_(1 << (bits - 1)).bitwise_right_shift_(bits)
    return whole.clamp_(0, 255).to(torch.uint8).view(*frames.shape[:-1], -1)


def _product(pictures: Tensor, weights: Tensor) -> Tensor:
    if weights.dtype == torch.float32:
        return pictures @ weights
    return torch.mm(pictures, weights, out_dtype=torch.float32)


@lru_cache(maxsize=64)
def _bytes(
    size: int, target: int, interpolation: str, first: int, last: int, device: torch.device
) -> tuple[int, Tensor, int]:
    """Where the inputs of outputs `[first, last)` begin, their weights, and the shift.

    weights: [inputs, 2 · outputs], low bytes, then high bytes.
    """
    weights, bits = _weights(size, target, interpolation)
    part = weights[first:last]
    used = np.flatnonzero(part.any(0))
    start, stop = int(used[0]), int(used[-1]) + 1
    part = part[:, start:stop].T
    split = np.concatenate([part & 255, part >> 8], axis=1).astype(np.float32)
    # Kept for later callers, of which some are not in inference mode.
    with torch.inference_mode(False):
        return start, torch.from_numpy(split).to(device, _exact_type(device)), bits


@lru_cache(maxsize=8)
def _exact_type(device: torch.device) -> torch.dtype:
    """float16 where a trial shows that the device adds its products exactly; else float32."""
    if device.type == "cpu":
        return torch.float32
    generator = torch.Generator().manual_seed(0)
    for inputs in (64, 512, 4096):
        pictures = torch.randint(0, 256, (512, inputs), generator=generator)
        # As many taps as a resize from the largest camera has, of the largest bytes.
        weights = torch.randint(192, 256, (inputs, 448), generator=generator)
        weights *= torch.rand(inputs, 448, generator=generator) < min(1, 48 / inputs)
        try:
            sums = _product(pictures.to(device, torch.float16), weights.to(device, torch.float16))
        except (RuntimeError, TypeError, NotImplementedError):
            return torch.float32
        if not torch.equal(sums.cpu().long(), pictures @ weights):
            return torch.float32
    return torch.float16


@lru_cache(maxsize=64)
def _weights(size: int, target: int, interpolation: str) -> tuple[NDArray[np.int64], int]:
    """Weights int64 [target, size], and by how many bits their sums are shifted."""
    scale = size / target
    widening = max(scale, 1.0)
    support = _TAPS[interpolation] * 0.5 * widening
    exact = np.zeros((target, size))
    for i in range(target):
        centre = scale * (i + 0.5)
        # The kernel's casts cut towards zero, then the start is held at zero.
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), size)
        near = np.arange(low, high, dtype=np.float64) - centre + 0.5
        taps = _filter(interpolation, near * (1 / widening))
        # Summed one by one, as the kernel does: a pairwise sum rounds otherwise.
        exact[i, low:high] = taps / np.cumsum(taps)[-1]
    largest = exact.max()
    bits = 0
    while bits < 22 and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    scaled = exact * (1 << bits)
    rounded = np.where(scaled < 0, np.ceil(scaled - 0.5), np.floor(scaled + 0.5))
    return rounded.astype(np.int64), bits


def _filter(interpolation: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    if interpolation == "bilinear":
        return np.where(x < 1, 1 - x, 0.0)
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
