"""How a stored picture is turned and mirrored before it is shown: the display matrix."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

if TYPE_CHECKING:  # a plan probes videos too, and should not wait for torch
    from torch import Tensor

# 16.16 fixed point; the third column is 2.30. A matrix that turns by 90 degrees is written with
# sines, which need not be exactly 0.
SMALL = 1 / 256


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a picture down: rows and columns exchanged, then mirrored.

    Attributes:
        transposed: whether rows become columns.
        upside_down: whether the rows then run from bottom to top.
        mirrored: whether the columns then run from right to left.
    """

    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False

    def __bool__(self) -> bool:
        return self.transposed or self.upside_down or self.mirrored

    def array(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`picture`, uint8 [H, W, 3], as it is shown; contiguous."""
        if not self:
            return picture
        shown = picture.transpose(1, 0, 2) if self.transposed else picture
        return np.ascontiguousarray(
            shown[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]
        )

    def tensor(self, picture: Tensor) -> Tensor:
        """`picture`, [..., H, W], as it is shown."""
        shown = picture.transpose(-2, -1) if self.transposed else picture
        axes = [-2] * self.upside_down + [-1] * self.mirrored
        return shown.flip(axes) if axes else shown


STORED = Orientation()


def matrix_of(frame: VideoFrame) -> tuple[int, ...] | None:
    """The frame's display matrix, nine numbers as libav has them; None where there is none."""
    # `frame.side_data` is kept by the frame and keeps the frame: each picture then stays in memory
    # until Python looks for such cycles, hundreds of frames later.
    beside: Any = SideDataContainer(frame)  # type: ignore[call-arg]  # the stub has no constructor
    data: Any = beside.get("DISPLAYMATRIX")
    return None if data is None else struct.unpack("=9i", data)


def orientation(matrix: tuple[int, ...] | None) -> Orientation | None:
    """What a display matrix does to a picture.

    Args:
        matrix: nine numbers, or None, which leaves the picture as it is stored.

    Returns:
        The orientation, or None for a matrix that is none of the eight: a perspective, another
        angle than a quarter turn, or numbers that are no matrix at all.
    """
    if matrix is None:
        return STORED
    # ISO 14496-12: a point (p, q) of the stored picture is shown at (a p + c q, b p + d q).
    a, b, u, c, d, v, _, _, w = matrix
    straight, turned = min(abs(a), abs(d)), min(abs(b), abs(c))
    if u or v or w <= 0 or straight == turned:
        return None
    if max(abs(b), abs(c)) <= SMALL * straight:
        return Orientation(False, d < 0, a < 0)
    if max(abs(a), abs(d)) <= SMALL * turned:
        return Orientation(True, b < 0, c < 0)
    return None


def frame_orientation(frame: VideoFrame) -> Orientation:
    """How the frame is shown; as stored where its display matrix is no orientation."""
    return orientation(matrix_of(frame)) or STORED
