"""Windows with several encoders: the same moment by each, on one grid or on different ones."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import takestream
from takestream.training.aligned import nearest
from tests.support.feature_stores import facts_of, feature_store

CLIPS, TWIN, FRAMES = "clips-0123456789", "twin-0123456789", "frames-0123456789"
RGB, EXO = "aria01_rgb", "cam01_0"
# Clips of a second; frames of an eighth of one.
SECONDS = {"uid-a": 10, "uid-b": 3}
EVERY = 8


def made(first: float, count: int, dim: int, streams: int) -> np.ndarray:
    """Every number of clip i of stream s is `first + 10 i + s`."""
    values = first + 10 * np.arange(count)[:, None, None] + np.arange(streams)[:, None]
    return np.broadcast_to(values, (count, streams, dim)).astype(np.float32)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("features"))
    for uid, seconds in SECONDS.items():
        take = facts_of(uid, task_start_sec=2.0, task_end_sec=6.0)
        valid = np.ones((seconds, 2), bool)
        valid[1, 1] = False
        feature_store(root, take, made(0, seconds, 4, 2), encoder_id=CLIPS, valid=valid)
        feature_store(root, take, made(0.5, seconds, 6, 2), (RGB, EXO), encoder_id=TWIN)
        frames = made(1000, seconds * EVERY, 3, 2)
        feature_store(
            root, take, frames, (EXO, "cam02_0"), encoder_id=FRAMES, clip_seconds=1 / EVERY
        )
    feature_store(root, facts_of("uid-c"), made(0, 5, 4, 2), encoder_id=CLIPS)
    return root


def windows(output: str, *encoders: str, **options: Any) -> takestream.Windows:
    with pytest.warns(UserWarning, match=r"1 of 3 takes have no features by one of .*uid-c"):
        return takestream.Windows(output, encoder=encoders, **{"length": 4, **options})


def test_encoders_of_one_grid_stand_clip_beside_clip(output: str) -> None:
    data = windows(output, "clips", "twin", shuffle=False)
    assert data.dims == {"clips": 4, "twin": 6}
    samples = list(data)
    assert [sample["take"] for sample in samples] == ["uid-a"] * 3 + ["uid-b"]
    for sample in samples:
        at = sample["clip"] >= 0
        assert sample["features"]["clips"].shape == (4, 2, 4)
        assert sample["features"]["twin"].shape == (4, 2, 6)
        assert torch.equal(
            sample["features"]["twin"][at, :, 0],
            0.5 + 10.0 * sample["clip"][at, None] + torch.arange(2),
        )
        # Each has a mask of its own: clip 1 is invalid in one camera, by the first alone.
        first = sample["mask"]["clips"]
        assert torch.equal(first[at, 1], sample["clip"][at] != 1)
        assert sample["mask"]["twin"][at].all()
        assert not sample["mask"]["twin"][~at].any()


def test_of_frames_the_one_in_the_middle_of_a_clip_is_taken(output: str) -> None:
    for shuffle in (False, True):
        data = windows(output, "clips", "frames", shuffle=shuffle)
        assert data.streams == (RGB, EXO, "cam02_0")
        for sample in data:
            at = sample["clip"] >= 0
            # A clip's middle lies between two frames, and the earlier is taken.
            frame = sample["clip"][at] * EVERY + EVERY // 2 - 1
            found, mask = sample["features"]["frames"][at], sample["mask"]["frames"][at]
            assert mask.tolist() == [[False, True, True]] * int(at.sum())
            assert torch.equal(found[:, 1, 2], 1000.0 + 10 * frame)
            assert torch.equal(found[:, 2, 2], 1001.0 + 10 * frame)
            assert not found[:, 0].any()
            assert not sample["mask"]["clips"][:, 2].any()


def test_a_clip_that_lies_elsewhere_is_masked_out(output: str) -> None:
    """Clips beside frames: a clip's middle lies in one of the eight frames it spans, if in any."""
    data = windows(output, "frames", "clips", length=EVERY, shuffle=False)
    for sample in data:
        at = sample["mask"]["clips"].any(1)
        # Middles of clips are at the end of frame 3 and the start of frame 4 of each second.
        assert (sample["clip"][at] % EVERY == EVERY // 2).all()
        assert at.sum() == 1
        assert not sample["features"]["clips"][~at].any()


def test_loaders_and_batches_of_whole_takes(output: str) -> None:
    data = windows(output, "clips", "frames", shuffle=False, dtype="float16", span="task")
    copies = list(pickle.loads(pickle.dumps(data)))  # noqa: S301
    loader = DataLoader(data, batch_size=1, num_workers=2)
    for alone, batch in zip(copies, loader, strict=True):
        assert torch.equal(batch["features"]["frames"][0], alone["features"]["frames"])
        assert torch.equal(batch["mask"]["clips"][0], alone["mask"]["clips"])
    whole = windows(output, "clips", "frames", whole_takes=True, shuffle=False)
    (batch,) = DataLoader(whole, batch_size=2, collate_fn=takestream.Windows.collate)
    assert batch["features"]["frames"].shape == (2, 10, 3, 3)
    assert batch["mask"]["clips"].shape == (2, 10, 3)
    assert not batch["mask"]["frames"][1, 3:].any()


def test_the_span_of_a_task_masks_all_encoders(output: str) -> None:
    data = windows(output, "clips", "twin", whole_takes=True, span="task", takes=None)
    sample = next(sample for sample in data if sample["take"] == "uid-a")
    assert sample["clip"].tolist() == [2, 3, 4, 5]
    assert sample["mask"]["twin"].all()


def test_what_it_says_and_what_it_refuses(output: str) -> None:
    assert "numbers a clip: 4 by clips and 6 by twin" in repr(windows(output, "clips", "twin"))
    one = takestream.Windows(output, encoder="clips")
    assert one.dims == {"clips": 4}
    assert isinstance(next(iter(one))["features"], torch.Tensor)
    for encoders, words in (
        ([], "chooses none"), (["clips", "clips"], "names one twice"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            takestream.Windows(output, encoder=encoders)
    with pytest.raises(FileNotFoundError, match="twim"):
        takestream.Windows(output, encoder=["clips", "twim"])


def test_without_a_take_in_common_nothing_is_made_up(tmp_path: Path) -> None:
    for uid, encoder in (("a", CLIPS), ("b", TWIN)):
        feature_store(str(tmp_path), facts_of(uid), made(0, 3, 4, 2), encoder_id=encoder)
    with pytest.raises(ValueError, match="no take in common"):
        takestream.Windows(tmp_path, encoder=["clips", "twin"])


@pytest.mark.parametrize("fps", [24, 30, 30000 / 1001])
def test_of_two_frames_as_near_it_is_always_the_earlier(fps: float) -> None:
    start = np.arange(0, 5000, 16)
    frames = np.arange(6000)
    rows, inside = nearest((start / fps, (start + 32) / fps), (frames / fps, (frames + 1) / fps))
    assert (rows == start + 15).all()
    assert inside.all()


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=9),
)
def test_the_nearest_middle_is_found(
    clips: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    def ends(cuts: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        begin = np.array([start for start, _ in cuts], float)
        return begin, begin + np.array([length for _, length in cuts], float)

    rows, inside = nearest(ends(clips), ends(others))
    middles = sum(ends(others)) / 2
    for (start, length), row, there in zip(clips, rows, inside, strict=True):
        away = np.abs(middles - (start + length / 2))
        assert away[row] == pytest.approx(away.min(), abs=1e-6)
        assert there == (start <= middles[row] < start + length)
