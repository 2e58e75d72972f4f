"""PyTorch against OpenVINO on CPU: the default encoder, and video networks of real size.

    python -m tests.benchmarks.runtimes [--rounds 3] [--only NAME...]

Weights are random where none come in a package: time does not depend on them. Rounds are
interleaved, medians are printed. V-JEPA 2 sees 16 of its 64 frames, which it can by its rotary
positions: a clip of 64 takes minutes on two cores.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Literal

import pytest
import torch

from configs.load import choose_encoder
from configs.schema import EncoderChoice, EncoderSpec, GridSpec
from models.encoder import Encoder, load_encoder
from models.resolve import FAMILIES
from tests.benchmarks.gpu_material import Model, save_random, spec_of
from tests.support import transnet

RUNTIMES: tuple[Literal["pytorch"], Literal["openvino"]] = ("pytorch", "openvino")
_GRID = GridSpec(window=32, stride=16)
_BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "mlp_ratio": 4}


def _processor(kind: str, edge: int, crop: int) -> dict[str, object]:
    key = "video_processor_type" if kind.startswith("VJEPA2") else "image_processor_type"
    size = {"shortest_edge": edge}
    return {key: kind, "size": size, "crop_size": {"height": crop, "width": crop}}


MODELS = (
    Model(
        "videomae-base", "VideoMAEConfig", "VideoMAEForVideoClassification", 16, "pooled", _GRID,
        _processor("VideoMAEImageProcessor", 224, 224),
        {**_BASE, "num_frames": 16, "use_mean_pooling": True},
    ),
    Model(
        "timesformer-base", "TimesformerConfig", "TimesformerModel", 8, "cls", _GRID,
        _processor("VideoMAEImageProcessor", 224, 224), {**_BASE, "num_frames": 8},
    ),
    Model(
        "vjepa2-vitl", "VJEPA2Config", "VJEPA2Model", 16, "mean", _GRID,
        _processor("VJEPA2VideoProcessor", 292, 256),
        {**_LARGE, "crop_size": 256, "frames_per_clip": 64},
    ),
)  # fmt: skip


def specs(folder: Path, only: list[str] | None) -> Iterator[EncoderSpec]:
    """The encoders that are measured."""
    if not only or "efficientnet_lite" in only:
        yield choose_encoder(EncoderChoice())
    for model in MODELS:
        if not only or model.name in only:
            save_random(model, folder / model.name, torch.device("cpu"))
            yield spec_of(model, folder / model.name, "float32")
    if not only or "transnet" in only:
        try:
            weights, _ = transnet.files()
        except pytest.skip.Exception as reason:
            print(f"transnet: {reason}")
            return
        FAMILIES["transnet"] = transnet.FAMILY
        yield transnet.spec_of(weights, "cls")


def measure(spec: EncoderSpec, rounds: int) -> None:
    """Print clips per second of both runtimes, and how near their vectors are."""
    cpu, loaded = torch.device("cpu"), {}
    encoders: dict[str, Encoder] = {}
    for runtime in RUNTIMES:
        began = time.perf_counter()
        encoders[runtime] = load_encoder(spec, cpu, runtime=runtime)
        loaded[runtime] = time.perf_counter() - began
    began = time.perf_counter()
    load_encoder(spec, cpu, runtime="openvino")
    again = time.perf_counter() - began
    picture = encoders["pytorch"].spec.preprocess
    assert picture is not None
    frames, clips = (1, 64) if spec.shares_frames else (spec.frames, 2)
    shape = (clips, frames, *picture.size, 3)
    given = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    walls: dict[str, list[float]] = {runtime: [] for runtime in RUNTIMES}
    busy: dict[str, list[float]] = {runtime: [] for runtime in RUNTIMES}
    vectors = {}
    for _ in range(rounds):
        for runtime in RUNTIMES:
            encoder = encoders[runtime]
            began, cpu_began = time.perf_counter(), time.process_time()
            vectors[runtime] = encoder.encode(given).double()
            walls[runtime].append((time.perf_counter() - began) / clips)
            busy[runtime].append((time.process_time() - cpu_began) / clips)
    unit = "frames" if spec.shares_frames else "clips"
    for runtime in RUNTIMES:
        rate, cpu_ms = 1 / median(walls[runtime]), median(busy[runtime]) * 1e3
        ready = f"ready after {loaded[runtime]:.1f} s"
        print(f"{spec.name:<20} {runtime:<9} {rate:9.3f} {unit}/s {cpu_ms:10.1f} ms CPU, {ready}")
    cosine = torch.cosine_similarity(vectors["pytorch"], vectors["openvino"]).min()
    faster = median(walls["pytorch"]) / median(walls["openvino"])
    print(
        f"{spec.name:<20} {faster:.2f} x, 1 - cosine {1 - cosine:.1e}, loaded again {again:.1f} s"
    )


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--only", nargs="+", metavar="NAME")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for spec in specs(Path(folder), options.only):
            measure(spec, options.rounds)


if __name__ == "__main__":
    main()
