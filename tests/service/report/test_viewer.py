"""Files for the Rerun viewer: read back with its own reader where it is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from service.cli.main import run
from tests.support.feature_stores import facts_of, feature_store

STREAMS = ("aria01_slam-left", "cam01_0", "cam02_0")
CLIPS = 40


@pytest.fixture
def store(tmp_path: Path) -> str:
    valid = np.ones((CLIPS, 3), bool)
    valid[5:9, 1] = False
    features = np.random.default_rng(0).normal(size=(CLIPS, 3, 6)).astype(np.float32)
    made = feature_store(
        str(tmp_path / "out"), facts_of("u"), features, STREAMS, valid=valid, clip_seconds=0.5
    )
    return made.uri


def test_without_rerun_the_flag_says_what_to_do(store, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert run(["inspect", store, "--rrd", str(tmp_path / "x.rrd")]) == 2
    assert "--rrd: Rerun is not installed here; `pip install rerun-sdk`" in capsys.readouterr().err
    # Nothing else needs it.
    assert run(["inspect", store]) == 0


def test_a_file_has_streams_over_the_takes_time(store, tmp_path, capsys) -> None:
    chunk = pytest.importorskip("rerun.chunk")
    path = tmp_path / "x.rrd"
    assert run(["inspect", store, "--rrd", str(path)]) == 0
    assert f"for Rerun: {path}" in capsys.readouterr().out
    found = {}
    for part in chunk.RrdReader(str(path)).store().stream():
        batch = part.to_record_batch()
        if part.entity_path.startswith("/streams"):
            (values,) = (c for c in batch.schema.names if c.startswith(("Scalars", "TextLog")))
            seconds = batch.column("take").cast("int64").to_numpy() / 1e9
            rows = zip(seconds, batch.column(values).to_pylist(), strict=True)
            found[part.entity_path] = {second: value for second, (value,) in rows}
    middle = np.arange(CLIPS) * 0.5 + 0.25
    valid = found["/streams/cam01_0/valid"]
    assert list(valid) == pytest.approx(middle)
    assert [n for n, value in enumerate(valid.values()) if not value] == [5, 6, 7, 8]
    assert list(found["/streams/cam01_0/problem"].items()) == [
        (pytest.approx(2.75), "missing frame"), (pytest.approx(4.75), "valid"),
    ]  # fmt: skip
    assert len(found["/streams/cam01_0/similarity"]) == CLIPS - 4
    assert len(found[r"/streams/aria01_slam-left/similarity"]) == CLIPS
    assert np.abs(list(found["/streams/cam02_0/similarity"].values())).max() <= 1


def test_a_place_that_cannot_be_written(store, tmp_path, capsys) -> None:
    pytest.importorskip("rerun")
    assert run(["inspect", store, "--rrd", str(tmp_path / "none" / "x.rrd")]) == 2
    assert "cannot be written" in capsys.readouterr().err
