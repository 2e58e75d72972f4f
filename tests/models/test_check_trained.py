"""What is found of a trained video network and a trained transformer, and of neither's weights."""

import numpy as np
import pytest
import torch
import transformers

from models.check import UNTRAINED, examine, faults_of
from models.encoder import load_encoder
from models.weights import fetch
from service.demo.clips import footage_clips
from tests.support import trained_transformer, transnet
from tests.support.checkpoints import cosine
from tests.support.shots import FOUND, UNSURE
from tests.workers.run.test_trained_video import pictures

CPU = torch.device("cpu")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def films(monkeypatch):
    """The weights of TransNet V2, its family made known, and the first clip of its own film."""
    weights, _ = transnet.files()
    transnet.family(monkeypatch)
    clip = torch.from_numpy(np.stack(list(pictures(transnet.WINDOW)))).movedim(-1, 1)[None]
    return weights, clip


def test_a_trained_video_network_is_found_to_be_one_and_a_random_one_not(films, tmp_path):
    weights, _ = films
    encoder = load_encoder(transnet.spec_of(weights, "cls"), CPU)
    clips = footage_clips(encoder.spec, most=2)
    found, _ = examine(encoder, *clips, fetch(str(weights)).state_dict())
    assert faults_of(found) == ()
    assert found.structure > 1.4
    assert found.light < 0.1
    torch.manual_seed(0)
    random = tmp_path / "random.pth"
    torch.save(transnet.TransNet().state_dict(), random)
    encoder = load_encoder(transnet.spec_of(random, "cls", None), CPU)
    found, _ = examine(encoder, *clips, fetch(str(random)).state_dict())
    assert [fault[: len(UNTRAINED)] for fault in faults_of(found)] == [UNTRAINED]
    assert found.structure < 1.15


def test_a_video_network_sees_the_order_of_frames_and_no_other_clips(films):
    weights, clip = films
    plain = load_encoder(transnet.spec_of(weights, "cls"), CPU, runtime="pytorch")
    backwards = clip.flip(1)
    both = plain.encode(torch.cat([clip, backwards, clip]))
    ends = [end for end in FOUND if end < transnet.WINDOW - 1]
    assert (both[0] > 0.5).nonzero().flatten().tolist() == ends
    # Backwards, a shot ends where the next one began.
    seen = [end for end in (*FOUND, *UNSURE) if end < transnet.WINDOW - 1]
    said = (both[1] > 0.5).nonzero().flatten().tolist()
    assert set(said) <= {transnet.WINDOW - 2 - end for end in seen}
    assert len(said) >= 2
    assert torch.equal(both[0], both[2])
    assert (plain.encode(clip)[0] - both[0]).abs().max() < 1e-5
    converted = load_encoder(transnet.spec_of(weights, "cls"), CPU, runtime="openvino")
    assert cosine(converted.encode(torch.cat([clip, backwards])), both[:2]) > 0.999999


def test_a_trained_transformer_is_what_its_wheel_runs_and_is_found_to_be_trained(tmp_path):
    trained_transformer.save(tmp_path)
    network = transformers.Dinov2Model.from_pretrained(tmp_path).eval()
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = network(pixels).last_hidden_state.numpy()
    assert np.abs(tokens - trained_transformer.answers(pixels)).max() < 1e-3
    for pool in ("cls", "mean"):
        encoder = load_encoder(trained_transformer.spec_of(tmp_path, pool), CPU)
        found, _ = examine(encoder, *footage_clips(encoder.spec), fetch(str(tmp_path)).state_dict())
        assert faults_of(found) == ()
        assert found.light < 0.3
        assert found.structure > 3


def test_a_random_transformer_of_the_same_size_is_not(tmp_path):
    trained_transformer.save_untrained(tmp_path)
    encoder = load_encoder(trained_transformer.spec_of(tmp_path, "cls"), CPU)
    found, _ = examine(encoder, *footage_clips(encoder.spec), fetch(str(tmp_path)).state_dict())
    assert [fault[: len(UNTRAINED)] for fault in faults_of(found)] == [UNTRAINED]
    assert found.structure < 1.15
    assert found.light > 0.8
