"""What a check says of trained, random, damaged and odd encoders, on real clips."""

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from configs.load import choose_encoder
from configs.schema import EncoderChoice
from models.check import UNTRAINED, examine, faults_of
from models.encoder import load_encoder
from models.weights import fetch
from service.demo.clips import footage_clips
from tests.support.checkpoints import BY_ID, save, spec

CPU = torch.device("cpu")
# One frame a clip is as good for a network of single images, and quick.
SPEC = choose_encoder(EncoderChoice(frames=1))


@pytest.fixture(scope="module")
def footage():
    return footage_clips(SPEC)


@pytest.fixture(scope="module")
def trained():
    return load_encoder(SPEC, CPU)


def of_weights(folder, tensors):
    """The default encoder with other weights."""
    torch.save(tensors, folder / "other.pth")
    changes = {"weights": str(folder / "other.pth"), "sha256": None}
    return load_encoder(SPEC.model_copy(update=changes), CPU)


class Changed:
    """An encoder whose vectors are changed after the fact."""

    def __init__(self, encoder, change):
        self.spec, self._encode, self._change = encoder.spec, encoder.encode, change

    def encode(self, clips):
        return self._change(self._encode(clips))


def test_a_trained_encoder_is_found_to_be_one(footage, trained):
    found, vectors = examine(trained, *footage)
    assert faults_of(found) == ()
    assert found.sha256 == SPEC.sha256
    assert found.runtime == trained.runtime
    assert (found.dim, found.clips, vectors.shape) == (1280, 12, (12, 1280))
    assert found.light < 0.25
    assert found.batch < 1e-5
    assert found.red_blue > 0.1
    assert found.constant > 0.3


def test_random_weights_look_untrained(footage, tmp_path):
    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-lite0")
    found, _ = examine(of_weights(tmp_path, network.state_dict()), *footage)
    (fault,) = faults_of(found)
    assert fault.startswith(UNTRAINED)
    assert found.light > 0.6


@pytest.mark.slow
def test_shuffled_weights_look_untrained(footage, tmp_path):
    """Each layer keeps its values, as where names of layers were mixed up."""
    generator = torch.Generator().manual_seed(0)
    shuffled = {
        name: tensor.flatten()[torch.randperm(tensor.numel(), generator=generator)].view_as(tensor)
        for name, tensor in fetch(SPEC.weights).state_dict().items()
    }
    found, _ = examine(of_weights(tmp_path, shuffled), *footage)
    assert [fault[: len(UNTRAINED)] for fault in faults_of(found)] == [UNTRAINED]


@pytest.mark.parametrize(("name", "counts"), [("videomae-pooled", True), ("dinov2-cls", False)])
def test_the_order_of_frames_counts_for_a_video_encoder_alone(name, counts, tmp_path):
    case = BY_ID[name]
    save(case, tmp_path)
    encoder = load_encoder(spec(case, str(tmp_path)), CPU, runtime="pytorch")
    found, _ = examine(encoder, *footage_clips(encoder.spec))
    assert (found.order > 0.05) == counts
    assert (found.order < 1e-6) != counts
    assert faults_of(found)[0].startswith(UNTRAINED)


def test_one_frame_has_no_order(tmp_path):
    case = BY_ID["siglip-one-frame-mean"]
    save(case, tmp_path)
    encoder = load_encoder(spec(case, str(tmp_path)), CPU, runtime="pytorch")
    assert examine(encoder, *footage_clips(encoder.spec, most=1))[0].order is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x + (x.mean(0) if len(x) > 1 else 0), "with the clips beside it"),
        (lambda x: torch.ones_like(x), "the same vector whatever it is shown"),
        (lambda x: torch.full_like(x, float("nan")), "not finite"),
    ],
    ids=["batch", "constant", "nan"],
)
def test_faults_are_named(footage, trained, change, words):
    clips, films = footage
    found, _ = examine(Changed(trained, change), clips[::4], films[::4])
    assert any(words in fault for fault in faults_of(found))


def test_one_film_is_not_enough(footage, trained):
    clips, _ = footage
    with pytest.raises(ValueError, match="two films or more"):
        examine(trained, clips, ["one"] * len(clips))
