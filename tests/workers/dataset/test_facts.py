"""What a data set says of a take, as its features carry it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.workers.dataset.test_egoexo import DOCUMENTED
from workers.dataset.egoexo import read_takes


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
