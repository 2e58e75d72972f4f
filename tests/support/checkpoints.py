"""Small random checkpoints of each family in the hub's own format, and what transformers alone
makes of them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from configs.preprocess import PreprocessSpec
from configs.schema import EncoderSpec
from models.preprocess import frame_to_tensor, resize_and_crop

CPU = torch.device("cpu")
SIZES = [(449, 333), (333, 449), (20, 30), (32, 32), (448, 796)]
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
VIT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
VIDEO = {**VIT, "num_frames": 4, "tubelet_size": 2}
TEXT = {**VIT, "vocab_size": 50}
JEPA = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "crop_size": 32,
    "patch_size": 8,
    "frames_per_clip": 4,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}
CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}


@dataclass(frozen=True)
class Case:
    """One network: its classes in transformers, and what is taken from the output.

    vector: from the loaded model and its input to the clip's vector, stated independently.
    processor: a class that runs without torchvision, or none where there is no such class.
    """

    id: str
    model: str
    config: Any
    processor: str | None
    settings: dict[str, Any]
    vector: Any
    pool: str
    frames: int = 4
    build: dict[str, Any] = field(default_factory=dict)


def config(name: str, **values: Any) -> Any:
    return lambda: getattr(transformers, name)(**values)


def towers(name: str) -> Any:
    return lambda: getattr(transformers, name)(text_config=TEXT, vision_config=VIT)


CASES = [
    Case(
        "videomae-pooled",
        "VideoMAEForVideoClassification",
        config("VideoMAEConfig", **VIDEO, use_mean_pooling=True),
        "VideoMAEImageProcessorPil",
        {**CROPPED, **IMAGENET},
        lambda m, x: m.fc_norm(m.videomae(x).last_hidden_state.mean(1)),
        "pooled",
    ),
    Case(
        "videomae-pretrained-mean",
        "VideoMAEForPreTraining",
        config("VideoMAEConfig", **VIDEO, use_mean_pooling=False),
        "VideoMAEImageProcessorPil",
        {**CROPPED, **IMAGENET},
        lambda m, x: m.videomae(x).last_hidden_state.mean(1),
        "mean",
    ),
    Case(
        "vjepa2-mean",
        "VJEPA2Model",
        config("VJEPA2Config", **JEPA),
        None,
        {"video_processor_type": "VJEPA2VideoProcessor", "crop_size": 32, "size": 999},
        lambda m, x: m(x).last_hidden_state.mean(1),
        "mean",
    ),
    Case(
        "timesformer-cls",
        "TimesformerForVideoClassification",
        config("TimesformerConfig", **VIDEO),
        "VideoMAEImageProcessorPil",
        {**CROPPED, "image_mean": [0.45] * 3, "image_std": [0.225] * 3},
        lambda m, x: m.timesformer(x).last_hidden_state[:, 0],
        "cls",
    ),
    Case(
        "timesformer-mean",
        "TimesformerModel",
        config("TimesformerConfig", **VIDEO),
        "VideoMAEImageProcessorPil",
        {**CROPPED, "image_mean": [0.45] * 3, "image_std": [0.225] * 3},
        lambda m, x: m(x).last_hidden_state[:, 1:].mean(1),
        "mean",
    ),
    Case(
        "vivit-pooled",
        "VivitForVideoClassification",
        config("VivitConfig", **{**VIDEO, "tubelet_size": [2, 8, 8]}),
        "VivitImageProcessor",
        {**CROPPED},
        lambda m, x: m.vivit(x).last_hidden_state[:, 0],
        "pooled",
    ),
    Case(
        "dinov2-cls",
        "Dinov2Model",
        config("Dinov2Config", **{**VIT, "image_size": 64}),
        "BitImageProcessorPil",
        {**CROPPED, **IMAGENET},
        lambda m, x: m(x).last_hidden_state[:, 0],
        "cls",
    ),
    Case(
        "dinov2-registers-mean",
        "Dinov2WithRegistersModel",
        config("Dinov2WithRegistersConfig", **VIT, num_register_tokens=3),
        "BitImageProcessorPil",
        {**CROPPED, **IMAGENET},
        lambda m, x: m(x).last_hidden_state[:, -16:].mean(1),
        "mean",
    ),
    Case(
        "dinov3-mean",
        "DINOv3ViTModel",
        config("DINOv3ViTConfig", **VIT, num_register_tokens=2),
        "ViTImageProcessorPil",
        {"size": {"height": 32, "width": 32}, **IMAGENET},
        lambda m, x: m(x).last_hidden_state[:, -16:].mean(1),
        "mean",
    ),
    Case(
        "clip-pooled",
        "CLIPModel",
        towers("CLIPConfig"),
        "CLIPImageProcessorPil",
        CROPPED,
        lambda m, x: m.vision_model(x).pooler_output,
        "pooled",
    ),
    Case(
        "clip-tower-alone-mean",
        "CLIPVisionModel",
        config("CLIPVisionConfig", **VIT),
        "CLIPImageProcessorPil",
        CROPPED,
        lambda m, x: m(x).last_hidden_state[:, 1:].mean(1),
        "mean",
    ),
    Case(
        "siglip-pooled",
        "SiglipModel",
        towers("SiglipConfig"),
        "SiglipImageProcessorPil",
        {"size": {"height": 32, "width": 32}},
        lambda m, x: m.vision_model(x).pooler_output,
        "pooled",
    ),
    Case(
        "siglip-one-frame-mean",
        "SiglipVisionModel",
        config("SiglipVisionConfig", **VIT),
        "SiglipImageProcessorPil",
        {"size": {"height": 32, "width": 32}},
        lambda m, x: m(x).last_hidden_state.mean(1),
        "mean",
        frames=1,
    ),
]
BY_ID = {case.id: case for case in CASES}


def save(case: Case, folder: Path, **options: Any) -> tuple[Any, Any]:
    """The case's model and processor, saved to `folder` as the hub has them."""
    torch.manual_seed(1)
    model = getattr(transformers, case.model)(case.config()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Fresh networks answer almost the same whatever they see; these do not.
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(folder, **options)
    if case.processor is None:
        (folder / "video_preprocessor_config.json").write_text(json.dumps(case.settings))
        return model, None
    processor = getattr(transformers, case.processor)(**case.settings)
    processor.save_pretrained(folder)
    return model, processor


def spec(case: Case, weights: str, **values: Any) -> EncoderSpec:
    return EncoderSpec(
        name="x",
        family="huggingface",
        weights=weights,
        frames=case.frames,
        pool=case.pool,
        **values,
    )


def reference(case: Case, model: Any, processor: Any, frames: list[Any]) -> torch.Tensor:
    """The clip's vector by transformers alone. Frames: uint8 [H, W, 3]."""
    if processor is None:
        pixels = torch.stack([_jepa_pixels(frame) for frame in frames])[None]
    else:
        pixels = processor(frames, return_tensors="pt", input_data_format="channels_last")
        pixels = pixels["pixel_values"].float()
    with torch.inference_mode():
        vectors = case.vector(model, pixels)
    return vectors.mean(0)


def _jepa_pixels(frame: Any) -> torch.Tensor:
    """V-JEPA 2's processor needs torchvision, so here is what it does, by PIL."""
    height, width = frame.shape[:2]
    short = 36  # int(32 * 256 / 224)
    tall, wide = (short * height // min(height, width), short * width // min(height, width))
    small = Image.fromarray(frame).resize((wide, tall), Image.Resampling.BILINEAR)
    top, left = (tall - 32) // 2, (wide - 32) // 2
    x = np.asarray(small)[top : top + 32, left : left + 32] / 255
    x = (x - IMAGENET["image_mean"]) / IMAGENET["image_std"]
    return torch.from_numpy(x).permute(2, 0, 1).float()


def clip_of(frames: list[Any], preprocess: PreprocessSpec) -> torch.Tensor:
    return torch.cat([resize_and_crop(frame_to_tensor(f), preprocess) for f in frames])


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.double(), b.double(), dim=-1).min())


def edit(folder: Path, file: str, **values: Any) -> None:
    data = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**data, **values}))
