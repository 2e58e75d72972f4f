"""Each family against the transformers model and its own processor on the same frames.

The checkpoints are small and random, saved in the hub's own format.
"""

import logging
import shutil

import fsspec
import numpy as np
import pytest
import torch

from configs.preprocess import PreprocessSpec
from models.encoder import load_encoder, resolve_encoder
from models.errors import ModelError
from models.families import huggingface_network
from tests.support.checkpoints import (
    BY_ID,
    CASES,
    CPU,
    SIZES,
    clip_of,
    cosine,
    edit,
    reference,
    save,
    spec,
)


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

    monkeypatch.setattr(huggingface_network, "load_model", build)
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
