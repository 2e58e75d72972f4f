"""The official pair on small random checkpoints in the makers' own form, against their own code."""

import pytest
import torch
import torch.nn.functional as F

from configs.load import choose_encoder, encoder_presets
from configs.preprocess import PreprocessSpec
from configs.schema import EncoderChoice, EncoderSpec
from models.encoder import load_encoder, resolve_encoder
from models.errors import ModelError
from models.families import maws, omnivore
from models.preprocess import frame_to_tensor, normalise, resize_and_crop
from models.weights import fetch
from tests.support import official

CPU = torch.device("cpu")
FORMS = {"omnivore": official.omnivore_tensors, "maws": official.maws_tensors}
FAMILIES = {"omnivore": omnivore, "maws": maws}
DIMS = {"omnivore": official.WIDTH * 8, "maws": official.PROJECTED}
SUFFIX = {"omnivore": "swinL_In21k_checkpoint.torch", "maws": "vit_2b14_xlmr_l.pt"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    for name, tensors in FORMS.items():
        torch.save(tensors(), folder / SUFFIX[name])
    return {name: str(folder / SUFFIX[name]) for name in FORMS}


def spec(name: str, weights: str, **values) -> EncoderSpec:
    frames = {"omnivore": 32, "maws": 1}[name]
    return EncoderSpec(name="x", family=name, weights=weights, **{"frames": frames, **values})


def close(a, b):
    assert a.shape == b.shape
    assert float((a - b).abs().max()) < 1e-5 * float(b.abs().max())


@pytest.mark.parametrize("name", [*official.CLIPS])
def test_omnivore_gives_the_vectors_of_its_makers_code(files, name):
    network = omnivore.build(spec("omnivore", files["omnivore"]), fetch(files["omnivore"]))
    with torch.inference_mode():
        close(network(official.clip(name))[0], official.recorded("omnivore", name))


def test_recorded_vectors_of_other_clips_are_not_close():
    one, *others = (official.recorded("omnivore", name) for name in official.CLIPS)
    for other in others:
        with pytest.raises(AssertionError):
            close(one, other)


def test_clips_beside_each_other_do_not_change_omnivores_vectors(files):
    network = omnivore.build(spec("omnivore", files["omnivore"]), fetch(files["omnivore"]))
    clips = torch.cat([official.clip("odd"), official.clip("odd").flip(1)])
    with torch.inference_mode():
        together = network(clips)
        for row, clip in enumerate(clips):
            close(together[row], network(clip[None])[0])


def test_maws_gives_the_vector_of_timm(files):
    network = maws.build(_resolved("maws", files), fetch(files["maws"]))
    with torch.inference_mode():
        ours = network(official.clip("official")[:, :2])[0]
    close(ours, official.recorded("maws", "official"))


def _resolved(name, files, **values):
    return resolve_encoder(spec(name, files[name], **values))


def _plain_tower(tensors, picture):
    """MAWS CLIP's `encode_images` written out. picture: float32 [1, 3, 224, 224]."""
    t = {name.removeprefix("vision_encoder."): tensor for name, tensor in tensors.items()}

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], 1e-6)

    def line(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    x = F.conv2d(picture, t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], official.PATCH)
    x = torch.cat([t["cls_token"], x.flatten(2).transpose(1, 2)], 1) + t["pos_embed"]
    for block in (f"blocks.{n}" for n in range(official.TOWER_DEPTH)):
        q, k, v = line(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, -1)
        q, k, v = (part.unflatten(-1, (12, -1)).transpose(1, 2) for part in (q, k, v))
        seen = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + line(seen.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        hidden = F.gelu(line(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + line(hidden, f"{block}.mlp.fc2")
    vector = norm(x, "norm")[:, 0] @ t["vision_projection"]
    return vector / vector.norm(dim=-1, keepdim=True)


def test_maws_is_the_tower_written_out(files, picture):
    given = _resolved("maws", files, precision="float32")
    frame = frame_to_tensor(picture(300, 400))
    clip = resize_and_crop(frame, given.preprocess)[None]
    ours = load_encoder(given, CPU, runtime="pytorch").encode(clip)
    with torch.inference_mode():
        theirs = _plain_tower(official.maws_tensors(), normalise(clip[0], given.preprocess))
    close(ours, theirs)
    assert float(ours.norm()) == pytest.approx(1, abs=1e-6)


def test_in_float16_every_tensor_is(files, picture):
    clip = resize_and_crop(frame_to_tensor(picture(300, 400)), maws.PREPROCESS)[None]
    half = load_encoder(_resolved("maws", files, precision="float16"), CPU)
    assert {p.dtype for p in half._network.parameters()} == {torch.float16}
    vector = half.encode(clip)
    assert vector.dtype == torch.float32
    # What float16 can hold, and nothing finer.
    assert torch.equal(vector, vector.half().float())
    whole = load_encoder(_resolved("maws", files), CPU).encode(clip)
    cosine = float(torch.cosine_similarity(vector, whole))
    assert 0.9995 < cosine < 1
    assert not torch.equal(vector, whole)


@pytest.mark.parametrize("runtime", ["openvino", "pytorch"])
@pytest.mark.parametrize("name", [*FORMS])
def test_from_pictures_to_vectors(files, picture, name, runtime):
    given = _resolved(name, files)
    assert given.dim == DIMS[name]
    assert given.preprocess == FAMILIES[name].PREPROCESS
    frames = [picture(240, 426, seed) for seed in range(given.frames)]
    clip = torch.cat([resize_and_crop(frame_to_tensor(f), given.preprocess) for f in frames])[None]
    ours = load_encoder(given, CPU, runtime=runtime).encode(clip)
    network = FAMILIES[name].build(given, fetch(files[name]))
    with torch.inference_mode():
        close(ours, network(normalise(clip, given.preprocess)))


def test_pictures_that_were_rounded_are_refused(files):
    encoder = load_encoder(_resolved("maws", files), CPU, runtime="pytorch")
    with pytest.raises(
        ValueError, match=r"takes clips float32 \[1, 3, 224, 224\], got torch.uint8"
    ):
        encoder.encode(torch.zeros(1, 1, 3, 224, 224, dtype=torch.uint8))


@pytest.mark.parametrize("name", ["omnivore-swin-l", "maws-clip-2b"])
def test_weights_from_afar_want_a_digest(name, monkeypatch):
    monkeypatch.setattr("models.resolve.fetch", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(ModelError, match=r"publish no digest of it.*--sha256.*--weights"):
        resolve_encoder(encoder_presets()[name])
    given = choose_encoder(EncoderChoice(preset=name, sha256="0" * 64))
    # Complete, so nothing is fetched to plan with it.
    assert resolve_encoder(given).sha256 == "0" * 64


@pytest.mark.parametrize("name", [*FORMS])
def test_a_copy_is_taken_by_path_and_its_digest_checked(files, name):
    found = _resolved(name, files)
    assert found.sha256 == fetch(files[name]).sha256
    with pytest.raises(ModelError, match=f"have sha256 {found.sha256}, not"):
        _resolved(name, files, sha256="1" * 64)


def test_the_presets_preprocessing_is_the_families():
    presets = encoder_presets()
    assert presets["omnivore-swin-l"].preprocess == omnivore.PREPROCESS
    assert presets["maws-clip-2b"].preprocess == maws.PREPROCESS


def _without(tensors, part):
    if "trunk" in tensors:
        return {**tensors, "trunk": _without(tensors["trunk"], part)}
    return {name: tensor for name, tensor in tensors.items() if part not in name}


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("omnivore", lambda t: _without(t, "patch_embed"), "lack its trunk"),
        ("omnivore", lambda t: _without(t, "relative_position_index"), "lack its trunk"),
        ("omnivore", lambda t: _without(t, "layers.1.blocks.1.mlp"), "layers.1.blocks.1.mlp"),
        ("omnivore", lambda t: {"trunk": {**t["trunk"], "more": torch.ones(1)}}, "more"),
        ("omnivore", lambda t: official.maws_tensors(), "lack its trunk"),
        ("omnivore", lambda t: _turned(t), "numbers positions in another order"),
        ("maws", lambda t: _without(t, "vision_projection"), "lack vision_projection"),
        ("maws", lambda t: _without(t, "cls_token"), "lack vision_encoder.cls_token"),
        ("maws", lambda t: _without(t, "blocks.1.norm2"), "layers.1.layernorm_after"),
        ("maws", lambda t: {**t, "vision_encoder.blocks.0.ls1.gamma": torch.ones(1)}, "ls1.gamma"),
        ("maws", lambda t: official.omnivore_tensors(), "lack vision_projection"),
    ],
)
def test_other_weights_are_refused(tmp_path, name, change, says):
    path = tmp_path / SUFFIX[name]
    torch.save(change(FORMS[name]()), path)
    given = spec(name, str(path), dim=DIMS[name], preprocess=FAMILIES[name].PREPROCESS)
    with pytest.raises(ModelError, match="are not the weights of") as refused:
        FAMILIES[name].build(given, fetch(str(path)))
    assert says in str(refused.value)


def _turned(tensors):
    trunk = tensors["trunk"]
    turned = {n: t.T.contiguous() if n.endswith("index") else t for n, t in trunk.items()}
    return {"trunk": turned}


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("omnivore", {"frames": 7}, "frames must be even"),
        ("omnivore", {"pool": "cls"}, "one vector"),
        ("omnivore", {"sampling": "lattice"}, "sees whole clips"),
        ("maws", {"pool": "mean"}, "set pool: pooled"),
    ],
)
def test_what_they_cannot_do_is_refused(files, name, values, says):
    with pytest.raises(ModelError, match=says):
        _resolved(name, files, **values)


@pytest.mark.parametrize("name", [*FORMS])
def test_a_wrong_dim_is_refused(files, name):
    given = spec(name, files[name], dim=77, preprocess=FAMILIES[name].PREPROCESS)
    with pytest.raises(ModelError, match=f"give {DIMS[name]} numbers, not 77"):
        FAMILIES[name].build(given, fetch(files[name]))


def test_maws_takes_pictures_of_its_own_size(files):
    small = PreprocessSpec(resize=112, crop=(112, 112), method="float")
    with pytest.raises(ModelError, match="takes 224 x 224 pixels"):
        load_encoder(_resolved("maws", files, preprocess=small), CPU, runtime="pytorch")
