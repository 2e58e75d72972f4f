"""Windows of synchronised streams for PyTorch: which, what is in them, in what order, for whom."""

import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import takestream
from takestream.schema import Sizes
from takestream.storage import S3Options
from takestream.stores import StoredTake
from takestream.training import sections
from takestream.training.sections import Cut, Plan, share_of
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

DIM, UNIT = 16, 8  # vectors are so short that a chunk is a whole unit of 8 clips
RGB, EXO = "aria01_rgb", "cam01_0"
TAKES = {"uid-a": (37, (RGB, EXO)), "uid-b": (5, (EXO, "cam02_0")), "uid-c": (64, (RGB, EXO))}


def feature(uid: str, clip: int, stream: str) -> int:
    """The value of every number in this vector; exact in float16."""
    return 100 * (ord(uid[-1]) - ord("a") + 1) + clip + (1000 if stream == RGB else 0)


def invalid(uid: str, clip: int, stream: str) -> bool:
    return uid == "uid-a" and clip in (3, 36) and stream == EXO


def write(
    root: str, uid: str, *, units: int | None = None, s3: S3Options | None = None
) -> TakeStore:
    clips, streams = TAKES[uid]
    start = np.arange(clips)
    layout = StoreLayout(
        streams, DIM, "float16", UNIT, start * 16, start * 16 + 32, start * 0.5, start * 0.5 + 1,
        {"take": {"take_uid": uid, "take_name": f"name of {uid}"}},
    )  # fmt: skip
    store = TakeStore.create(f"{root}/encoder-0123456789/{uid}.zarr", layout, s3)
    for first in list(range(0, clips, UNIT))[:units]:
        rows = range(first, min(first + UNIT, clips))
        for stream in streams:
            bad = np.array([invalid(uid, clip, stream) for clip in rows])
            values = np.array([[feature(uid, clip, stream)] for clip in rows], np.float16)
            store.write(
                stream,
                first,
                features=np.broadcast_to(values, (len(rows), DIM)),
                valid=~bad,
                frame_time=np.array(rows) * 0.5,
                reason=bad * np.uint8(5),
            )
    store.finish()
    return store


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("features"))
    for uid in TAKES:
        assert write(root, uid).chunk_clips == UNIT
    return root


