"""Decoding on the GPU through PyAV's NVDEC, for the streams of which it gives the CPU's pictures.

That is 4:2:0 with 8 bits and even sides, in a matrix that swscale converts. `NotForNvdec` says what
another stream is, or why NVDEC cannot be used.
"""

from __future__ import annotations

from typing import Any

import av
import torch
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from workers.media.container import UnreadableVideo
from workers.media.index import Index
from workers.media.yuv import PLANAR, Colours


class NotForNvdec(Exception):
    """Why a stream is decoded on the CPU, in plain words."""


def open_cuda_decoder(index: Index) -> tuple[Any, VideoCodecContext]:
    """A decoder on the current CUDA device; close the container after use.

    Where the GPU lacks a codec or a profile, FFmpeg only notices at the first packet and goes on
    in software: the format of such frames is not "cuda".

    Raises:
        NotForNvdec: there is no CUDA device, or FFmpeg cannot use it.
    """
    if not torch.cuda.is_available():
        raise NotForNvdec("there is no CUDA device")
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
    except (av.FFmpegError, OSError, RuntimeError, NotImplementedError, UnreadableVideo) as error:
        raise NotForNvdec(f"NVDEC cannot be used ({error})") from error
    codec = stream.codec_context
    codec.thread_count = 1
    # As strict as the CPU's decoder; what the hardware overlooks inside a picture is its own.
    codec.options = {"err_detect": "explode"}
    return container, codec


def check_plain(index: Index) -> None:
    """Check that the device makes the same pictures of a stream as the CPU.

    Raises:
        NotForNvdec: it does not.
    """
    if index.width % 2 or index.height % 2:
        raise NotForNvdec(f"its size is odd ({index.width} x {index.height})")
    if index.beside:
        raise NotForNvdec("its parameters change on the way, which nobody has tried with NVDEC")
    # A context that is opened with NVDEC calls its pixels "cuda", whatever they are.
    container, stream = index.open()
    with container:
        codec = stream.codec_context
        if codec.pix_fmt not in PLANAR:
            raise NotForNvdec(f"its pixels are {codec.pix_fmt}")
        if not Colours(int(codec.colorspace), False).known:
            raise NotForNvdec("swscale has no plain conversion for its colour matrix")
