"""Pretrained encoders behind one protocol: clips in, vectors out.

`resolve_encoder` says what an encoder is (digest, dim, preprocessing) without building it;
`load_encoder` builds it on a device.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from importlib.metadata import version
from typing import Protocol

import torch
from torch import Tensor, nn

from configs.preprocess import PreprocessSpec
from configs.run import Runtime
from configs.schema import EncoderSpec
from models.errors import ModelError
from models.memory import PASS_FRAMES, few_arenas, keep_freed_memory
from models.preprocess import Pictures, normalise, picture_dtype, stacked
from models.resolve import FAMILIES, resolve, resolve_encoder
from models.runtime import OpenVinoNetwork, Unusable, openvino_network
from takestream.storage import S3Options

_log = logging.getLogger(__name__)

__all__ = ["Encoder", "ModelError", "load_encoder", "resolve_encoder"]

# Frames of one pass on CPU: more are no faster and only take memory. A clip of eight frames or more
# is a pass of its own, and a pass of shorter ones is filled up, so that a vector does not depend on
# what else is in the batch.
CPU_FRAMES = 8


class Encoder(Protocol):
    """A pretrained network on a device."""

    spec: EncoderSpec

    def encode(self, clips: Pictures) -> Tensor:
        """Clips uint8 [B, T, 3, H, W], or B of [T, 3, H, W], on the device → float32 [B, D] there.

        T is `spec.frames`, (H, W) is `spec.preprocess.size`, D is `spec.dim`. Any memory layout
        will do. Where `spec.preprocess` rounds nothing, clips are float32 of the same range.
        Raises ValueError for another shape, dtype or device.
        """
        ...


def load_encoder(
    spec: EncoderSpec,
    device: torch.device,
    *,
    compile: bool = False,
    batch: int = 1,
    s3: S3Options | None = None,
    runtime: Runtime = "auto",
) -> Encoder:
    """The encoder that `spec` describes, on `device`, ready to run; its `spec` is resolved.

    Args:
        spec: resolved or not.
        device: where it runs.
        compile: run the network through `torch.compile`; the first call is slow, and a C++
            compiler is needed.
        batch: clips of a pass that is compiled for on CUDA, where each number of clips is
            compiled by itself, which gives faster kernels.
        s3: how to reach the weights.
        runtime: what runs the network on CPU. `auto` is OpenVINO where it is installed and gives
            PyTorch's vectors, which is said where it does not; with `compile` it is PyTorch.

    Raises:
        ModelError: as `resolve_encoder` does, and when the network cannot be built, or not be run
            by the runtime that is asked for.
    """
    if device.type == "cpu":
        few_arenas()
    if device.type == "cuda" and spec.precision == "float32":
        # torch lets convolutions round their input to 10 bits by default.
        torch.backends.cudnn.allow_tf32 = False
    resolved, checkpoint = resolve(spec, s3)

    def build() -> nn.Module:
        return FAMILIES[resolved.family].build(resolved, checkpoint).eval().requires_grad_(False)

    if device.type == "cpu" and runtime != "pytorch" and not compile:
        frames = 1 if resolved.shares_frames else resolved.frames
        try:
            converted = openvino_network(resolved, build, frames, PASS_FRAMES // frames)
            return _LoadedEncoder(resolved, converted, device, 0)
        except Unusable as reason:
            if runtime == "openvino":
                raise ModelError(f"encoder '{resolved.name}': {reason}") from reason
            _say_once(f"encoder '{resolved.name}' runs in PyTorch, more slowly: {reason}")
    if device.type == "cpu":
        keep_freed_memory()
    return _LoadedEncoder(resolved, build(), device, batch if compile else 0)


@lru_cache(maxsize=64)
def _say_once(words: str) -> None:
    _log.warning(words)


class _LoadedEncoder:
    """The one implementation of `Encoder`; families differ in their network only."""

    def __init__(
        self,
        spec: EncoderSpec,
        network: nn.Module | OpenVinoNetwork,
        device: torch.device,
        compiled_for: int,
    ) -> None:
        assert spec.preprocess is not None
        assert spec.dim is not None
        self.spec = spec
        self._preprocess: PreprocessSpec = spec.preprocess
        self._dim = spec.dim
        self._device = device
        # An encoder of single images is given those that clips share as clips of one frame.
        self._clip_shape = (1 if spec.shares_frames else spec.frames, 3, *self._preprocess.size)
        self._pictures = picture_dtype(self._preprocess)
        self._half = spec.precision == "bfloat16"
        # As the makers of such networks run them: the whole network in float16.
        self._pixels = torch.float16 if spec.precision == "float16" else torch.float32
        self.runtime = f"pytorch {torch.__version__}"
        if device.type == "cuda":
            self.runtime += f" on {torch.cuda.get_device_name(device)}"
        self._converted: OpenVinoNetwork | None = None
        self._graph: _Graph | None = None
        if isinstance(network, OpenVinoNetwork):
            self._converted = network
            self.runtime = f"openvino {version('openvino')}"
            return
        if self._half:
            _hold_matrices_in_bfloat16(network)
        network = network.to(device, self._pixels if spec.precision == "float16" else None)
        _move_plain_tensors(network, device)
        self._network: Callable[[Tensor], Tensor] = network
        if compiled_for:
            if device.type == "cuda":
                self._network = torch.compile(network, dynamic=False)
                self._warm_up(compiled_for)
                self._graph = _Graph.of(
                    self._forward, (compiled_for, *self._clip_shape), self._pictures, device
                )
            else:
                self._network = torch.compile(network)
                self._warm_up(1)

    def encode(self, clips: Pictures) -> Tensor:
        """As `Encoder.encode` says."""
        if len(clips) == 0:
            return torch.empty(0, self._dim, device=self._device)
        for clip in clips if not isinstance(clips, Tensor) else clips[:1]:
            self._check(clip)
        frames = len(clips[0])
        if frames != self._clip_shape[0]:
            vectors = self.encode([frame[None] for clip in clips for frame in clip])
            return vectors.view(len(clips), frames, -1).double().mean(1).float()
        if self._converted is not None:
            return self._converted(clips)
        return self._run(stacked(clips))

    def _check(self, clip: Tensor) -> None:
        sizes = (self._clip_shape, (self.spec.frames, *self._clip_shape[1:]))
        if clip.dtype != self._pictures or clip.shape not in sizes:
            got = f"{clip.dtype} {list(clip.shape)}"
            want = f"{self._pictures} {list(sizes[1])}".removeprefix("torch.")
            raise ValueError(f"encoder '{self.spec.name}' takes clips {want}, got {got}")
        if clip.device.type != self._device.type:
            raise ValueError(f"clips are on {clip.device}, encoder on {self._device}")

    def _run(self, clips: Tensor) -> Tensor:
        if self._graph is not None and len(clips) == self._graph.clips:
            return self._graph(clips)
        on_cpu = clips.device.type == "cpu"
        size = max(1, CPU_FRAMES // clips.shape[1]) if on_cpu else len(clips)
        count = len(clips)
        if on_cpu and count % size:
            clips = torch.cat([clips, clips[-1:].expand(size - count % size, *clips.shape[1:])])
        with torch.inference_mode():
            parts = [clips[start : start + size] for start in range(0, len(clips), size)]
            features = torch.cat([self._forward(part) for part in parts])
        # What inference mode makes may not be written to outside of it.
        return features[:count].clone()

    def _forward(self, clips: Tensor) -> Tensor:
        pixels = normalise(clips, self._preprocess, self._pixels)
        half = torch.autocast(pixels.device.type, torch.bfloat16) if self._half else nullcontext()
        with half:
            return self._network(pixels).float()

    def _warm_up(self, clips: int) -> None:
        clip = torch.zeros(clips, *self._clip_shape, dtype=self._pictures, device=self._device)
        try:
            self.encode(clip)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"encoder '{self.spec.name}': torch.compile does not work here ({reason}); install"
                " a C++ compiler or leave `compile` out"
            ) from error


def _move_plain_tensors(network: nn.Module, device: torch.device) -> None:
    """Move tensors that a network keeps as plain attributes, such as VideoMAE's positions.

    `Module.to` does not move them, so the network would copy them to the GPU in each pass. Such a
    copy waits for all earlier work on the stream, and cannot be part of a CUDA graph.
    """
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, value.to(device))


class _Graph:
    """The kernels of one pass, recorded once as a CUDA graph and started together.

    Starting them one by one takes the interpreter lock, which decode threads hold too, hundreds of
    times in each pass. Where it cannot be recorded, the kernels are started one by one.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.clips = shape[0]
        self._lock = threading.Lock()
        self._idle = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            self._into = torch.zeros(shape, dtype=dtype, device=device)
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._out = forward(self._into)

    @classmethod
    def of(
        cls,
        forward: Callable[[Tensor], Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> "_Graph | None":
        """The graph of a pass over clips of `shape`; None, with a warning, if it fails."""
        try:
            return cls(forward, shape, dtype, device)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            _log.warning("no CUDA graph of the encoder (%s); its kernels start one by one", reason)
            return None

    def __call__(self, clips: Tensor) -> Tensor:
        """The forward pass of `clips` on the current stream, after any other pass has ended."""
        stream = torch.cuda.current_stream(clips.device)
        with self._lock, torch.inference_mode():
            stream.wait_event(self._idle)
            self._into.copy_(clips)
            self._graph.replay()
            features = self._out.clone()
            self._idle.record(stream)
        return features.clone()


def _hold_matrices_in_bfloat16(network: nn.Module) -> None:
    """Linear and convolution weights cast to bfloat16 once.

    Autocast would cast them at each call. All else (norms, embeddings and with them the residual
    stream, softmax) stays as autocast has it, which keeps transformers closer to float32 than
    casting the whole network does.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            module.to(torch.bfloat16)
