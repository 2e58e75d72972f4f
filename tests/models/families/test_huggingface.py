"""Each family against the transformers model and its own processor on the same frames.

The checkpoints are small and random, saved in the hub's own format.
"""

import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from configs.schema import EncoderSpec, PreprocessSpec
from models.encoder import load_encoder, resolve_encoder
from models.errors import ModelError
from models.families import huggingface
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_vectors_are_those_of_transformers(case, tmp_path, picture):
    model, processor = save(case, tmp_path)
    encoder = load_encoder(spec(case, str(tmp_path)), CPU)
    assert encoder.spec.dim == (48 if "vjepa2" in case.id else 32)
    for height, width in SIZES:
        frames = [picture(height, width, seed) for seed in range(case.frames)]
        expected = reference(case, model, processor, frames)
        # The control is the same pictures moved by about one pixel of the network's input.
        moved = [np.roll(frame, max(1, height // 36), axis=0) for frame in frames]
        ours = encoder.encode(
            torch.stack([clip_of(clip, encoder.spec.preprocess) for clip in (frames, moved)])
        )
        assert ours.shape == (2, encoder.spec.dim)
        assert ours.dtype == torch.float32
        assert cosine(ours[0], expected) >= 0.99999
        assert cosine(ours[1], expected) < 0.9995


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bfloat16_is_close(case, tmp_path, picture):
    save(case, tmp_path)
    full = load_encoder(spec(case, str(tmp_path)), CPU)
    half = load_encoder(spec(case, str(tmp_path), precision="bfloat16"), CPU)
    frames = [picture(100, 120, seed) for seed in range(case.frames)]
    clips = clip_of(frames, full.spec.preprocess)[None]
    ours = half.encode(clips)
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, full.encode(clips))
    assert cosine(ours, full.encode(clips)) > 0.99


@pytest.mark.parametrize("id", ["videomae-pooled", "clip-pooled", "vjepa2-mean"])
def test_every_source_gives_the_same_encoder(id, tmp_path):
    case = BY_ID[id]
    folder = tmp_path / "local"
    save(case, folder)
    commit = "c" * 40
    repo = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(folder, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.put(f"{folder}/", "/models/x/", recursive=True)
    clips = torch.randint(0, 256, (1, case.frames, 3, 32, 32), dtype=torch.uint8)
    local = load_encoder(spec(case, str(folder)), CPU)
    for uri in (f"file://{folder}", "memory://models/x", "owner/name", "hf://owner/name"):
        encoder = load_encoder(spec(case, uri), CPU)
        assert torch.equal(encoder.encode(clips), local.encode(clips))
        assert encoder.spec.identity() == local.spec.identity()
        assert encoder.spec.revision == (commit if "owner" in uri else None)
    memory.store.clear()


@pytest.mark.parametrize("how", ["bin", "shards"])
def test_older_and_sharded_checkpoints_load(how, tmp_path):
    case = BY_ID["dinov2-cls"]
    whole = tmp_path / "whole"
    model, _ = save(case, whole)
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    (other / "model.safetensors").unlink()
    if how == "bin":
        torch.save(model.state_dict(), other / "pytorch_model.bin")
    else:
        model.save_pretrained(other, max_shard_size="20KB")
        assert len(list(other.glob("*.safetensors"))) > 1
    clips = torch.randint(0, 256, (1, case.frames, 3, 32, 32), dtype=torch.uint8)
    expected = load_encoder(spec(case, str(whole)), CPU).encode(clips)
    assert torch.equal(load_encoder(spec(case, str(other)), CPU).encode(clips), expected)


def test_a_videomae_without_a_classifier_is_pooled_by_the_plain_mean(tmp_path, picture, caplog):
    case = BY_ID["videomae-pretrained-mean"]
    model, processor = save(case, tmp_path)
    found = resolve_encoder(spec(case, str(tmp_path)).model_copy(update={"pool": "pooled"}))
    assert found.pool == "mean"
    assert "pool: mean" in caplog.text
    frames = [picture(80, 60, seed) for seed in range(case.frames)]
    ours = load_encoder(found, CPU).encode(clip_of(frames, found.preprocess)[None])[0]
    assert cosine(ours, reference(case, model, processor, frames)) >= 0.99999


def test_resolving_builds_no_network(tmp_path, monkeypatch):
    case = BY_ID["videomae-pooled"]
    save(case, tmp_path)

    def build(*args):
        raise AssertionError("built")

    monkeypatch.setattr(huggingface, "_load", build)
    found = resolve_encoder(spec(case, str(tmp_path)))
    assert found.dim == 32
    assert found.sha256 is not None
    assert found.preprocess == PreprocessSpec(
        resize=36, crop=(32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def test_a_complete_spec_of_remote_weights_is_not_fetched(monkeypatch):
    case = BY_ID["videomae-pooled"]
    complete = spec(
        case,
        "s3://nowhere/model",
        sha256="0" * 64,
        dim=32,
        preprocess=PreprocessSpec(resize=(32, 32)),
    )
    assert resolve_encoder(complete) == complete


def edit(folder: Path, file: str, **values: Any) -> None:
    data = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**data, **values}))


@pytest.mark.parametrize(
    ("id", "values", "says"),
    [
        ("videomae-pooled", {"pool": "cls"}, "no 'cls' vector; set pool: mean or pooled"),
        ("siglip-pooled", {"pool": "cls"}, "no 'cls' vector"),
        ("vjepa2-mean", {"pool": "pooled"}, "no 'pooled' vector; set pool: mean"),
        ("videomae-pooled", {"frames": 8}, "takes 4 frames, not 8; set frames: 4"),
        ("vjepa2-mean", {"frames": 3}, "frames must be a multiple of 2, not 3"),
        ("clip-pooled", {"dim": 768}, "vectors have 32 dimensions, not 768"),
        (
            "clip-pooled",
            {"preprocess": PreprocessSpec(resize=(40, 40))},
            r"takes \(32, 32\) pixels, its preprocessing gives \(40, 40\)",
        ),
        (
            "dinov2-cls",
            {"preprocess": PreprocessSpec(resize=(33, 32))},
            r"\(33, 32\) pixels are no multiple of its patch 8",
        ),
        ("clip-pooled", {"sha256": "0" * 64}, "have sha256 .*, not 0000.*; fetch them again"),
    ],
)
def test_what_a_network_cannot_do_is_said_plainly(id, values, says, tmp_path):
    save(BY_ID[id], tmp_path)
    asked = spec(BY_ID[id], str(tmp_path)).model_copy(update=values)
    with pytest.raises(ModelError, match=f"encoder 'x': .*{says}"):
        resolve_encoder(asked)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "resnet"}, "model_type 'resnet' is not supported; supported are videomae"),
        ({"quantization_config": {"bits": 4}}, "its weights are quantised"),
    ],
)
def test_unsupported_checkpoints_are_refused(values, says, tmp_path):
    case = BY_ID["clip-pooled"]
    save(case, tmp_path)
    edit(tmp_path, "config.json", **values)
    with pytest.raises(ModelError, match=says):
        resolve_encoder(spec(case, str(tmp_path)))


