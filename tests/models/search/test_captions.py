"""Pictures that find their captions, and what of a network that knows nothing."""

import numpy as np
import pytest

from models.search.captions import caption_ranks
from models.search.joint import load_joint
from service.demo import captioned
from tests.support.checkpoints import CPU
from tests.support.joint_checkpoints import save_clip, save_trained_clip, spec


@pytest.fixture(scope="module")
def shown():
    found = captioned.captioned_pictures()
    return [data for _, data in found], [entry.caption for entry, _ in found]


def test_a_network_that_has_learnt_the_captions_finds_them(shown, tmp_path):
    save_trained_clip(tmp_path, *shown)
    assert caption_ranks(load_joint(spec(tmp_path), CPU), *shown) == [1] * 12


def test_random_weights_find_them_by_chance(shown, tmp_path):
    save_clip(tmp_path, length=64)
    ranks = caption_ranks(load_joint(spec(tmp_path), CPU), *shown)
    assert sum(rank == 1 for rank in ranks) < 6
    assert len(set(ranks)) > 3


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_a_network_that_says_the_same_of_all_finds_none(shown, value):
    class Constant:
        def text(self, text):
            return np.full(4, value, np.float32)

        image = text

    assert caption_ranks(Constant(), *shown) == [12] * 12


def test_pictures_of_packages_that_are_not_here_are_left_out_and_named(monkeypatch):
    assert captioned.packages_not_here() == []
    here = captioned.importlib.util.find_spec
    monkeypatch.setattr(
        captioned.importlib.util,
        "find_spec",
        lambda name: None if name == "sklearn" else here(name),
    )
    assert captioned.packages_not_here() == ["scikit-learn"]
    assert len(captioned.captioned_pictures()) == 10
