"""Job files as people and scripts really write them: settings, or a sentence that says what not."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.load import SettingsError, load_job, parse
from configs.schema import JobSpec

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from([*JobSpec.model_fields, "encoder", "outptu"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, anything, max_size=5))
def test_whatever_a_setting_holds_is_settings_or_a_sentence(given_: dict[str, Any]) -> None:
    try:
        job = parse(JobSpec, {"dataset": "/data", "output": "/out", **given_}, "job.yaml")
    except SettingsError as error:
        lines = str(error).splitlines()
    else:
        lines = []
        assert parse(JobSpec, job.model_dump(mode="json"), "again") == job
    assert all(line.startswith("job.yaml: ") for line in lines), lines


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=80), anything.map(lambda v: yaml.safe_dump(v).encode())))
def test_any_bytes_are_settings_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path: Path = tmp_path_factory.mktemp("jobs") / "job.yaml"
    path.write_bytes(data)
    try:
        load_job(str(path), {"dataset": "/data", "output": "/out"})
    except SettingsError as error:
        lines = str(error).splitlines()
    else:
        lines = []
    assert all(line.startswith(str(path)) for line in lines), lines
