"""Classes by their names alone, with a checkpoint saved in the hub's own format."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs.load import SettingsError
from models.search.joint import load_joint
from service.evaluate import zero_shot as module
from service.evaluate.evaluation import ZERO_SHOT, Settings, evaluate_stores
from service.evaluate.zero_shot import read_prompts, zero_shot
from service.transfer.stored import choose_stores
from takestream.storage import S3Options
from tests.support.checkpoints import CPU
from tests.support.feature_stores import facts_of, feature_store
from tests.support.joint_checkpoints import save_siglip, spec

S3 = S3Options()
NAMES = ("making tea", "repairing a bicycle")


def test_names_score_features_in_the_joint_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_siglip(tmp_path / "weights")
    preset = spec(tmp_path / "weights", pool="pooled")
    monkeypatch.setattr(module, "encoder_presets", lambda: {preset.name: preset})
    joint = load_joint(preset, CPU)
    random = np.random.default_rng(0)
    for number in range(24):
        name = NAMES[number % 2]
        take = facts_of(f"t{number:02}", task_name=name, participant_uid=f"p{number // 4}")
        vector = joint.text(f"a {name}.") + 0.001 * random.normal(size=joint.dim)
        feature_store(str(tmp_path / "out"), take, vector[None, None], ["aria01_rgb"])
    scorer = zero_shot({"name": preset.name, "pool": "pooled"}, ["a {}."], S3)
    assert scorer is not None
    chosen = choose_stores(str(tmp_path / "out"), None, None, S3)
    found = evaluate_stores(chosen, Settings("task"), S3, scorer)
    (row,) = [row for row in found.rows if row.probe == ZERO_SHOT]
    assert row.top1.value == 1
    assert row.shuffled is None
    assert json.dumps(found.facts())


def test_an_encoder_without_a_text_side_has_none() -> None:
    assert zero_shot({"name": "efficientnet_lite", "pool": "pooled"}, ["{}"], S3) is None
    assert zero_shot({"name": "of nobody's"}, ["{}"], S3) is None


def test_prompts_are_sentences_with_a_place_for_the_name(tmp_path: Path) -> None:
    assert all(prompt.count("{}") == 1 for prompt in read_prompts())
    for text, words in (("a photo", "has no {} for the name"), ("# none", "holds no sentence")):
        file = tmp_path / "prompts.txt"
        file.write_text(text)
        with pytest.raises(SettingsError, match=words):
            read_prompts(file)
    with pytest.raises(SettingsError, match="No such file"):
        read_prompts(tmp_path / "nowhere.txt")
