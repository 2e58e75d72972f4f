"""What a data set says of a take, as its features carry it."""

import json
from pathlib import Path
from typing import Any

import pytest

from takestream.facts import FACTS
from tests.workers.dataset.test_egoexo import DOCUMENTED
from workers.dataset.egoexo import read_takes
from workers.dataset.layouts import open_dataset


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({}, {"participant_uid": "657", "task_id": 4001, "best_exo": "cam01", "validated": None}),
        (
            {
                "task_start_sec": 3.5, "task_end_sec": 20, "physical_setting_uid": "p-1",
                "validated": "true", "parent_task_id": 4000.0, "is_narrated": False,
                "capture": {"capture_name": "c", "timesync_validated": True},
            },
            {
                "task_start_sec": 3.5, "task_end_sec": 20.0, "physical_setting_uid": "p-1",
                "validated": True, "parent_task_id": 4000, "is_narrated": False,
                "timesync_validated": True, "capture_name": "c",
            },
        ),
        (
            {
                "participant_uid": ["x"], "task_id": "4001", "task_start_sec": -1,
                "task_end_sec": float("nan"), "parent_task_id": 10**400, "validated": "perhaps",
                "physical_setting_uid": True,
            },
            {
                "participant_uid": None, "task_id": None, "task_start_sec": None,
                "task_end_sec": None, "parent_task_id": None, "validated": None,
                "physical_setting_uid": None,
            },
        ),
    ],
)  # fmt: skip
def test_facts_are_kept_and_never_guessed(
    tmp_path: Path, given: dict[str, Any], known: dict[str, Any]
) -> None:
    (tmp_path / "takes.json").write_text(json.dumps([{**DOCUMENTED, **given}]))
    (take,) = read_takes(str(tmp_path))
    facts = take.facts()
    assert {name: facts[name] for name in known} == known
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_cameras_and_their_devices(tmp_path: Path) -> None:
    cameras = [
        {"cam_id": "aria01", "is_ego": True, "device_type": "aria"},
        {"cam_id": "cam01", "is_ego": "false"},
        {"cam_id": "cam01", "is_ego": True},
        "cam02",
        {"cam_id": 3},
    ]
    entry = {**DOCUMENTED, "capture": {"capture_name": "c", "cameras": cameras}}
    (tmp_path / "takes.json").write_text(json.dumps([entry]))
    (take,) = read_takes(str(tmp_path))
    assert take.facts()["cameras"] == {
        "aria01": {"is_ego": True, "device_type": "aria"},
        "cam01": {"is_ego": False, "device_type": None},
    }


def test_the_names_are_those_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "takes.json").write_text(json.dumps([DOCUMENTED]))
    (take,) = read_takes(str(tmp_path))
    assert list(take.facts()) == [fact.name for fact in FACTS]


def _written(folder: Path, **files: Any) -> None:
    for name, content in files.items():
        path = folder / {"splits": "annotations/splits.json"}.get(name, f"{name}.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


SPLITS = {
    "take_uid_to_split": {DOCUMENTED["take_uid"]: "train"},
    "take_uid_to_benchmark": {DOCUMENTED["take_uid"]: ["keystep", "relations"]},
}


@pytest.mark.parametrize(
    ("splits", "split", "benchmarks"),
    [
        (SPLITS, "train", ["keystep", "relations"]),
        ({"split_to_take_uids": {"val": [DOCUMENTED["take_uid"]], "test": []}}, "val", None),
        # Of two splits: which one nobody says.
        ({"split_to_take_uids": {key: [DOCUMENTED["take_uid"]] for key in "ab"}}, None, None),
        ({"take_uid_to_split": {DOCUMENTED["take_uid"]: 3}}, None, None),
        ({"take_uid_to_split": {"other": "train"}}, None, None),
        (None, None, None),
    ],
)
def test_the_official_split_is_read_where_it_is_there(
    tmp_path: Path, splits: Any, split: str | None, benchmarks: list[str] | None
) -> None:
    _written(tmp_path, takes=[DOCUMENTED], **({} if splits is None else {"splits": splits}))
    dataset = open_dataset(str(tmp_path))
    (take,) = dataset.takes()
    assert (take.facts()["split"], take.facts()["benchmarks"]) == (split, benchmarks)
    assert dataset.notes() == ()


def test_what_captures_json_alone_says(tmp_path: Path) -> None:
    bare = {**DOCUMENTED, "capture_uid": "u", "capture": None}
    capture = {
        "capture_uid": "u", "capture_name": "session", "timesync_validated": False,
        "cameras": [{"cam_id": "cam01", "is_ego": False, "device_type": "gopro"}],
    }  # fmt: skip
    _written(tmp_path, takes=[bare], captures=[{"capture_uid": 7}, "x", capture])
    (take,) = open_dataset(str(tmp_path)).takes()
    facts = take.facts()
    assert facts["capture_name"] == "session"
    assert facts["timesync_validated"] is False
    assert facts["cameras"] == {"cam01": {"is_ego": False, "device_type": "gopro"}}


@pytest.mark.parametrize("name", ["splits", "captures"])
def test_a_damaged_file_that_nobody_asked_for_costs_its_facts_alone(
    tmp_path: Path, name: str
) -> None:
    _written(tmp_path, takes=[{**DOCUMENTED, "capture_uid": "u"}], **{name: "{"})
    dataset = open_dataset(str(tmp_path))
    (take,) = dataset.takes()
    assert take.facts()["split"] is None
    (note,) = dataset.notes()
    assert "not valid JSON" in note
    assert f"{name}.json" in note
