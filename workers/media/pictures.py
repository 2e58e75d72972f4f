"""Decoded frames into the encoders' pictures on a device, several frames of a stream at a time.

A frame may come from NVDEC, as NV12 on the GPU, or from a software decoder. Software frames are
copied to the device as they were decoded, in half the bytes of RGB. The device's pictures have the
values of the CPU path, bit for bit. Frames that swscale converts another way (odd heights, other
chroma, more bits, matrices that it refuses) are converted on the CPU first; NVDEC is used for no
such stream (`stays_on_device`).

All work is queued on the current stream. In a decode thread that is the default stream, on which
FFmpeg's copies run too, so a frame may be freed as soon as its conversion is queued.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray
from torch import Tensor

from configs.preprocess import PreprocessSpec
from models.preprocess import frame_to_tensor, resize_and_crop
from workers.media.counters import Counters
from workers.media.decode import rgb
from workers.media.orientation import STORED, Orientation, frame_orientation
from workers.media.session import Decoded
from workers.media.yuv import FULL_RANGE, PLANAR, Colours, to_rgb

# One picture of a frame for each sizing; None where it is not wanted in that size.
Pictures = tuple[Tensor | None, ...]
# By sizing, the numbers of the frames that are wanted in that size.
Wanted = Sequence[frozenset[int]]

# Frames converted together, or so many bytes of them. To start a kernel, a thread takes the
# interpreter lock, which all decode threads share: few kernels for many frames keep it free.
TOGETHER = 64
TOGETHER_BYTES = 64 * 2**20


class _Kind(NamedTuple):
    """What frames that are converted together have in common.

    Attributes:
        format: name of the pixel format; "cuda" for a frame of NVDEC.
        height: in pixels, as stored.
        width: in pixels, as stored.
        matrix: AVColorSpace.
        full: whether the range is full.
        shown: what the display matrix does.
        interlaced: whether swscale converts each field by itself.
    """

    format: str
    height: int
    width: int
    matrix: int
    full: bool
    shown: Orientation
    interlaced: bool

    @classmethod
    def of(cls, frame: VideoFrame) -> _Kind:
        return cls(
            frame.format.name,
            frame.height,
            frame.width,
            int(frame.colorspace),
            int(frame.color_range) == FULL_RANGE,
            frame_orientation(frame),
            frame.interlaced_frame,
        )

    @property
    def colours(self) -> Colours:
        return Colours(self.matrix, self.full)

    @property
    def plain(self) -> bool:
        return self.height % (4 if self.interlaced else 2) == 0 and self.colours.known

    @property
    def together(self) -> int:
        return max(1, min(TOGETHER, TOGETHER_BYTES // (self.height * self.width * 3 // 2)))


class DevicePictures:
    """Makes the pictures of one stream on a device.

    Args:
        sizings: how pictures are resized and cropped; each frame may be wanted in several sizes.
        device: where the pictures are made.
        turns: quarter turns counter-clockwise that the job asks for.
        counters: counts the frames that are converted.
    """

    def __init__(
        self,
        sizings: Sequence[PreprocessSpec],
        device: torch.device,
        turns: int,
        counters: Counters,
    ) -> None:
        self._sizings, self._device, self._turns = tuple(sizings), device, turns
        self._counters = counters

    def made(
        self, frames: Iterator[Decoded[VideoFrame]], wanted: Wanted | None = None
    ) -> Iterator[Decoded[Pictures]]:
        """The same frames in the same order, with pictures on the device.

        Args:
            frames: decoded, of either decoder.
            wanted: which frame is wanted in which size; every frame in every size by default.

        Yields:
            For each frame, its pictures uint8 [3, h, w] by sizing.
        """
        waiting: list[Decoded[VideoFrame]] = []
        held, together = 0, 1
        for frame in frames:
            waiting.append(frame)
            if frame.picture is not None:
                if not held:
                    together = _Kind.of(frame.picture).together
                held += 1
            if held >= together or len(waiting) >= 2 * TOGETHER:
                yield from self._converted(waiting, wanted)
                waiting, held = [], 0
        yield from self._converted(waiting, wanted)

    def _converted(
        self, frames: Sequence[Decoded[VideoFrame]], wanted: Wanted | None
    ) -> Iterator[Decoded[Pictures]]:
        held = [(frame.frame, frame.picture) for frame in frames if frame.picture is not None]
        began = time.monotonic()
        pictures = iter(
            [
                made
                for kind, group in groupby(held, lambda one: _Kind.of(one[1]))
                for made in self._pictures(list(group), kind, wanted)
            ]
        )
        on_gpu = {"frames_converted_gpu": len(held)} if self._device.type == "cuda" else {}
        took = time.monotonic() - began
        self._counters.add(frames_converted=len(held), convert_seconds=took, **on_gpu)
        for frame in frames:
            made = None if frame.picture is None else next(pictures)
            yield Decoded(frame.frame, frame.reason, made)

    def _pictures(
        self, frames: Sequence[tuple[int, VideoFrame]], kind: _Kind, wanted: Wanted | None
    ) -> Sequence[Pictures]:
        try:
            whole, shown = self._rgb([frame for _, frame in frames], kind)
            whole = shown.tensor(whole)
            if self._turns:
                whole = torch.rot90(whole, self._turns, (-2, -1))
            sizes: list[list[Tensor | None]] = []
            for number, sizing in enumerate(self._sizings):
                chosen: Sequence[int] = range(len(frames))
                if wanted is not None:
                    seen = wanted[number] if number < len(wanted) else frozenset[int]()
                    chosen = [row for row in chosen if frames[row][0] in seen]
                sizes.append(self._sized(whole, sizing, chosen))
            return list(zip(*sizes, strict=True))
        except torch.cuda.OutOfMemoryError:
            if len(frames) == 1:
                raise
        half = len(frames) // 2
        return [
            *self._pictures(frames[:half], kind, wanted),
            *self._pictures(frames[half:], kind, wanted),
        ]

    def _sized(
        self, whole: Tensor, sizing: PreprocessSpec, chosen: Sequence[int]
    ) -> list[Tensor | None]:
        """By row of `whole`, its picture if it is chosen."""
        made: list[Tensor | None] = [None] * len(whole)
        if len(chosen) < len(whole):
            if not chosen:
                return made
            # Copied from pinned memory, which does not wait for the work on the stream.
            rows = torch.tensor(chosen, pin_memory=self._device.type == "cuda")
            whole = whole.index_select(0, rows.to(self._device, non_blocking=True))
        for row, picture in zip(chosen, resize_and_crop(whole, sizing).unbind(), strict=True):
            made[row] = picture
        return made

    def _rgb(self, frames: Sequence[VideoFrame], kind: _Kind) -> tuple[Tensor, Orientation]:
        """uint8 [N, 3, H, W] on the device, and how that is still to be turned and mirrored."""
        if kind.plain and kind.format == "cuda":
            luma = torch.stack([on_device(frame, 0) for frame in frames])
            u, v = torch.stack([on_device(frame, 1) for frame in frames]).unbind(-1)
            return _plain(luma, u, v, kind), kind.shown
        if kind.plain and kind.format in PLANAR:
            luma, u, v = self._uploaded(frames, kind)
            return _plain(luma, u, v, kind), kind.shown
        pictures = [frame_to_tensor(rgb(frame)) for frame in frames]
        # Planar, because frames of other formats may share a clip with these.
        whole = torch.cat([picture.to(self._device) for picture in pictures]).contiguous()
        return whole, STORED

    def _uploaded(self, frames: Sequence[VideoFrame], kind: _Kind) -> list[Tensor]:
        height, width = kind.height, kind.width
        shapes = [(height, width), *[(height // 2, (width + 1) // 2)] * 2]
        ends = np.cumsum([rows * columns for rows, columns in shapes]).tolist()
        spans = list(zip([0, *ends], ends, shapes, strict=False))
        # torch's allocator reuses pinned memory only after the copies out of it have ended.
        pinned = self._device.type == "cuda"
        staged = torch.empty(len(frames), ends[-1], dtype=torch.uint8, pin_memory=pinned)
        # numpy copies without the GIL and on this thread; torch would start threads of its own.
        for row, frame in zip(staged.numpy(), frames, strict=True):
            for plane, (start, stop, shape) in zip(frame.planes, spans, strict=True):
                np.copyto(row[start:stop].reshape(shape), in_memory(plane, *shape))
        there = staged.to(self._device, non_blocking=True)
        return [there[:, start:stop].view(-1, *shape) for start, stop, shape in spans]


def stays_on_device(frame: VideoFrame) -> bool:
    """Whether the device makes the same picture of this frame as the CPU."""
    return _Kind.of(frame).plain


def _plain(luma: Tensor, u: Tensor, v: Tensor, kind: _Kind) -> Tensor:
    if not kind.interlaced:
        return to_rgb(luma, u, v, kind.colours)
    # [N, rows, columns] as [N, field, rows / 2, columns].
    luma, u, v = (p.view(len(p), -1, 2, p.shape[2]).transpose(1, 2) for p in (luma, u, v))
    return to_rgb(luma, u, v, kind.colours).movedim(1, 3).flatten(2, 3)


def in_memory(plane: VideoPlane, height: int, width: int) -> NDArray[np.uint8]:
    """A plane of a software frame, uint8 [height, width], sharing its memory."""
    line, buffer = plane.line_size, cast("Any", plane)
    rows = np.frombuffer(buffer, np.uint8).reshape(-1, abs(line))
    # Where lines run upwards in memory, the buffer begins at the last one.
    return (rows if line > 0 else rows[::-1])[:height, :width]


def on_device(frame: VideoFrame, number: int) -> Tensor:
    """A plane of an NV12 frame where it lies: [H, W], or the chroma as [H / 2, W / 2, 2]."""
    # `torch.from_dlpack(plane)` passes a stream, which PyAV refuses; the capsule is accepted.
    capsule: Any = frame.planes[number].__dlpack__()
    return torch.utils.dlpack.from_dlpack(capsule)
