"""What a store says of synchronisation: in words, in the picture, and in an old store."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from service.report.inspect import describe_store, print_store
from service.report.picture import draw_store
from takestream.sync import StreamSync, TakeSync, WitnessSync
from tests.support.takestores import STREAMS, fill, make_layout
from workers.store.takestore import TakeStore

SOUND = WitnessSync(-300.04, -0.1, True, 11, 12, 10.0)
DEAF = WitnessSync(None, None, False, 0, 0, 10.0, "no sound track")


def stream(offset: float | None, frames: int | None, **facts: object) -> StreamSync:
    common = {
        "drift_ppm": None, "witness": "none", "confidence": "none", "agree": 0, "windows": 0,
        "within_ms": 0.0, "verdict": "cannot tell: sound: no sound track", "sound": DEAF,
    }  # fmt: skip
    return StreamSync(offset_ms=offset, frames=frames, **{**common, **facts})


MEASURED = TakeSync(
    measure="all",
    reference=STREAMS[0],
    fps=30.0,
    applied=True,
    streams={
        STREAMS[0]: stream(0.0, 0, witness="reference", confidence="high", verdict="the reference"),
        STREAMS[1]: stream(None, None),
        STREAMS[2]: stream(
            -300.04, -9, drift_ppm=-0.1, witness="sound and sight", confidence="high", agree=11,
            windows=12, verdict="9 frames early", sound=SOUND, shift_frames=-9,
        ),
    },
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> TakeStore:
    made = TakeStore.create(str(tmp_path / "take.zarr"), make_layout(sync=MEASURED.facts()))
    fill(made)
    made.finish()
    return made


def test_what_was_measured_comes_back_as_it_was(store: TakeStore) -> None:
    assert TakeSync.of(TakeStore.open(store.uri).attributes) == MEASURED
    assert describe_store(store.uri)["sync"] == MEASURED.facts()


def test_an_odd_attribute_is_none() -> None:
    for facts in (None, 7, {}, {"streams": 3}, {"streams": {"a": {}}}):
        assert TakeSync.of({"sync": facts}) is None
    later = MEASURED.facts() | {"more": 1}
    assert TakeSync.of({"sync": later}) == MEASURED


def test_inspect_shows_it_within_80_columns(store: TakeStore) -> None:
    out = io.StringIO()
    print_store(describe_store(store.uri), Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines if "://" not in line and "/" not in line) <= 80
    row = next(line for line in lines if "-300.0" in line)
    assert row.split()[:6] == [STREAMS[2], "-300.0", "-0.1", "both", "high", "11/12"]
    assert "shifted" in out.getvalue()
    assert "cannot tell" in out.getvalue()


def test_a_store_without_it_shows_nothing_of_it(tmp_path: Path) -> None:
    made = TakeStore.create(str(tmp_path / "old.zarr"), make_layout())
    fill(made)
    made.finish()
    facts = describe_store(made.uri)
    assert facts["sync"] is None
    out = io.StringIO()
    print_store(facts, Console(file=out, width=80))
    assert "Synchronisation" not in out.getvalue()


def test_the_picture_says_it(store: TakeStore, tmp_path: Path) -> None:
    draw_store(store, tmp_path / "with.png")
    store.update_attributes(sync={"streams": None})
    draw_store(store, tmp_path / "without.png")
    from PIL import Image

    one, other = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("with", "without"))
    assert one.shape != other.shape or (one != other).any()
