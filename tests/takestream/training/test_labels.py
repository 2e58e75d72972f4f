"""Windows over clips that are annotated segments."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import takestream
from tests.takestream.training.test_windows import write
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

LABELS = ["cut", "stir", "cut", "pour", "taste"]


def make(root: Path, uid: str, clips: int) -> None:
    start = np.arange(clips)
    layout = StoreLayout(
        ("cam01_0",), 4, "float32", 8, start * 30, start * 30 + 30, start * 1.0, start + 1.0,
        {"take": {"take_uid": uid, "take_name": uid}},
        extra={"segment_name": [f"s{n}" for n in range(clips)], "segment_label": LABELS[:clips]},
    )  # fmt: skip
    store = TakeStore.create(f"{root}/e-0123456789/{uid}.zarr", layout)
    arrays: dict[str, Any] = {"features": np.ones((clips, 4)), "valid": np.ones(clips, bool)}
    store.write("cam01_0", 0, frame_time=start * 1.0, reason=np.zeros(clips, np.uint8), **arrays)
    assert store.finish()


def test_samples_say_what_their_clips_are(tmp_path: Path) -> None:
    make(tmp_path, "uid-a", 5)
    make(tmp_path, "uid-b", 2)
    windows = takestream.Windows(tmp_path, length=3, shuffle=False, labels=True)
    said = [(sample["take"], sample["segment_label"]) for sample in windows]
    assert said == [
        ("uid-a", ["cut", "stir", "cut"]),
        ("uid-a", ["cut", "pour", "taste"]),
        ("uid-b", ["cut", "stir", ""]),
    ]
    (batch,) = DataLoader(windows, batch_size=3)
    assert [list(column) for column in batch["segment_label"]] == [
        ["cut", "cut", "cut"], ["stir", "pour", "stir"], ["cut", "taste", ""],
    ]  # fmt: skip
    whole = takestream.Windows(tmp_path, whole_takes=True, shuffle=False, labels=True)
    (padded,) = DataLoader(whole, batch_size=2, collate_fn=whole.collate)
    assert padded["segment_label"] == [LABELS, ["cut", "stir"]]
    assert "segment_label" not in next(iter(takestream.Windows(tmp_path)))


def test_labels_that_are_lost_are_no_empty_ones(tmp_path: Path) -> None:
    make(tmp_path, "uid-a", 5)
    (tmp_path / "e-0123456789" / "uid-a.zarr" / "segment_label/c/0").unlink()
    with pytest.raises(ValueError, match="chunks of segment_label are missing"):
        list(takestream.Windows(tmp_path, labels=True))


def test_takes_without_labels_are_told(tmp_path: Path) -> None:
    write(str(tmp_path), "uid-a")
    with pytest.raises(ValueError, match=r"1 of 1 takes have no labels \(first: name of uid-a\)"):
        takestream.Windows(tmp_path, labels=True)
