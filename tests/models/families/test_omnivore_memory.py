"""What Omnivore takes in memory: the estimate against the network, and what is not kept."""

from math import prod

import pytest
import torch
import torch.nn.functional as F

from configs.schema import EncoderSpec
from models.families import omnivore, omnivore_network
from models.resolve import resolve_encoder
from models.runtime import _converted, _probe
from models.weights import fetch
from tests.support import official


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "small.torch"
    torch.save(official.omnivore_tensors(), path)
    return resolve_encoder(EncoderSpec(name="x", family="omnivore", weights=str(path), frames=32))


@pytest.mark.parametrize("name", [*official.CLIPS])
def test_the_estimate_is_of_what_the_network_makes(spec, name, monkeypatch):
    masks, tokens = [], []
    attend, stage = F.scaled_dot_product_attention, omnivore_network._Stage.forward

    def attended(query, key, value, attn_mask):
        masks.append(attn_mask.numel())
        return attend(query, key, value, attn_mask=attn_mask)

    def staged(self, given):
        tokens.append(given.numel())
        return stage(self, given)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attended)
    monkeypatch.setattr(omnivore_network._Stage, "forward", staged)
    clip = official.clip(name)
    with torch.inference_mode():
        omnivore.build(spec, fetch(spec.weights))(clip)
    # The small network has the makers' window and one head in its first stage.
    monkeypatch.setattr(omnivore, "_WINDOWS", {spec.dim: official.WINDOW})
    size = spec.preprocess.model_copy(update={"crop": (clip.shape[3], clip.shape[4])})
    given = spec.model_copy(update={"frames": clip.shape[1], "preprocess": size})
    parts = omnivore._BIASES * max(masks) + omnivore._ACTIVATIONS * max(tokens)
    assert omnivore.working_bytes(given) == pytest.approx(4 * parts, rel=0.02)


def test_swin_l_takes_what_was_measured():
    spec = EncoderSpec(
        name="x", family="omnivore", weights="w", frames=32, dim=1536,
        preprocess=omnivore.PREPROCESS,
    )  # fmt: skip
    assert 1700 < omnivore.working_bytes(spec) / 2**20 < 1900
    picture = omnivore.working_bytes(spec.model_copy(update={"frames": 1}))
    assert picture < omnivore.working_bytes(spec) / 20


def test_openvino_keeps_no_bias_of_every_window(spec):
    openvino = pytest.importorskip("openvino")

    def build():
        return omnivore.build(spec, fetch(spec.weights))

    model, expected = _converted(spec, build, _probe(spec, 32))
    assert expected.shape == (spec.dim,)
    compiled = openvino.Core().compile_model(model, "CPU")
    kept = [
        tuple(op.get_output_shape(0))
        for op in compiled.get_runtime_model().get_ops()
        if op.get_rt_info()["layerType"] == "Const"
    ]
    tokens = prod(official.WINDOW)
    biases = [shape for shape in kept if len(shape) == 4 and shape[2:] == (tokens, tokens)]
    # One for each block that is not shifted, for all of its windows.
    assert biases
    assert {windows for windows, *_ in biases} == {1}
