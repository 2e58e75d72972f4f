"""Time and memory of the official Omnivore Swin-L on a CPU, with random weights of its shape.

    python -m tests.benchmarks.omnivore [openvino|pytorch] [clips …]

It prints what the process takes after loading, and for each number of clips seconds and the most
that it took. The first run by OpenVINO converts the network, which takes minutes and is kept in
the cache (`TAKESTREAM_CACHE`).
"""

import argparse
import os
import re
import tempfile
import time
from pathlib import Path

import torch

from configs.schema import EncoderSpec
from models.encoder import load_encoder, resolve_encoder
from tests.support import official


def mib(name: str) -> int:
    """`VmRSS`, what this process takes, or `VmHWM`, the most since it was asked to forget."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def weights(folder: Path) -> Path:
    """A checkpoint of Swin-L with random numbers, made anew where it is absent."""
    path = folder / "swinL_random.torch"
    if path.exists():
        return path

    def numbers(shape: tuple[int, ...], seed: int, spread: float) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread / 10

    official.WIDTH, official.DEPTHS, official.HEADS = 192, (2, 2, 18, 2), (6, 12, 24, 48)
    official.numbers = numbers
    torch.save(official.omnivore_tensors(), path)
    return path


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime", nargs="?", default="openvino", choices=["openvino", "pytorch"])
    parser.add_argument("clips", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    found = parser.parse_args()
    path = str(weights(found.folder))
    spec = resolve_encoder(EncoderSpec(name="x", family="omnivore", weights=path, frames=32))
    began = time.monotonic()
    encoder = load_encoder(spec, torch.device("cpu"), runtime=found.runtime)
    took = time.monotonic() - began
    print(f"{found.runtime}: loaded in {took:.0f} s, {mib('VmRSS')} MiB (most {mib('VmHWM')})")
    clip = torch.rand(1, 32, 3, 224, 224) * 255
    for count in found.clips:
        Path("/proc/self/clear_refs").write_text("5")
        wall, cpu = time.monotonic(), time.process_time()
        encoder.encode(clip.expand(count, -1, -1, -1, -1).contiguous())
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        print(f"{count} clips: {wall:.1f} s, {cpu:.1f} s of CPU, most {mib('VmHWM')} MiB,"
              f" load {os.getloadavg()[0]:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