def shown(samples: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    """(take, first clip) of each sample."""
    return [(sample["take"], int(sample["clip"][0])) for sample in samples]


def all_windows(length: int, step: int) -> Counter[tuple[str, int]]:
    expected = []
    for uid, (clips, _) in TAKES.items():
        starts = [s for s in range(0, clips, step) if s + length <= clips] or [0]
        if starts[-1] + length < clips:
            starts.append(clips - length)
        expected += [(uid, start) for start in starts]
    return Counter(expected)


def check(sample: dict[str, Any], streams: tuple[str, ...]) -> None:
    """Every number of a sample is what the store has there."""
    uid = sample["take"]
    for row, clip in enumerate(sample["clip"].tolist()):
        if clip >= 0:
            assert sample["start_time"][row] == clip * 0.5
            assert sample["end_time"][row] == clip * 0.5 + 1
        for column, stream in enumerate(streams):
            there = clip >= 0 and stream in TAKES[uid][1] and not invalid(uid, clip, stream)
            assert bool(sample["mask"][row, column]) == there
            expected = feature(uid, clip, stream) if there else 0
            vector = sample["features"][row, column]
            assert (vector[0], vector[-1]) == (expected, expected)


def test_samples_hold_what_the_stores_hold(output: str) -> None:
    windows = takestream.Windows(output, length=8)
    assert windows.streams == (RGB, EXO, "cam02_0")
    assert (windows.dim, len(windows)) == (DIM, 5 + 1 + 8)
    found = list(windows)
    for sample in found:
        check(sample, windows.streams)
        assert sample["features"].shape == (8, 3, DIM)
        assert sample["features"].dtype == torch.float32
    assert Counter(shown(found)) == all_windows(8, 8)
    short = next(sample for sample in found if sample["take"] == "uid-b")
    assert short["clip"].tolist() == [0, 1, 2, 3, 4, -1, -1, -1]
    assert short["start_time"].isnan().tolist() == [False] * 5 + [True] * 3
    chosen = takestream.Windows(output, length=8, streams=["cam*", RGB], dtype="bfloat16")
    assert chosen.streams == (EXO, "cam02_0", RGB)
    assert next(iter(chosen))["features"].dtype == torch.bfloat16
    one = takestream.Windows(Path(output), takes="uid-b")
    assert [take.uid for take in one.takes] == ["uid-b"]
    few = takestream.Windows(output, takes=["name of uid-c", "uid-a"], streams=RGB, length=5)
    assert ([take.uid for take in few.takes], few.streams) == (["uid-a", "uid-c"], (RGB,))
    for sample in few:
        check(sample, few.streams)


@pytest.mark.parametrize(("length", "step"), [(8, 8), (5, 3), (12, 1), (4, 9)])
@pytest.mark.parametrize("shards", [(1, 1), (3, 2)])
def test_each_window_once_whoever_reads(
    output: str, length: int, step: int, shards: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks, workers = shards
    found, counts = [], []
    for rank in range(ranks):
        windows = takestream.Windows(
            output,
            length=length,
            step=step,
            rank=rank,
            world_size=ranks,
            even=False,
            dtype="float16",
        )
        mine = []
        for worker in range(workers):
            info = None if workers == 1 else type("Info", (), {"id": worker, "num_workers": 2})
            monkeypatch.setattr(
                "takestream.training.windows.get_worker_info", lambda info=info: info
            )
            mine += shown(windows)
        assert len(mine) == len(windows)
        counts.append(len(mine))
        found += mine
    assert Counter(found) == all_windows(length, step) if step <= length else True
    assert len(found) == len(set(found))
    assert max(counts) - min(counts) <= 1


@given(
    st.lists(st.integers(0, 90), min_size=1, max_size=6),
    st.integers(1, 20),
    st.integers(1, 25),
    st.integers(1, 10),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
)
def test_shares_are_a_partition(
    clips: list[int], length: int, step: int, chunk: int, ranks: int, workers: int, even: bool
) -> None:
    cut = Cut(length, step)
    takes = [
        StoredTake("", "", "", ("a",), Sizes(n, 1, 1, chunk, chunk, "float16"), "", True)
        for n in clips
    ]
    plan = Plan(takes, cut)
    assert plan.windows == sum(map(cut.count, clips))
    order = plan.order(0, 1)
    found: list[tuple[int, int]] = []
    counts = []
    for rank in range(ranks):
        mine = [
            (take, window)
            for worker in range(workers)
            for take, a, b in plan.share(order, [(rank, ranks), (worker, workers)], even)
            for window in range(a, b)
        ]
        low, high = share_of(plan.windows, [(rank, ranks)], even)
        assert len(mine) == high - low
        counts.append(len(mine))
        found += mine
    assert len(found) == len(set(found)) == plan.windows - (plan.windows % ranks if even else 0)
    assert max(counts) - min(counts) <= (0 if even else 1)
    for number, n in enumerate(clips):
        starts = [cut.start(window, n) for window in range(cut.count(n))]
        assert starts == sorted(set(starts))
        if n > length:
            assert starts[-1] == n - length
            assert max(np.diff(starts)) <= step
        for a, b in cut.sections(n, chunk):
            assert number < len(takes)
            assert 0 <= a < b <= cut.count(n)


def test_a_chunk_is_read_once(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Counter[tuple[str, int]]()
    real = sections.read

    def counting(take: StoredTake, first: int, stop: int, *rest: Any) -> Any:
        chunks = range(first // take.chunk, -(-stop // take.chunk))
        read.update((take.uid, chunk) for chunk in chunks)
        return real(take, first, stop, *rest)

    monkeypatch.setattr(sections, "read", counting)
    for length, step in ((8, 8), (4, 4), (12, 1)):
        read.clear()
        windows = takestream.Windows(output, length=length, step=step, dtype="float16")
        assert len(list(windows)) == len(windows)
        # The last window of uid-a ends with its last clip, and so begins in the chunk before.
        assert {key for key, count in read.items() if count > 1} <= {("uid-a", 4)}
        assert len(read) == 5 + 1 + 8


def test_order_is_of_seed_and_epoch(output: str) -> None:
    windows = takestream.Windows(output, length=4, seed=7, dtype="float16")
    first = shown(windows)
    assert shown(windows) == first != sorted(first)
    windows.set_epoch(1)
    second = shown(windows)
    assert sorted(second) == sorted(first) != first != second
    assert shown(takestream.Windows(output, length=4, seed=8, dtype="float16")) != first
    narrow = takestream.Windows(output, length=4, seed=7, dtype="float16", memory=1)
    assert sorted(shown(narrow)) == sorted(first)
    plain = takestream.Windows(output, length=4, shuffle=False, dtype="float16")
    assert shown(plain) == sorted(first)
    # Windows of different takes and chunks are mixed.
    assert len({take for take, _ in first[:6]}) > 1
    unpickled = pickle.loads(pickle.dumps(windows))  # noqa: S301
    assert shown(unpickled) == second


def test_loader_with_workers(output: str) -> None:
    windows = takestream.Windows(output, length=8, streams=[RGB, EXO], dtype="float16")
    list(windows)  # threads and loops of this process must not be missed after the fork
    loader = DataLoader(windows, batch_size=4, num_workers=2, persistent_workers=True)

    def epoch(number: int) -> list[tuple[str, int]]:
        windows.set_epoch(number)
        found = []
        for batch in loader:
            assert batch["features"].shape[1:] == (8, 2, DIM)
            found += list(zip(batch["take"], batch["clip"][:, 0].tolist(), strict=True))
        return found

    one, two = epoch(0), epoch(1)
    assert Counter(one) == Counter(two) == all_windows(8, 8)
    assert one != two == epoch(1)


def test_rank_is_that_of_the_process_group(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = takestream.Windows(output, length=8, even=True)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 3)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 4)
    assert len(windows) == 14 // 4
    spawned = pickle.dumps(windows)
    monkeypatch.undo()
    assert len(windows) == 14
    assert len(pickle.loads(spawned)) == 14 // 4  # noqa: S301


def test_what_is_sent_to_ranks_leaves_the_rank_to_them(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(takestream.Windows(output, length=8))
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    found = []
    for rank in range(2):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        found += shown(pickle.loads(sent))  # noqa: S301
    assert Counter(found) == all_windows(8, 8)


def test_workers_of_a_copy_see_its_epochs(output: str) -> None:
    windows = pickle.loads(pickle.dumps(takestream.Windows(output, length=4)))  # noqa: S301
    loader = DataLoader(windows, batch_size=None, num_workers=1, persistent_workers=True)
    first = shown(loader)
    windows.set_epoch(1)
    assert shown(loader) != first


def test_workers_end_with_whole_batches(output: str) -> None:
    windows = takestream.Windows(output, length=4, batch_size=4)
    loader = DataLoader(windows, batch_size=4, num_workers=2)
    sizes = [len(batch["take"]) for batch in loader]
    assert (len(sizes), sum(sizes)) == (len(loader), len(windows))
    assert sizes.count(4) >= len(loader) - 1


def test_takes_without_the_streams_are_left_out(output: str) -> None:
    with pytest.warns(UserWarning, match=r"1 of 3 takes have none .*first: name of uid-b"):
        windows = takestream.Windows(output, length=8, streams="aria*")
    found = list(windows)
    assert len(found) == len(windows) == 5 + 8
    for sample in found:
        check(sample, (RGB,))


def test_whole_takes(output: str) -> None:
    windows = takestream.Windows(output, whole_takes=True, dtype="float16")
    assert len(windows) == 3
    (batch,) = DataLoader(windows, batch_size=3, collate_fn=windows.collate)
    assert batch["features"].shape == (3, 64, 3, DIM)
    by_take = dict(zip(batch["take"], batch["length"].tolist(), strict=True))
    assert by_take == {uid: clips for uid, (clips, _) in TAKES.items()}
    for row, uid in enumerate(batch["take"]):
        sample = {name: values[row] for name, values in batch.items() if name != "take"}
        check(sample | {"take": uid}, windows.streams)


def test_partial_and_changed_stores(tmp_path: Path) -> None:
    root = str(tmp_path)
    partial = write(root, "uid-a", units=2)
    with pytest.raises(ValueError, match="1 of 1 stores are not complete"):
        takestream.Windows(root)
    write(root, "uid-c")
    with pytest.warns(UserWarning, match="1 of 2 stores are not complete and left out"):
        windows = takestream.Windows(root)
    assert [take.uid for take in windows.takes] == ["uid-c"]
    with pytest.raises(ValueError, match=r"not complete \(first: name of uid-a\)"):
        takestream.Windows(root, takes=["uid-a"])
    asis = takestream.Windows(root, takes=["uid-a"], partial=True, whole_takes=True)
    (sample,) = asis
    assert sample["mask"].any(dim=1).tolist() == [clip < 2 * UNIT for clip in range(37)]
    lost = next(Path(windows.takes[0].uri).glob("features/c/0/1/*"))
    lost.unlink()
    with pytest.raises(ValueError, match="chunks of cam01_0 are missing"):
        list(windows)
    partial.remove()
    with pytest.raises(FileNotFoundError) as caught:
        list(asis)
    assert "name of uid-a" in str(caught.value.__notes__)


def test_errors_say_what_is_there(output: str) -> None:
    for settings, words in (
        ({"takes": ["name of uid-x"]}, "did you mean 'name of uid-"),
        ({"streams": ["gp*"]}, "there is aria01_rgb, cam01_0, cam02_0"),
        ({"encoder": "clip"}, "there is .*encoder-0123456789"),
        ({"length": 0}, "length and step"),
        ({"batch_size": 0}, "batch_size is"),
        ({"streams": []}, r"streams=\[\] chooses none"),
        ({"takes": []}, r"takes=\[\] chooses none"),
        ({"rank": 1}, "belong together"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of 2"),
        ({"dtype": "int8"}, "dtype is"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            takestream.Windows(output, **settings)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        takestream.Windows(f"{output}-not")


def test_without_torch_it_says_how_to_get_it() -> None:
    code = """
import sys
sys.modules["torch"] = None
import takestream, takestream.training.windows
try:
    takestream.Windows("x")
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install torch" in done.stdout
