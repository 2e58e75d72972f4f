"""The network of an encoder on CPU, run by OpenVINO instead of PyTorch.

The same weights, converted once on a machine and kept in the cache, and two to three times as fast.
Nothing is taken on trust: with the converted network the vector is kept that PyTorch gave for one
clip, and wherever it is loaded it has to give that vector again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.schema import EncoderSpec
from models.cache import cache_root
from models.preprocess import Pictures, normalise, picture_dtype

log = logging.getLogger(__name__)

# Part of the key of converted networks: raise it when they are converted another way.
_CONVERSION = 2
_DIGEST = "sha256"
# How near the vector has to be to that of PyTorch in float32.
LEAST_COSINE = {"float32": 0.999999, "bfloat16": 0.99}
# Requests that run side by side; each holds the network's activations once.
MOST_REQUESTS = 16
_LOADING = threading.Lock()


class Unusable(Exception):
    """OpenVINO cannot run this network here; the message says why."""


class OpenVinoNetwork:
    """A network as OpenVINO runs it.

    A clip is a request of its own, so its vector does not depend on what else is in a batch, on how
    many requests run side by side, or on the process. Several requests of few threads each use the
    cores better than one with all of them, and leave none waiting for a core that decodes.

    Args:
        compiled: the network, for one clip.
        requests: how many of them run side by side.
    """

    def __init__(self, compiled: Any, requests: int) -> None:
        import openvino

        self._tensor = openvino.Tensor
        self._queue = openvino.AsyncInferQueue(compiled, requests)
        self._queue.set_callback(_collect)
        self._dim = int(compiled.outputs[0].shape[-1])
        self._lock = threading.Lock()

    def __call__(self, clips: Pictures) -> Tensor:
        """B clips uint8 (float32 where pictures are not rounded) [T, 3, H, W] → float32 [B, D]."""
        pictures = [np.ascontiguousarray(clip.movedim(1, -1).numpy()) for clip in clips]
        features = np.empty((len(clips), self._dim), dtype=np.float32)
        with self._lock:
            for number, picture in enumerate(pictures):
                tensor = self._tensor(picture, shared_memory=True)
                self._queue.start_async(tensor, (features, number))
            self._queue.wait_all()
        return torch.from_numpy(features)


def _collect(request: Any, place: tuple[NDArray[np.float32], int]) -> None:
    features, number = place
    features[number] = request.get_output_tensor(0).data[0]


def openvino_network(
    spec: EncoderSpec, build: Callable[[], nn.Module], frames: int, clips: int
) -> OpenVinoNetwork:
    """The network of an encoder, converted or taken from the cache, and checked.

    Args:
        spec: resolved.
        build: makes the network in PyTorch, float [B, T, 3, H, W] → [B, D]; called only where there
            is no converted one yet.
        frames: T, the frames of a clip that it is given.
        clips: how many clips a pass has, as a rule.

    Raises:
        Unusable: OpenVINO is not installed, cannot convert the network, or gives another vector.
    """
    if spec.precision == "float16":
        raise Unusable("float16 is not kept exactly by OpenVINO on a CPU")
    if find_spec("openvino") is None:
        raise Unusable("OpenVINO is not installed")
    try:
        return _checked(spec, build, frames, clips)
    except Unusable:
        raise
    except Exception as error:  # whatever a conversion raises, PyTorch can still run it
        words = (str(error).strip().splitlines() or [""])[0][:200]
        raise Unusable(f"{type(error).__name__}: {words}") from error


@cache
def _core() -> Any:
    """OpenVINO, once for the life of this process.

    Its CPU plugin gives the thread that starts it an alternate signal stack, and frees that stack
    when the plugin ends, in whatever order plugins end. After two of them the thread's stack could
    be memory that is gone, and the next signal with a handler (Ctrl-C, SIGTERM, a child's end)
    killed the process with SIGSEGV and without a word.
    """
    import openvino

    return openvino.Core()


def _checked(
    spec: EncoderSpec, build: Callable[[], nn.Module], frames: int, clips: int
) -> OpenVinoNetwork:
    with _LOADING:
        core = _core()
    if spec.precision == "bfloat16":
        able: Sequence[str] = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in able:
            raise Unusable("this CPU has no bfloat16")
    probe = _probe(spec, frames)
    model, expected = _cached(spec, build, frames, probe)
    threads = max(1, torch.get_num_threads())
    requests = max(1, min(threads, clips // 2, MOST_REQUESTS))
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if spec.precision == "bfloat16" else "f32",
            "NUM_STREAMS": requests,
            "INFERENCE_NUM_THREADS": threads,
            # Several workers and all decode threads share the cores: the kernel places them.
            "ENABLE_CPU_PINNING": False,
        },
    )
    network = OpenVinoNetwork(compiled, requests)
    cosine = _cosine(network(probe)[0].numpy(), expected)
    if not cosine >= LEAST_COSINE[spec.precision]:
        raise Unusable(f"its vector has a cosine of {cosine:.7f} to that of PyTorch")
    return network


def _probe(spec: EncoderSpec, frames: int) -> Tensor:
    """One clip [1, T, 3, H, W], as the encoder takes it: coarse shapes with a little noise."""
    assert spec.preprocess is not None
    height, width = spec.preprocess.size
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 240, (frames, -(-height // 16), -(-width // 16), 3), dtype=np.uint8)
    whole = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    whole = whole + rng.integers(0, 16, whole.shape, dtype=np.uint8)
    return torch.from_numpy(whole).movedim(-1, 1)[None].to(picture_dtype(spec.preprocess))


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / max(lengths, 1e-30)


class _OfPictures(nn.Module):
    """The network from the pictures of one clip [T, H, W, 3], as decode threads lay them."""

    def __init__(self, network: nn.Module, spec: EncoderSpec) -> None:
        super().__init__()
        assert spec.preprocess is not None
        self.network, self._preprocess = network, spec.preprocess

    def forward(self, pictures: Tensor) -> Tensor:
        vectors: Tensor = self.network(
            normalise(pictures.permute(0, 3, 1, 2)[None], self._preprocess)
        )
        return vectors.float()


def _cached(
    spec: EncoderSpec, build: Callable[[], nn.Module], frames: int, probe: Tensor
) -> tuple[Any, NDArray[np.float32]]:
    """The converted network, and PyTorch's vector of the probe."""
    folder = cache_root() / "openvino" / _key(spec, frames)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_whole(folder):
                model, expected = _converted(spec, build, probe)
                _keep(folder, model, expected)
                return model, expected
        expected = np.load(folder / "expected.npy", allow_pickle=False)
        return _core().read_model(folder / "network.xml"), expected
    except (OSError, RuntimeError, ValueError) as error:
        # A cache that cannot be read or written costs time, nothing else.
        log.warning("the cache of converted networks cannot be used: %s", error)
    return _converted(spec, build, probe)


def _is_whole(folder: Path) -> bool:
    try:
        return _digest(folder) == (folder / _DIGEST).read_text()
    except (OSError, ValueError):
        return False


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for name in ("network.xml", "network.bin", "expected.npy"):
        with (folder / name).open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _keep(folder: Path, model: Any, expected: NDArray[np.float32]) -> None:
    import openvino

    parts = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        openvino.save_model(model, parts / "network.xml", compress_to_fp16=False)
        np.save(parts / "expected.npy", expected)
        (parts / _DIGEST).write_text(_digest(parts))
        shutil.rmtree(folder, ignore_errors=True)
        parts.rename(folder)
    except (OSError, RuntimeError) as error:
        log.warning("the converted network is not kept: %s", error)
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _key(spec: EncoderSpec, frames: int) -> str:
    facts = {
        **spec.identity(),
        # Converted in float32 whatever it runs in.
        "precision": "float32",
        "clip": frames,
        "conversion": _CONVERSION,
        "versions": {name: version(name) for name in ("openvino", "torch", "transformers")},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:40]


def _converted(
    spec: EncoderSpec, build: Callable[[], nn.Module], probe: Tensor
) -> tuple[Any, NDArray[np.float32]]:
    # Not `openvino.convert_model`, which reports each use to its makers where it is allowed to.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    network = _OfPictures(build(), spec).eval()
    pictures = probe[0].movedim(1, -1).contiguous()
    with torch.no_grad(), warnings.catch_warnings():
        # `torch.jit.trace` is deprecated; what OpenVINO reads of `torch.export` is not whole yet.
        warnings.simplefilter("ignore")
        expected = network(pictures)[0].numpy()
        traced = torch.jit.trace(network, pictures, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, example_input=(pictures,))
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape(list(pictures.shape))
    return model, expected
