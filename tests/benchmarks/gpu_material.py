"""What `gpu` measures with: synthetic takes, and random checkpoints in the hub's own format."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from configs.load import load_job
from configs.schema import EncoderSpec, GridSpec
from models.encoder import resolve_encoder
from service.demo.footage import encode_video
from workers.run.recipe import Recipe, Target


@dataclass(frozen=True)
class Model:
    """A network of `transformers`, its size, and the processor that its checkpoints come with."""

    name: str
    config: str
    network: str
    frames: int
    pool: str
    grid: GridSpec
    processor: dict[str, Any]
    size: dict[str, Any]


_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}


def _sized(edge: int, crop: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": edge}, "crop_size": {"height": crop, "width": crop}}


def models(small: bool) -> list[Model]:
    """VideoMAE-L, V-JEPA 2 ViT-L, DINOv2 ViT-B; or the same networks very small."""
    side, wide = (64, 64) if small else (224, 256)
    large = _SMALL if small else _LARGE
    inner = {"intermediate_size": 128 if small else 4096}
    base = {**_SMALL, "image_size": 224} if small else {"image_size": 518}
    dino = _sized(64, 56) if small else _sized(256, 224)
    windows = GridSpec(window=32, stride=16)
    return [
        Model(
            "videomae-large", "VideoMAEConfig", "VideoMAEForVideoClassification", 16, "pooled",
            windows, {"image_processor_type": "VideoMAEImageProcessor", **_sized(side, side)},
            {**large, **inner, "image_size": side, "num_frames": 16, "use_mean_pooling": True},
        ),
        Model(
            "vjepa2-vitl", "VJEPA2Config", "VJEPA2Model", 8 if small else 64, "mean",
            windows if small else GridSpec(window=64, stride=32),
            {"video_processor_type": "VJEPA2VideoProcessor", **_sized(wide * 8 // 7, wide)},
            {**large, "mlp_ratio": 4, "crop_size": wide, "frames_per_clip": 8 if small else 64},
        ),
        Model(
            "dinov2-base", "Dinov2Config", "Dinov2Model", 1, "cls", GridSpec(window=1, stride=1),
            {"image_processor_type": "BitImageProcessor", **dino, "resample": 3},
            base,
        ),
    ]  # fmt: skip


def save_random(model: Model, folder: Path, device: torch.device) -> None:
    """Random weights of that network, as a checkpoint of the hub."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, model.config)(**model.size)
    with device:  # drawing 300 million numbers is slow on a CPU
        network = getattr(transformers, model.network)(config)
    network.save_pretrained(folder)
    name = "video_" if "video_processor_type" in model.processor else ""
    (folder / f"{name}preprocessor_config.json").write_text(json.dumps(model.processor))


def spec_of(model: Model, folder: Path, precision: str) -> EncoderSpec:
    """The encoder of a saved checkpoint, resolved."""
    given = EncoderSpec.model_validate(
        {
            "name": model.name, "family": "huggingface", "weights": str(folder),
            "frames": model.frames, "pool": model.pool, "precision": precision, "grid": model.grid,
        }
    )  # fmt: skip
    return resolve_encoder(given)


def recipe_of(dataset: Path, output: Path, encoder: EncoderSpec, compiled: bool) -> Recipe:
    """A job over a local data set."""
    job = load_job(None, {"dataset": str(dataset), "output": str(output)})
    job = job.model_copy(update={"run": job.run.model_copy(update={"compile": compiled})})
    return Recipe(
        job, (Target(encoder, job.grid.over(encoder.grid), f"{encoder.name}-0000000000"),)
    )


def footage(count: int, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    """Moving blocks with grain: as many bits as a camera's picture needs."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 255, (-(-height // 8), -(-width // 8) + 40, 3), dtype=np.uint8)
    base = np.ascontiguousarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8)))
    grain = random.integers(0, 8, (8, height, width, 1), dtype=np.uint8)
    for number in range(count):
        start = number % 300
        yield base[:height, start : start + width] ^ grain[number % 8]


def make_take(
    root: Path,
    name: str,
    size: tuple[int, int],
    streams: int,
    frames: int,
    threads: int,
    times: int = 1,
) -> list[Path]:
    """A data set of one take whose streams hold the same footage, encoded once; its videos.

    times: how often the footage follows itself, which is quicker than encoding more of it.
    """
    folder = root / name
    videos = [folder / "takes" / name / f"cam{number:02d}.mp4" for number in range(streams)]
    once = folder / "once.mp4"
    encode_video(once, footage(frames, *size), crf=20, audio=False, bframes=0, threads=threads)
    videos[0].parent.mkdir(parents=True)
    repeat(once, videos[0], times)
    for video in videos[1:]:
        shutil.copyfile(videos[0], video)
    entry = {
        "take_uid": name, "take_name": name, "root_dir": f"takes/{name}",
        "frame_aligned_videos": {v.stem: {"0": {"relative_path": v.name}} for v in videos},
    }  # fmt: skip
    (folder / "takes.json").write_text(json.dumps([entry]))
    return videos


def repeat(once: Path, into: Path, times: int) -> None:
    """A video without B-frames several times in a row, its packets as they are."""
    with av.open(str(into), "w") as written:
        stream, at = None, 0
        for _ in range(times):
            with av.open(str(once)) as read:
                source = read.streams.video[0]
                stream = stream or written.add_stream_from_template(source)
                length = 0
                for packet in read.demux(source):
                    if packet.size and packet.pts is not None and packet.dts is not None:
                        length = max(length, packet.pts + (packet.duration or 1))
                        packet.pts, packet.dts = packet.pts + at, packet.dts + at
                        packet.stream = stream
                        written.mux(packet)
                at += length


def with_precision(encoder: EncoderSpec, precision: str) -> EncoderSpec:
    """The same encoder at another precision."""
    return encoder.model_copy(update={"precision": precision})


def shorter(recipe: Recipe, output: Path) -> Recipe:
    """The same job with another output."""
    return replace(recipe, job=recipe.job.model_copy(update={"output": str(output)}))
