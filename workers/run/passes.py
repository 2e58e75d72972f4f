"""Batches of clips through an encoder; a GPU is given the next ones before it is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.run import RunSpec
from configs.schema import EncoderSpec, SegmentGridSpec
from models.encoder import Encoder
from models.memory import PASS_FRAMES
from models.preprocess import stacked
from workers.media.counters import Counters
from workers.run.recipe import Target

log = logging.getLogger(__name__)

# Frames of one pass. With fewer a GPU is not busy; with more a CPU is no faster.
CPU_FRAMES, GPU_FRAMES = PASS_FRAMES, 256

# Python's switch interval, in a process that feeds a GPU: how long a thread waits for the
# interpreter before the one that holds it has to let go.
SWITCH_SECONDS = 0.0005
# Batches that are queued on a GPU before the first is collected, so that it does not wait for them.
AHEAD = 2

Collect = Callable[[], NDArray[np.float32]]


def clips_of_a_pass(run: RunSpec, encoder: EncoderSpec, device: torch.device) -> int:
    """How many clips go through the encoder together; of one frame each where clips share frames.

    Args:
        run: with `batch_size`, which counts whole clips.
        encoder: resolved.
        device: where it is.
    """
    frames = GPU_FRAMES if device.type == "cuda" else CPU_FRAMES
    clips = max(1, frames // encoder.frames) if run.batch_size == "auto" else run.batch_size
    return clips * encoder.frames if encoder.shares_frames else clips


def clips_of_a_batch(passed: int, target: Target) -> int:
    """How many clips are read together, so that what is new in them fills a pass.

    Args:
        passed: clips of a pass, as `clips_of_a_pass` counts them.
        target: the encoder and its grid.
    """
    grid, frames = target.grid, target.encoder.frames
    if not target.encoder.shares_frames or isinstance(grid, SegmentGridSpec):
        return passed
    step = max(1, grid.window // frames)
    new = min(frames, grid.stride // step) if grid.stride % step == 0 else frames
    return max(1, passed // max(1, new))


class Passes:
    """Runs batches through one encoder; after a lack of GPU memory, smaller ones from then on.

    On a GPU the encoder has a stream of its own, so that its kernels and the conversions and copies
    on the default stream do not wait for each other.

    Attributes:
        clips: most clips of a pass.
        ahead: how many batches may be begun before the first is collected.

    Args:
        encoder: the encoder.
        device: where it is.
        encoding: held while kernels of a pass are started, and on CPU while they run.
        clips: most clips of a pass.
        whole: fill smaller batches up to `clips` on a GPU, for networks compiled for one size.
    """

    def __init__(
        self,
        encoder: Encoder,
        device: torch.device,
        encoding: AbstractContextManager[object],
        clips: int,
        *,
        whole: bool = False,
    ) -> None:
        self.clips = clips
        self._encoder, self._device, self._encoding, self._whole = encoder, device, encoding, whole
        self._stream = _stream(device) if device.type == "cuda" else None
        self.ahead = 0 if self._stream is None else AHEAD

    def begin(self, clips: Sequence[Tensor], counters: Counters) -> Collect:
        """Start a batch.

        Args:
            clips: uint8 [T, 3, H, W] each, on any device.
            counters: count the seconds of encoding, and lacks of memory.

        Returns:
            What waits for the batch and gives its features, float32 [B, D].

        Raises:
            torch.cuda.OutOfMemoryError: one clip alone is too much.
        """
        counters.add(frames_encoded=sum(len(clip) for clip in clips))
        waiting: list[Collect] = []
        at = 0
        while at < len(clips):
            part = clips[at : at + self.clips]
            try:
                waiting.append(self._pass(part, counters))
            except torch.cuda.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self.clips = max(1, len(part) // 2)
                log.warning("out of GPU memory: %d clips in a pass from now on", self.clips)
                counters.add(out_of_memory=1)
                torch.cuda.empty_cache()
                continue
            at += len(part)
        return lambda: np.concatenate([collect() for collect in waiting])

    def _pass(self, part: Sequence[Tensor], counters: Counters) -> Collect:
        if self._stream is None:
            with self._encoding:
                began = time.monotonic()
                features = self._encoder.encode(part).float().cpu().numpy()
                counters.add(encode_seconds=time.monotonic() - began)
            return lambda: features
        return self._queued(stacked(part).to(self._device), self._stream, counters)

    def _queued(self, part: Tensor, stream: torch.cuda.Stream, counters: Counters) -> Collect:
        count = len(part)
        if self._whole and count < self.clips:
            part = torch.cat([part, part[-1:].expand(self.clips - count, *part.shape[1:])])
        began, ended = _event(), _event()
        # The clips were put together on this thread's stream; their memory may be used again there
        # only when the encoder has read it.
        stream.wait_stream(torch.cuda.current_stream(self._device))
        part.record_stream(stream)
        with self._encoding, torch.cuda.stream(stream):
            began.record(stream)
            features = self._encoder.encode(part)[:count].float()
            there = torch.empty(features.shape, dtype=torch.float32, pin_memory=True)
            there.copy_(features, non_blocking=True)
            ended.record(stream)

        def collect() -> NDArray[np.float32]:
            ended.synchronize()
            counters.add(encode_seconds=began.elapsed_time(ended) / 1000)
            return there.numpy()

        return collect


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
