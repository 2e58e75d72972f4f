"""What an `encoder_id` depends on, and where things lie for workers in other folders."""

import os
from pathlib import Path
from typing import Any

import pytest

from configs.load import SettingsError, load_job, merge
from workers.run.recipe import Recipe, make_recipe

JOB = {"dataset": "/data", "output": "/features"}


def recipe(**settings: Any) -> Recipe:
    return make_recipe(load_job(None, merge(JOB, settings)))


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset": "/other", "output": "s3://elsewhere/x"},
        {"run": {"batch_size": 2, "workers": 3, "device": "cpu", "compile": True}},
        {"select": {"streams": ["cam01_0"], "views": ["exo"]}},
        {"store": {"unit_frames": 64}},
        {"rotate": {"cam*": 0}},
        {"grid": {"window": 32}},
        {"timeline": "frames"},
        {"encoder": "efficientnet_lite"},
    ],
)
def test_what_does_not_change_the_features_keeps_the_id(settings: dict[str, Any]) -> None:
    assert recipe(**settings).target.encoder_id == recipe().target.encoder_id


def test_what_changes_the_features_is_another_id() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"encoder": {"precision": "bfloat16"}},
        {"encoder": {"frames": 4}},
        {"encoder": {"sampling": "spread"}},
        {"grid": {"stride": 8}},
        {"grid": {"tail": "drop"}},
        {"grid": {"fps": 10}},
        {"select": {"resolution": "448"}},
        {"rotate": {"aria*_rgb": 90}},
        {"timeline": "pts"},
        {"timeline": {"kind": "pts", "tolerance": 1}},
    ]
    ids = {recipe(**change).target.encoder_id for change in changes}
    assert len(ids) == len(changes)
    assert all(name.startswith("efficientnet_lite-") for name in ids)


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = recipe(dataset="data", output="file://" + os.fspath(tmp_path) + "/out/")
    assert made.job.dataset == os.fspath(tmp_path / "data")
    assert made.store_uri("u") == os.fspath(tmp_path / "out" / made.target.encoder_id / "u.zarr")


@pytest.mark.parametrize("key", ["dataset", "output"])
def test_memory_is_refused_because_workers_do_not_share_it(key: str) -> None:
    with pytest.raises(SettingsError, match=f"{key}: memory://x"):
        recipe(**{key: "memory://x"})


def test_quarter_turns_by_pattern() -> None:
    made = recipe(rotate={"aria*_rgb": 270, "cam01_0": 90})
    turns = [made.quarter_turns(name) for name in ("aria01_rgb", "aria01_slam-left", "cam01_0")]
    assert turns == [3, 0, 1]


def test_ids_of_stores_that_exist_do_not_change() -> None:
    assert recipe().target.encoder_id == "efficientnet_lite-45cc0f12ee"
    # Made before frames could be shared.
    old = recipe(encoder={"sampling": "spread"})
    assert old.target.encoder_id == "efficientnet_lite-f5744437eb"


def test_frames_of_segments_are_spread_as_they_always_were(tmp_path: Path) -> None:
    path = tmp_path / "segments.csv"
    path.write_text("take,start,end\nt,0,1\n")
    ours, old = (
        recipe(encoder=choice, segments=str(path)) for choice in ({}, {"sampling": "spread"})
    )
    assert ours.target == old.target
    assert not ours.target.encoder.shares_frames


def test_several_encoders_are_targets_of_one_recipe() -> None:
    both = recipe(encoders=["efficientnet_lite", {"preset": "efficientnet_lite", "frames": 4}])
    alone = [recipe(encoder={"frames": n}).target.encoder_id for n in (8, 4)]
    assert list(both.encoder_ids) == alone
    assert both.target.encoder_id == alone[0]
    with pytest.raises(SettingsError, match="two of them are the same"):
        recipe(encoders=["efficientnet_lite", {"preset": "efficientnet_lite", "frames": 8}])
