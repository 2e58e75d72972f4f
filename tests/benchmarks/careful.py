"""What a careful user writes without takestream: one file, PyAV and PyTorch, local videos.

A thread for each video decodes it, converts the frames that the encoder samples, and puts eight
clips into each pass of EfficientNet-Lite0, whose batch norms are folded. Windows of 32 frames every
16, eight frames of each at `round(linspace(0, 31, 8))`. It knows no damage, no resuming, no store.

    python -m tests.benchmarks.careful VIDEO...
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.load import choose_encoder
from configs.schema import EncoderChoice
from models.families.efficientnet_lite_network import build_network
from models.resolve import resolve

WINDOW, STRIDE, CLIPS = 32, 16, 8
OFFSETS = np.round(np.linspace(0, WINDOW - 1, 8)).astype(int)


def careful_network() -> nn.Module:
    """The default encoder in PyTorch, folded and channels-last: [B, T, 3, H, W] → [B, 1280]."""
    spec, checkpoint = resolve(choose_encoder(EncoderChoice()), None)
    return build_network(spec, checkpoint)


def picture(frame: av.VideoFrame) -> Tensor:
    """uint8 [3, 224, 224]: the short side resized to 256, the centre cut out."""
    rgb = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)[None]
    height, width = rgb.shape[2:]
    short = min(height, width)
    shape = (height * 256 // short, width * 256 // short)
    resized = F.interpolate(rgb, shape, mode="bicubic", antialias=True)
    top, left = (shape[0] - 224) // 2, (shape[1] - 224) // 2
    return resized[0, :, top : top + 224, left : left + 224].clone()


def careful(
    videos: Sequence[Path], encode: Callable[[Tensor], Tensor]
) -> list[NDArray[np.float32]]:
    """The features of each video; float32 [clips, 1280].

    Args:
        videos: local files.
        encode: float [B, T, 3, H, W], normalised, to [B, 1280].
    """
    found: list[NDArray[np.float32]] = [np.empty((0, 1280), np.float32)] * len(videos)
    lock = threading.Lock()

    def features(clips: Sequence[Tensor]) -> NDArray[np.float32]:
        pixels = torch.stack(list(clips)).float().sub_(127).div_(128)
        with lock, torch.inference_mode():
            return encode(pixels).numpy()

    def one(number: int) -> None:
        kept: dict[int, Tensor] = {}
        waiting: list[Tensor] = []
        rows: list[NDArray[np.float32]] = []
        with av.open(str(videos[number])) as container:
            container.streams.video[0].thread_count = 1
            for at, frame in enumerate(container.decode(video=0)):
                if any((at - first) % STRIDE == 0 and at >= first for first in OFFSETS):
                    kept[at] = picture(frame)
                start = at + 1 - WINDOW
                if start >= 0 and start % STRIDE == 0:
                    waiting.append(torch.stack([kept[start + int(offset)] for offset in OFFSETS]))
                    for old in [old for old in kept if old < start + STRIDE]:
                        del kept[old]
                    if len(waiting) == CLIPS:
                        rows.append(features(waiting))
                        waiting = []
        if waiting:
            rows.append(features(waiting))
        found[number] = np.concatenate(rows)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(videos))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


if __name__ == "__main__":
    network = careful_network()
    files = [Path(name) for name in sys.argv[1:]]
    began = time.perf_counter()
    for file, vectors in zip(files, careful(files, network), strict=True):
        print(f"{file}: {vectors.shape[0]} clips")
    print(f"{time.perf_counter() - began:.1f} s")