def test_missing_files_are_named(tmp_path):
    case = BY_ID["clip-pooled"]
    save(case, tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"no preprocessor_config\.json; add it, or `preprocess`"):
        resolve_encoder(spec(case, str(tmp_path)))
    given = spec(case, str(tmp_path), preprocess=PreprocessSpec(resize=(32, 32)))
    assert resolve_encoder(given).preprocess == given.preprocess
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        resolve_encoder(given)


def test_a_missing_weight_is_refused_instead_of_random(tmp_path):
    from safetensors.torch import load_file, save_file

    case = BY_ID["timesformer-cls"]
    save(case, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = "timesformer.encoder.layer.1.attention.output.dense.weight"
    del tensors[lost]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lack encoder\.layer\.1\.attention\.output\.dense\.weight"
    ):
        load_encoder(spec(case, str(tmp_path)), CPU)


def test_weights_of_another_size_are_refused(tmp_path):
    case = BY_ID["dinov2-cls"]
    save(case, tmp_path)
    edit(tmp_path, "config.json", hidden_size=64)
    with pytest.raises(ModelError, match="encoder 'x': "):
        load_encoder(spec(case, str(tmp_path)), CPU)


def test_code_beside_the_weights_does_not_run(tmp_path):
    case = BY_ID["dinov2-cls"]
    save(case, tmp_path)
    trace = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(trace)!r}, 'w')")
    names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    edit(tmp_path, "config.json", auto_map=names)
    edit(tmp_path, "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Processor"})
    given = spec(case, str(tmp_path), preprocess=PreprocessSpec(resize=(32, 32)))
    load_encoder(given, CPU)
    assert not trace.exists()


def test_a_preset_that_differs_from_its_checkpoint_is_logged(tmp_path, caplog):
    case = BY_ID["dinov2-cls"]
    save(case, tmp_path)
    own = resolve_encoder(spec(case, str(tmp_path))).preprocess
    with caplog.at_level(logging.WARNING, logger="models.families.huggingface"):
        resolve_encoder(spec(case, str(tmp_path), preprocess=own))
        assert caplog.records == []
        other = own.model_copy(update={"interpolation": "bilinear"})
        found = resolve_encoder(spec(case, str(tmp_path), preprocess=other))
    assert found.preprocess == other
    assert "the preset's preprocessing" in caplog.text


def test_frames_are_seen_in_order(tmp_path, picture):
    case = BY_ID["videomae-pooled"]
    save(case, tmp_path)
    encoder = load_encoder(spec(case, str(tmp_path)), CPU)
    frames = [picture(64, 64, seed) for seed in range(4)]
    clip = clip_of(frames, encoder.spec.preprocess)
    forward, backward = encoder.encode(torch.stack([clip, clip.flip(0)]))
    assert cosine(forward, backward) < 0.9999
