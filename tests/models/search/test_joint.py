"""Text and picture queries against transformers' own CLIPModel and SiglipModel.

The checkpoints are small and random, saved in the hub's own format with a tokenizer beside them.
"""

import contextlib
import shutil
import threading

import fsspec
import numpy as np
import pytest
import torch
import transformers

from configs.load import encoder_presets
from configs.preprocess import PreprocessSpec
from models.encoder import load_encoder
from models.errors import ModelError
from models.search import joint
from models.search.joint import has_joint_space, load_joint, scores
from tests.support.checkpoints import CPU, clip_of, edit
from tests.support.joint_checkpoints import KINDS, LENGTH, VISION, encoded, spec, unit

PRESETS = encoder_presets()
TEXTS = ["a cup", "Cut the ONION, then fry it!", "🥕🔪 ñandú 切る", "x", "word " * 500, "9" * 9_000]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_of_transformers(kind, text, saved, loaded):
    folder, model = saved[kind]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if kind == "siglip" else False
    written = text.lower() if kind == "siglip" else text
    ids = tokenizer(
        [written], padding=padding, max_length=LENGTH, truncation=True, return_tensors="pt"
    )["input_ids"]
    with torch.inference_mode():
        expected = unit(model.get_text_features(input_ids=ids).pooler_output)[0]
    ours = loaded[kind].text(text)
    assert ours.dtype == np.float32
    assert ours.shape == (loaded[kind].dim,)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert loaded[kind].is_cut(text) == (len(tokenizer(written)["input_ids"]) > LENGTH)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_differ_but_not_by_case(kind, loaded):
    of = loaded[kind].text
    np.testing.assert_array_equal(of("A Cup"), of("a cup"))
    assert of("a cup") @ of("a pan") < 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_stored_features_project_to_the_image_features(kind, saved, loaded, picture):
    folder, model = saved[kind]
    encoder = load_encoder(spec(folder), CPU)
    frames = [picture(90, 120, seed) for seed in range(3)]
    stored = encoder.encode(clip_of(frames, encoder.spec.preprocess)[:, None]).numpy()
    name = "CLIPImageProcessorPil" if kind == "clip" else "SiglipImageProcessorPil"
    processor = getattr(transformers, name).from_pretrained(folder)
    pixels = processor(frames, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        features = model.get_image_features(pixel_values=pixels).pooler_output
    ours = loaded[kind]
    assert (ours.project is None) == (kind == "siglip")
    projected = stored if ours.project is None else stored @ ours.project
    assert projected.shape == (3, ours.dim)
    # Our pixels are within one level of PIL's; on the same pixels it is exact, see below.
    np.testing.assert_allclose(unit(torch.from_numpy(projected)), unit(features), atol=5e-3)
    same = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model.get_image_features(pixel_values=same).pooler_output.numpy()
        inside = model.vision_model(same).pooler_output.numpy()
    inside = inside if ours.project is None else inside @ ours.project
    np.testing.assert_allclose(inside, expected, atol=1e-5)
    text = ours.text("a cup")
    np.testing.assert_allclose(ours.scores(stored, text), unit(features) @ text, atol=5e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frame_finds_itself(kind, frames, precision, saved, picture):
    given = spec(saved[kind][0], frames=frames, precision=precision)
    encoder = load_encoder(given, CPU)
    shown = [picture(100, 140, seed) for seed in range(4)]
    clips = [clip_of([frame] * frames, encoder.spec.preprocess) for frame in shown]
    stored = encoder.encode(torch.stack(clips)).numpy().astype(np.float16)
    stored[3] = np.nan
    ours = load_joint(given, CPU, encoder=encoder if frames == 2 else None)
    found = ours.scores(stored, ours.image(encoded(shown[1])))
    assert found.dtype == np.float32
    assert found[1] == pytest.approx(1, abs=1e-4)
    assert found[1] > max(found[0], found[2]) + 1e-3
    assert np.isnan(found[3])


def test_long_takes_are_scored_in_parts():
    random = np.random.default_rng(0)
    features = random.normal(size=(20_000, 8)).astype(np.float16)
    features[7] = 0
    project = random.normal(size=(8, 5)).astype(np.float32)
    query = project[2] / np.linalg.norm(project[2])
    found = scores(features, query, project)
    whole = features.astype(np.float64) @ project
    lengths = np.maximum(np.linalg.norm(whole, axis=1), 1e-12)
    np.testing.assert_allclose(found, whole @ query / lengths, atol=1e-5)
    assert found[7] == 0
    assert scores(features[:0], query, project).shape == (0,)
    with pytest.raises(ValueError, match=r"expected features \[N, 5\], got \[20000, 8\]"):
        scores(features, query)


def test_the_encoder_is_loaded_once_and_only_for_pictures(saved, picture, monkeypatch):
    calls = []

    def counted(*args, **options):
        calls.append(args)
        return load_encoder(*args, **options)

    monkeypatch.setattr(joint, "load_encoder", counted)
    ours = load_joint(spec(saved["clip"][0]), CPU)
    ours.text("a cup")
    assert calls == []
    file = encoded(picture(50, 50))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append((ours.image(file), ours.text("a cup" * 9))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(answers) == 4
    for image, text in answers:
        np.testing.assert_array_equal(image, answers[0][0])
        np.testing.assert_array_equal(text, answers[0][1])


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_pools_have_no_joint_space(kind, pool, saved):
    given = spec(saved[kind][0], pool=pool)
    assert not has_joint_space(given)
    with pytest.raises(ModelError, match=f"its features are '{pool}' vectors"):
        load_joint(given, CPU)


def test_encoders_without_a_joint_space_say_so(own_copy, tmp_path):
    default = PRESETS["efficientnet_lite"]
    assert not has_joint_space(default)
    with pytest.raises(ModelError, match=r"takes no text or picture queries: its network \(eff"):
        load_joint(default, CPU)
    dino = transformers.Dinov2Model(transformers.Dinov2Config(**VISION))
    dino.save_pretrained(tmp_path / "dino")
    folder = own_copy("clip")
    clip = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION))
    clip.save_pretrained(tmp_path / "tower")
    headless = own_copy("siglip")
    edit(headless, "config.json", vision_config={**VISION, "vision_use_head": False})
    for where, says in [
        (tmp_path / "dino", r"its network \(dinov2\) has no text tower"),
        (tmp_path / "tower", r"clip_vision_model"),
        (headless, "no attention pooling head"),
    ]:
        assert not has_joint_space(spec(where))
        with pytest.raises(ModelError, match=says):
            load_joint(spec(where), CPU)
    assert has_joint_space(spec(folder))
    (folder / "config.json").write_text("{")
    assert not has_joint_space(spec(folder))
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        load_joint(spec(folder), CPU)


def test_has_joint_space_never_fetches(saved, tmp_path, monkeypatch):
    from huggingface_hub import constants

    def refuse(*args, **options):
        raise AssertionError("connected")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr(joint, "fetch", refuse)
    folder = saved["clip"][0]
    presets = {name: PRESETS[name] for name in ("clip-vit-l14", "siglip-so400m")}
    dino = PRESETS["dinov2-base"]
    assert has_joint_space(spec(folder))
    assert has_joint_space(spec(folder / "model.safetensors"))
    assert has_joint_space(spec(f"file://{folder}"))
    for missing in (tmp_path / "clip", f"file://{tmp_path}/clip", "clip"):
        assert not has_joint_space(spec(missing))
    # Not on this machine: nothing is known while the hub is off, else the name decides.
    assert not any(map(has_joint_space, presets.values()))
    assert has_joint_space(spec("s3://nowhere/CLIP-ViT-B-32"))
    assert has_joint_space(presets["clip-vit-l14"].model_copy(update={"weights": "s3://a/b"}))
    assert not has_joint_space(spec("s3://nowhere/dinov2-base"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert all(map(has_joint_space, presets.values()))
    assert not has_joint_space(dino)
    # In the hub's cache its own config decides, whatever the name.
    repo = tmp_path / "hub" / "models--owner--name"
    (repo / "snapshots" / ("c" * 40)).mkdir(parents=True)
    shutil.copy(folder / "config.json", repo / "snapshots" / ("c" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c" * 40)
    assert has_joint_space(spec("hf://owner/name"))
    assert has_joint_space(spec("owner/name"))


def test_every_source_gives_the_same_text(saved, loaded, tmp_path):
    folder = saved["clip"][0]
    commit = "c" * 40
    repo = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(folder, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "/joint/x/", recursive=True)
    expected = loaded["clip"].text("a cup")
    sha256 = loaded["clip"].spec.sha256
    for uri in (f"file://{folder}", "memory://joint/x", "hf://owner/name"):
        ours = load_joint(spec(uri, sha256=sha256), CPU)
        np.testing.assert_array_equal(ours.text("a cup"), expected)
    memory.rm("/joint", recursive=True)


def test_what_a_checkpoint_lacks_is_named(own_copy):
    folder = own_copy("clip")
    with pytest.raises(ModelError, match=r"have sha256 .*, not 0000"):
        load_joint(spec(folder, sha256="0" * 64), CPU)
    with pytest.raises(ModelError, match="no such folder or file"):
        load_joint(spec(folder / "nowhere"), CPU)
    edit(folder, "tokenizer_config.json", tokenizer_class="NoSuchTokenizer")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="its tokenizer does not load"):
        load_joint(spec(folder), CPU)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_joint(spec(folder), CPU)
    own_siglip = own_copy("siglip")
    shutil.copy(own_siglip / "tokenizer.json", folder)
    with pytest.raises(ModelError, match="is not this network's"):
        load_joint(spec(folder), CPU)


def test_a_lost_weight_is_refused_instead_of_random(own_copy):
    from safetensors.torch import load_file, save_file

    folder = own_copy("clip")
    whole = load_file(folder / "model.safetensors")
    for lost, says in [
        ("visual_projection.weight", "no visual_projection"),
        ("text_projection.weight", "lack text_projection"),
        ("text_model.final_layer_norm.weight", "lack .*final_layer_norm"),
    ]:
        kept = {name: tensor for name, tensor in whole.items() if name != lost}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=says):
            load_joint(spec(folder), CPU)


def test_code_beside_the_tokenizer_does_not_run(own_copy, tmp_path):
    folder = own_copy("siglip")
    trace = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w')")
    edit(folder, "config.json", auto_map={"AutoConfig": "evil.Config"})
    code = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
    edit(folder, "tokenizer_config.json", auto_map=code, tokenizer_class="Unknown")
    # Which it is depends on the packages that are installed: refused, or read without the code.
    with contextlib.suppress(ModelError):
        load_joint(spec(folder), CPU)
    assert not trace.exists()


def test_siglip_drops_punctuation_and_siglip_2_keeps_it(own_copy, loaded):
    folder = own_copy("siglip")
    second = loaded["siglip"].text
    assert not np.array_equal(second("a cup!"), second("a cup"))
    edit(folder, "tokenizer_config.json", tokenizer_class="SiglipTokenizer")
    first = load_joint(spec(folder), CPU).text
    np.testing.assert_array_equal(first("A  cup!"), first("a cup"))
    np.testing.assert_array_equal(first("a cup"), second("a cup"))


def test_the_preset_of_clip_holds_the_unprojected_vector():
    preset = PRESETS["clip-vit-l14"]
    assert (preset.pool, preset.dim) == ("pooled", 1024)
    assert isinstance(preset.preprocess, PreprocessSpec)
