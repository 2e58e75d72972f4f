"""`takestream facts`, `ls --where`: what stores carry of the data set's words, and renewing it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import takestream
from service.cli.main import run
from tests.support.feature_stores import ENCODER_ID, facts_of, feature_store

ENTRY = {
    "take_uid": "a", "take_name": "name of a", "root_dir": "takes/a", "task_name": "Tea",
    "parent_task_name": "Cooking", "participant_uid": 657, "validated": False,
    "task_start_sec": 1.5, "task_end_sec": 3.5, 
    "frame_aligned_videos": {"aria01": {"rgb": {"relative_path": "aria01_214-1.mp4"}}},
    "capture": {"cameras": [{"cam_id": "aria01", "is_ego": True, "device_type": "aria"}]},
}  # fmt: skip


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for uid in "ab":
        feature_store(
            str(tmp_path / "out"), {"take_uid": uid, "take_name": uid}, np.ones((4, 2, 3))
        )
    return tmp_path / "out"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "annotations").mkdir(parents=True)
    (folder / "takes.json").write_text(json.dumps([ENTRY]))
    splits = {"take_uid_to_split": {"a": "train"}}
    (folder / "annotations" / "splits.json").write_text(json.dumps(splits))
    return folder


def objects(output: Path) -> dict[str, bytes]:
    """Every object of the stores but their roots and the marks of changes."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and ".zarr" in str(path) and path.parent.suffix != ".zarr"
    }


def table(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_old_stores_are_filled_in_without_touching_a_feature(
    output: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = objects(output)
    assert len(before) > 20
    (one,) = table(capsys, "facts", output, "--refresh", "--dataset", dataset)
    assert one["changed"] == [f"{output}/{ENCODER_ID}/a.zarr"]
    assert one["unknown"] == ["b"]
    assert objects(output) == before
    store = takestream.open(str(output), take="name of a")
    take = store.attrs["take"]
    assert (take["participant_uid"], take["split"]) == ("657", "train")
    assert take["cameras"] == {"aria01": {"is_ego": True, "device_type": "aria"}}
    assert store.attrs["problems"]["take"] == [
        "note: the data set says that this take is not validated"
    ]
    assert store.in_task.values.tolist() == [False, True, True, False]
    row = takestream.ls(str(output)).set_index("take_uid").loc["a"]
    assert (row["status"], row["parent_task"]) == ("complete", "Cooking")
    # Once more: nothing is new. And what the data set takes back goes.
    (one,) = table(capsys, "facts", output, "--refresh", "--dataset", dataset)
    assert (one["changed"], one["same"]) == ([], 1)
    (dataset / "takes.json").write_text(json.dumps([{**ENTRY, "validated": True, "capture": {}}]))
    table(capsys, "facts", output, "--refresh", "--dataset", dataset)
    store = takestream.open(str(output), take="name of a")
    assert "take" not in store.attrs["problems"]
    assert store.attrs["take"]["cameras"] is None


def test_takes_of_a_data_set_by_any_fact(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, count in (("task_end_sec=3.5", 1), ("best_exo=null", 1), ("split=val", 0)):
        assert len(table(capsys, "takes", dataset, "--where", text)) == count


def test_a_data_set_that_no_report_names_is_asked_for(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["facts", str(output), "--refresh"]) == 2
    assert "name it by --dataset" in capsys.readouterr().err


def test_takes_by_what_the_data_set_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path)
    for uid, split in (("a", "train"), ("b", "val"), ("c", None)):
        feature_store(output, facts_of(uid, split=split, task_id=1031), np.ones((4, 2, 3)))
    rows = table(capsys, "facts", output, "--where", "split=train")
    assert [row["take_uid"] for row in rows] == ["a"]
    assert run(["facts", output]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.split()[0] == "take_name"
    assert len(lines) == 3
    (version,) = table(capsys, "ls", output, "--where", "split=null", "task_id=1031")
    assert [row["take_uid"] for row in version["rows"]] == ["c"]
    assert run(["ls", output, "--where", "split=v*"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["take", "b"]
    with pytest.raises(SystemExit):
        run(["ls", output, "--where", "splits=train"])
    assert "did you mean split" in capsys.readouterr().err
