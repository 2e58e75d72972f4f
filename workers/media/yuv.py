"""4:2:0 pictures to RGB with the integers of the CPU path, as tensor operations on any device.

PyAV's plain `to_ndarray(format="rgb24")` is, for yuv420p of even height, swscale's unscaled
conversion for x86 (`libswscale/x86/yuv_2_rgb.asm`, coefficients from `yuv2rgb.c`): each chroma
sample serves its 2 × 2 block, samples are shifted up by three bits, multiplied with 16-bit
coefficients of which the upper halves are kept, added, and clamped. No rounding, no interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

# Coefficients of the inverse matrix in 1/65536 by FFmpeg's AVColorSpace. Those not named here are
# taken for BT.601, as swscale takes them.
_BT601 = (104597, 132201, 25675, 53279)
_BT2020 = (110013, 140363, 12277, 42626)
_MATRICES = {
    1: (117489, 138438, 13975, 34925),  # BT.709
    4: (104448, 132798, 24759, 53109),  # FCC
    7: (117579, 136230, 16907, 35559),  # SMPTE 240M
    9: _BT2020,
}
# RGB, untagged, reserved, BT.470BG, SMPTE 170M. Others (YCgCo, BT.2020 with constant luminance…)
# swscale refuses, so they stay with the CPU path.
_AS_BT601 = (0, 2, 3, 5, 6)
FULL_RANGE = 2
# Formats of 4:2:0 with 8 bits in three planes, as software decoders give them.
PLANAR = ("yuv420p", "yuvj420p")


@dataclass(frozen=True)
class Colours:
    """What a frame's tags say of its colours.

    Attributes:
        matrix: FFmpeg's AVColorSpace.
        full: whether the range is full.
    """

    matrix: int
    full: bool

    @property
    def known(self) -> bool:
        """Whether `to_rgb` converts them as swscale does."""
        return self.matrix in _MATRICES or self.matrix in _AS_BT601


def to_rgb(luma: Tensor, u: Tensor, v: Tensor, colours: Colours) -> Tensor:
    """Pictures of planes, with the values of PyAV's plain conversion to rgb24.

    Args:
        luma: uint8 [..., H, W]; H is even, because swscale converts odd heights another way.
        u: uint8 [..., H / 2, ceil(W / 2)].
        v: as `u`.
        colours: the frames' tags.

    Returns:
        uint8 [..., 3, H, W], on the device of the planes.

    Raises:
        ValueError: an odd height, or a matrix that is not `known`.
    """
    height, width = luma.shape[-2:]
    if height % 2 or not colours.known:
        raise ValueError(f"no plain conversion for {height} rows, matrix {colours.matrix}")
    if width % 2:
        wider = torch.cat([luma, luma[..., -1:]], -1)
        return to_rgb(wider, u, v, colours)[..., :width].contiguous()
    bright, of_u, of_v = _tables(colours, luma.device)
    chroma = of_u[:, u.to(torch.int32)] + of_v[:, v.to(torch.int32)]
    # One view of the luma per 2 × 2 block, to which a chroma sample is added by broadcasting.
    lead = luma.shape[:-2]
    blocks = bright[luma.to(torch.int32)].view(*lead, 1, height // 2, 2, width // 2, 2)
    whole = blocks + chroma.movedim(0, -3)[..., :, None, :, None]
    return whole.clamp_(0, 255).to(torch.uint8).view(*lead, 3, height, width)


@lru_cache(maxsize=64)
def _tables(colours: Colours, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What each sample adds: int16 [256] of luma, [3, 256] of u and of v for red, green, blue.

    A table costs one kernel where the arithmetic costs five. The sums stay far inside 16 bits, so
    swscale's saturating additions need not be reproduced.
    """
    luma, red_v, blue_u, green_u, green_v, black = _coefficients(colours)
    eighths = torch.arange(256, dtype=torch.int64) * 8
    grey = eighths - 128 * 8
    none = torch.zeros_like(grey)
    tables = (
        (eighths - black) * luma >> 16,
        torch.stack([none, grey * green_u >> 16, grey * blue_u >> 16]),
        torch.stack([grey * red_v >> 16, grey * green_v >> 16, none]),
    )
    bright, of_u, of_v = (table.to(device, torch.int16) for table in tables)
    return bright, of_u, of_v


def _coefficients(colours: Colours) -> tuple[int, int, int, int, int, int]:
    """Gains in 1/8192 of luma, red, blue and green, and the luma of black."""
    red, blue, green_u, green_v = _MATRICES.get(colours.matrix, _BT601)
    luma, black = 1 << 16, 0
    if colours.full:
        red, blue, green_u, green_v = (c * 224 // 255 for c in (red, blue, green_u, green_v))
    else:
        luma, black = luma * 255 // 219, 16 * 8
    gains = (luma, red, blue, -green_u, -green_v)
    first, second, third, fourth, fifth = (((gain << 13) + (1 << 15)) >> 16 for gain in gains)
    return first, second, third, fourth, fifth, black
