"""Annotation files as the release has them, and as they should not be."""

import json
from pathlib import Path
from typing import Any

import pytest

from takestream.storage import S3Options
from workers.dataset import annotations
from workers.dataset.annotations import DESCRIPTIONS, KEYSTEPS, Annotation, read_annotations

S3 = S3Options()
GOOD = {"segments": [{"start_time": 1, "end_time": 2, "step_name": "Stir"}]}


def write(root: Path, name: str, entries: Any) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / name).write_text(json.dumps({"annotations": entries, "taxonomy": {}}))


def test_keysteps_and_descriptions_of_all_files(tmp_path: Path) -> None:
    step = {"start_time": 2, "end_time": 3.5, "step_name": "Cut the onion", "step_id": 7}
    first = {**step, "start_time": 1.0, "end_time": 1.0, "step_name": None}
    write(tmp_path, "keystep_train.json", {"a": {"segments": [step]}})
    segments = [step, {**first, "step_description": "Peel it"}]
    write(tmp_path, "keystep_val.json", {"b": {"segments": segments}})
    said = [{"text": "C cuts", "timestamp": 4.2}, {"text": "C looks", "timestamp": 0.1}]
    notes = [{"rejected": "0", "descriptions": said}, {"rejected": True, "descriptions": said}]
    write(tmp_path, "atomic_descriptions_val.json", {"b": notes})
    read = read_annotations(str(tmp_path), S3)
    assert read.odd == ()
    assert read.of("a") == {KEYSTEPS: [Annotation(2.0, 3.5, "Cut the onion")]}
    assert read.of("b") == {
        KEYSTEPS: [Annotation(1.0, 1.0, "Peel it"), Annotation(2.0, 3.5, "Cut the onion")],
        DESCRIPTIONS: [Annotation(0.1, None, "C looks"), Annotation(4.2, None, "C cuts")],
    }
    assert read.of("c") == {}


@pytest.mark.parametrize(
    "entry",
    [
        None, 3, "x", [], {}, {"segments": None}, {"segments": [None, 1, "x", {}]},
        {"segments": [{"start_time": "1", "end_time": 2, "step_name": "x"}]},
        {"segments": [{"start_time": 3, "end_time": 2, "step_name": "x"}]},
        {"segments": [{"start_time": -3, "end_time": 2, "step_name": "x"}]},
        {"segments": [{"start_time": 1, "end_time": 2, "step_name": ""}]},
        [None, 1, {"descriptions": 5}, {"descriptions": [{"text": 5, "timestamp": 1}]}],
        [{"descriptions": [{"text": "x", "timestamp": None}]}],
    ],
)  # fmt: skip
def test_an_entry_that_is_none_costs_itself_alone(tmp_path: Path, entry: Any) -> None:
    write(tmp_path, "keystep_train.json", {"a": entry, "b": GOOD})
    write(tmp_path, "atomic_descriptions_train.json", {"a": entry})
    read = read_annotations(str(tmp_path), S3)
    assert read.of("a") == {}
    assert read.of("b") == {KEYSTEPS: [Annotation(1.0, 2.0, "Stir")]}


@pytest.mark.parametrize("raw", ['{"segments": "\\ud800"}', "[" * 5000 + "]" * 5000])
def test_json_that_cannot_be_read_is_named(tmp_path: Path, raw: str) -> None:
    write(tmp_path, "keystep_val.json", {"b": GOOD})
    text = '{"annotations": {"a": ' + raw + "}}"
    (tmp_path / "annotations" / "keystep_train.json").write_text(text)
    read = read_annotations(str(tmp_path), S3)
    assert read.of("b") == {KEYSTEPS: [Annotation(1.0, 2.0, "Stir")]}
    (line,) = read.odd
    assert "keystep_train.json" in line


def test_a_file_that_is_none_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path, "keystep_val.json", {"b": {"segments": []}})
    (tmp_path / "annotations" / "keystep_train.json").write_text("{")
    write(tmp_path, "atomic_descriptions_train.json", [1])
    read = read_annotations(str(tmp_path), S3)
    assert len(read.odd) == 2
    assert "keystep_train.json" in read.odd[0]
    assert "atomic_descriptions_train.json" in read.odd[1]


def test_files_are_read_again_when_they_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_annotations(str(tmp_path), S3)
    assert first.of("a") == {}
    write(tmp_path, "keystep_train.json", {"a": {"segments": []}})
    second = read_annotations(str(tmp_path), S3, first)
    assert second is not first
    assert read_annotations(str(tmp_path), S3, second) is second
    monkeypatch.setattr(annotations, "MOST_BYTES", 10)
    (line,) = read_annotations(str(tmp_path), S3).odd
    assert "are more than 10" in line
