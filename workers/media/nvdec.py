"""NVDEC through PyAV: frames decoded on the GPU become tensors there without a copy to the host.

Written to PyAV's and FFmpeg's documented behaviour; has not run on a GPU yet. Falls back to the
CPU decoder, with one log line, where the driver, the codec or the profile says no.
"""

import logging
from typing import Any

import av
import torch
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from torch import Tensor

from workers.media.container import UnreadableVideo
from workers.media.decoder import open_cpu_decoder
from workers.media.index import Index
from workers.media.orientation import frame_orientation

log = logging.getLogger(__name__)
_said: set[str] = set()

# (Kr, Kb) of the matrix by FFmpeg's AVColorSpace; BT.601 for everything else, as on the CPU.
BT709 = 1
COEFFICIENTS = {BT709: (0.2126, 0.0722)}
BT601 = (0.299, 0.114)
FULL_RANGE = 2


def open_cuda_decoder(index: Index) -> tuple[Any, VideoCodecContext]:
    """A decoder on the current CUDA device, or the CPU's where there is none."""
    # torch made the primary context first, so FFmpeg has to take it as it is.
    torch.zeros(1, device="cuda")
    accelerator = HWAccel(
        "cuda",
        device=0,
        allow_software_fallback=True,
        is_hw_owned=True,
        options={"primary_ctx": "0", "current_ctx": "1"},
    )
    try:
        container, stream = index.open(accelerator)
    except (av.FFmpegError, OSError, RuntimeError, UnreadableVideo) as error:
        _say_once(f"NVDEC is not to be had ({error}); decoding on the CPU")
        return open_cpu_decoder(index)
    codec = stream.codec_context
    codec.thread_count = 1
    return container, codec


def cuda_picture(frame: VideoFrame) -> Tensor:
    """An NV12 frame on the GPU as RGB uint8 [1, 3, H, W] there, converted at once.

    The planes lie outside torch's allocator and go back to the decoder with the frame, so nothing
    of them is kept. Runs on the default stream, on which FFmpeg's copies run too. Chroma is
    repeated, not interpolated, as the CPU's plain conversion does.
    """
    luma = _plane(frame, 0)
    chroma = _plane(frame, 1)
    height, width = luma.shape
    u, v = (
        chroma[..., i].repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width]
        for i in (0, 1)
    )
    kr, kb = COEFFICIENTS.get(int(frame.colorspace), BT601)
    full = int(frame.color_range) == FULL_RANGE
    y = luma.float() if full else (luma.float() - 16) * (255 / 219)
    scale = 1.0 if full else 255 / 224
    cb, cr = (u.float() - 128) * scale, (v.float() - 128) * scale
    red = y + 2 * (1 - kr) * cr
    blue = y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    picture = torch.stack([red, green, blue]).round_().clamp_(0, 255).to(torch.uint8)
    return frame_orientation(frame).tensor(picture).unsqueeze(0)


def _plane(frame: VideoFrame, number: int) -> Tensor:
    # `torch.from_dlpack(plane)` passes a stream, which PyAV refuses; the capsule goes through.
    capsule = frame.planes[number].__dlpack__()
    return torch.utils.dlpack.from_dlpack(capsule)


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        log.warning(message)
