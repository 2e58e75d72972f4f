"""Under which licence the videos of a take are used."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_job
from takestream.licence import Licence
from tests.workers.dataset.test_egoexo import DOCUMENTED
from workers.dataset.egoexo import read_takes
from workers.dataset.layouts import licence_of


@pytest.mark.parametrize(
    ("entry", "setting", "found"),
    [
        ({}, None, "Ego-Exo4D license agreement"),
        ({"licence": {"name": "MIT"}}, None, "MIT"),
        ({"licence": {"name": "MIT"}}, "ours", "ours"),
        ({"licence": "MIT"}, None, "Ego-Exo4D license agreement"),
        ({"licence": {"name": "MIT", "url": "data:,x"}}, None, "Ego-Exo4D license agreement"),
    ],
)
def test_a_take_s_licence_is_the_job_s_its_own_or_the_layout_s(
    tmp_path: Path, entry: dict[str, Any], setting: str | None, found: str
) -> None:
    (tmp_path / "takes.json").write_text(json.dumps([{**DOCUMENTED, **entry}]))
    (take,) = read_takes(str(tmp_path))
    settings = {"dataset": str(tmp_path), "output": "out", "dataset_licence": setting}
    licence = licence_of(load_job(None, settings), take)
    assert licence is not None
    assert licence.name == found


def test_nobody_says_the_licence_of_a_table() -> None:
    table = {"dataset": "cameras.csv", "output": "out"}
    assert licence_of(load_job(None, table)) is None
    assert licence_of(load_job(None, {**table, "dataset_licence": "ours"})) == Licence("ours")
    release = licence_of(load_job(None, {"dataset": "egoexo://v2", "output": "out"}))
    assert release is not None
    assert release.url == "https://ego4ddataset.com/egoexo-license/"
