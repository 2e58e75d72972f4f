"""The two kinds of checkpoint with a joint space, made once."""

import shutil
from pathlib import Path

import pytest

from models.search.joint import load_joint
from tests.support.checkpoints import CPU
from tests.support.joint_checkpoints import KINDS, save_clip, save_siglip, spec


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Per kind: the folder of the checkpoint and transformers' own model."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    makers = {"clip": save_clip, "siglip": save_siglip}
    return {kind: (folders[kind], makers[kind](folders[kind])) for kind in KINDS}


@pytest.fixture(scope="module")
def loaded(saved):
    return {kind: load_joint(spec(saved[kind][0]), CPU) for kind in KINDS}


@pytest.fixture
def own_copy(saved, tmp_path):
    """Copies a checkpoint into the test's own folder, to be changed there."""

    def copy(kind):
        return Path(shutil.copytree(saved[kind][0], tmp_path / "own" / kind))

    return copy
