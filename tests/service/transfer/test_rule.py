"""By which rule imported clips were cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from service.cli.main import run
from service.transfer.rule import CONFIG, OFFICIAL, PER_FRAME, ClipRule, rule_beside
from takestream.storage import S3Options

# As the extractor's own settings are (ego4d/features/configs/egoexo_maws_clip.yaml).
MAWS = """
fps: 30
inference_config:
  fps: 30
  frame_window: 1
  stride: 1
check_fv_count: false
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "maws_clip_2b"
    path.mkdir()
    torch.save(torch.randn(90, 4).half(), path / "u_cam01_0.pt")
    return path


def dataset(root: Path, seconds: float) -> Path:
    root.mkdir()
    videos = {"cam01": {"0": {"cam_id": "cam01", "relative_path": "cam01.mp4"}}}
    take = {
        "take_uid": "u", "take_name": "t", "root_dir": "takes/t", "duration_sec": seconds,
        "frame_aligned_videos": videos,
    }  # fmt: skip
    (root / "takes.json").write_text(json.dumps([take]))
    return root


def stored(capsys: Any, *arguments: Any) -> xr.Dataset:
    assert run(["import", *map(str, arguments), "--name", "m", "--json"]) in (0, 1)
    facts = json.loads(capsys.readouterr().out)
    return xr.open_zarr(f"{facts['output']}/u.zarr").load()


@pytest.mark.parametrize("flag", [True, False])
def test_a_vector_for_each_frame(tmp_path: Path, folder: Path, capsys: Any, flag: bool) -> None:
    if not flag:
        (folder / CONFIG).write_text(MAWS)
    flags = ["--per-frame"] if flag else []
    found = stored(capsys, folder, "--output", tmp_path / "out", *flags)
    assert found.start_frame.values.tolist() == list(range(90))
    assert found.end_time.values[-1] == pytest.approx(3)
    assert (found.attrs["grid"]["window"], found.attrs["grid"]["stride"]) == (1, 1)
    # Each is where it is, so nothing is uncertain.
    assert found.attrs["problems"] == {}


def test_without_settings_it_is_the_usual_rule(tmp_path: Path, folder: Path, capsys: Any) -> None:
    found = stored(capsys, folder, "--output", tmp_path / "out")
    assert found.start_frame.values[:3].tolist() == [0, 16, 32]


def test_as_many_vectors_as_frames_are_no_clips(tmp_path: Path, folder: Path, capsys: Any) -> None:
    data = dataset(tmp_path / "data", 3.03)
    command = ["import", str(folder), "--output", str(tmp_path / "out"), "--name", "m"]
    assert run([*command, "--dataset", str(data)]) == 2
    assert "these files hold one for each frame, not clips; say --per-frame" in (
        capsys.readouterr().err
    )
    found = stored(capsys, folder, "--output", tmp_path / "out", "--dataset", data, "--per-frame")
    assert found.start_frame.values.tolist() == list(range(90))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (MAWS, PER_FRAME),
        ("inference_config: {fps: 30, frame_window: 32, stride: 16}", OFFICIAL),
        ("inference_config: {fps: 25, frame_window: 10, stride: 5}", ClipRule(25, 10, 5)),
        ("inference_config: {fps: 30}", None), ("model: x", None), ("- 1", None),
        ("{", None), ("", None), ("inference_config: 3", None),
    ],
)  # fmt: skip
def test_settings_beside_files(tmp_path: Path, text: str, rule: ClipRule | None) -> None:
    (tmp_path / CONFIG).write_text(text)
    assert rule_beside(str(tmp_path), S3Options()) == rule


def test_settings_that_cannot_be(tmp_path: Path, folder: Path, capsys: Any) -> None:
    assert rule_beside(str(tmp_path / "nowhere"), S3Options()) is None
    (folder / CONFIG).write_text("inference_config: {fps: 30, frame_window: 0.5, stride: 1}")
    assert run(["import", str(folder), "--output", str(tmp_path / "o"), "--name", "m"]) == 2
    assert "no whole frames" in capsys.readouterr().err


def test_a_shorter_take_has_one_clip() -> None:
    assert [OFFICIAL.clips(n) for n in (1, 32, 33, 48, 49)] == [1, 1, 2, 2, 3]
    assert [PER_FRAME.clips(n) for n in (1, 2, 50)] == [1, 2, 50]
    assert np.array_equal([ClipRule(window=4, stride=3).clips(n) for n in (4, 5, 7)], [1, 2, 2])
