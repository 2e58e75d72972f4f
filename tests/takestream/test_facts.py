"""What a data set says of a take, through the readers: splits, groups, the span of the task."""

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import takestream
from takestream.client.records import TakeFacts
from takestream.facts import COLUMNS, FACTS, fits, matches, notes_of, parse_condition, task_span
from tests.support.feature_stores import facts_of, feature_store

# Clip i shows second i: the task is done in clips 2, 3 and 4 (middles 2.5, 3.5, 4.5).
TASK = {"task_start_sec": 2.2, "task_end_sec": 5.0}


@pytest.fixture
def output(tmp_path: Path) -> str:
    takes: dict[str, dict[str, Any]] = {
        "a": {"split": "train", "participant_uid": "p1", **TASK},
        "b": {"split": "val", "participant_uid": "p1", "task_start_sec": 0.0, "task_end_sec": 1.0},
        "c": {"participant_uid": "p2", "benchmarks": ["keystep", "relations"]},
    }
    for number, (uid, said) in enumerate(takes.items()):
        clips = np.arange(8, dtype=np.float32)[:, None, None] + 100 * number
        feature_store(str(tmp_path), facts_of(uid, **said), np.broadcast_to(clips, (8, 2, 4)))
    return str(tmp_path)


def test_clips_say_whether_the_task_is_done_in_them(output: str) -> None:
    dataset = takestream.open(output, take="a")
    assert dataset.in_task.values.tolist() == [False] * 2 + [True] * 3 + [False] * 3
    cut = takestream.open(output, take="a", span="task")
    assert cut["clip"].values.tolist() == [2, 3, 4]
    assert cut.features.values[:, 0, 0].tolist() == [2, 3, 4]
    # Nobody knows: there is no such coordinate, and asking for the span is refused.
    unknown = takestream.open(output, take="c")
    assert "in_task" not in unknown.coords
    with pytest.raises(ValueError, match=r"does not say when the task .* facts --refresh"):
        takestream.open(output, take="c", span="task")
    with pytest.raises(ValueError, match="span is take or task, not 'walk'"):
        takestream.open(output, take="a", span="walk")
    joined = takestream.concat([dataset, unknown])
    assert "in_task" not in joined.coords
    assert takestream.concat([cut, takestream.open(output, take="b")]).in_task.dtype == bool


def test_a_tree_leaves_out_takes_whose_task_nobody_timed(output: str) -> None:
    with pytest.warns(UserWarning, match="1 of 3 takes do not say when their task is done"):
        tree = takestream.open(output, span="task")
    assert {name: tree[name].sizes["clip"] for name in tree.children} == {"a": 3, "b": 1}


def test_windows_of_a_split_a_span_and_groups(output: str) -> None:
    with pytest.warns(UserWarning, match=r"1 of 3 takes do not say their split .*first: c"):
        train = takestream.Windows(output, split="train", length=2, shuffle=False)
    assert {sample["take"] for sample in train} == {"a"}
    with pytest.warns(UserWarning, match="do not say their task_start_sec"):
        task = takestream.Windows(output, span="task", length=2, step=1, shuffle=False)
    seen = [(s["take"], s["clip"].tolist(), s["features"][:, 0, 0].tolist()) for s in task]
    assert seen == [
        ("a", [2, 3], [2, 3]),
        ("a", [3, 4], [3, 4]),
        ("b", [0, -1], [100, 0]),
    ]
    assert len(task) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people = takestream.Windows(output, group_by="participant_uid", length=8, shuffle=False)
    assert people.groups == {"a": "p1", "b": "p1", "c": "p2"}
    samples = list(people)
    assert [sample["group"] for sample in samples] == ["p1", "p1", "p2"]
    assert takestream.Windows.collate(samples)["group"] == ["p1", "p1", "p2"]
    with pytest.raises(ValueError, match=r"no take is of split 'test'; there is train, val"):
        takestream.Windows(output, split="test")
    with pytest.raises(ValueError, match=r"group_by is one of .*participant_uid"):
        takestream.Windows(output, group_by="person")
    with pytest.raises(ValueError, match=r"no store says physical_setting_uid: .*--refresh"):
        takestream.Windows(output, group_by="physical_setting_uid")


def test_a_listing_has_a_column_for_each_fact(output: str) -> None:
    table = takestream.ls(output)
    assert set(COLUMNS) <= set(table.columns)
    assert list(table.columns[:5]) == ["take_name", "encoder_id", "status", "clips", "valid_clips"]
    assert table.columns.is_unique
    assert table.split.tolist()[:2] == ["train", "val"]
    assert table.split.isna().tolist() == [False, False, True]
    assert table.benchmarks.tolist() == [None, None, ["keystep", "relations"]]
    assert table.task_start_sec.tolist()[:2] == [2.2, 0.0]


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        ("split=train", ["a"]), ("split=tr*", ["a"]), ("split=null", ["c"]),
        ("participant_uid=p1", ["a", "b"]), ("benchmarks=relations", ["c"]),
        ("task_end_sec=5", ["a"]), ("validated=null", ["a", "b", "c"]), ("validated=true", []),
    ],
)  # fmt: skip
def test_conditions(output: str, text: str, uids: list[str]) -> None:
    fact, wanted = parse_condition(text)
    rows = takestream.ls(output).to_dict("records")
    kept = [row for row in rows if matches(_plain(row[fact.column]), wanted, fact.kind)]
    assert [row["take_uid"] for row in kept] == uids
    stores = {uid: takestream.open(output, take=uid).attrs["take"] for uid in "abc"}
    assert [uid for uid, take in stores.items() if fits(take, [(fact, wanted)])] == uids


def _plain(value: Any) -> Any:
    return value if isinstance(value, list) or value == value else None


def test_a_condition_that_is_none_names_the_nearest_fact() -> None:
    with pytest.raises(ValueError, match="did you mean participant_uid"):
        parse_condition("participant_id=1")
    with pytest.raises(ValueError, match="FACT=VALUE"):
        parse_condition("split")


@pytest.mark.parametrize(
    ("start", "end"), [(None, 3.0), (1.0, None), (3.0, 3.0), (4.0, 3.0), (True, 3.0), ("1", 3.0)]
)
def test_a_span_is_never_guessed(start: Any, end: Any) -> None:
    assert task_span(facts_of("a", task_start_sec=start, task_end_sec=end)) is None


def test_what_a_data_set_says_against_a_take_is_a_note() -> None:
    assert notes_of(facts_of("a", validated=True, timesync_validated=None)) == []
    notes = notes_of(facts_of("a", validated=False, timesync_validated=False))
    assert len(notes) == 2
    assert all(note.startswith("note: the data set says") for note in notes)


def test_the_wire_has_the_same_facts() -> None:
    names = [field.name for field in fields(TakeFacts)]
    assert names == [*(fact.name for fact in FACTS), "notes"]
