"""The means beside the catalogue: as the features are, made once, and of what changed alone."""

from pathlib import Path

import numpy as np
import pytest

from takestream import schema
from takestream.likeness import directions
from takestream.storage import S3Options
from tests.support.takestores import make_layout, unit_of
from workers.store import means
from workers.store.catalogue import refresh, refresh_quietly
from workers.store.errors import StoreError
from workers.store.means import NAME, MeansTable, identity_of
from workers.store.objects import Objects
from workers.store.takestore import TakeStore

ENCODER = "tiny-0123456789"
HERE = S3Options()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Two complete stores whose streams look alike over time, some of their clips invalid."""
    for seed, uid in enumerate(("a", "b")):
        stored(f"{tmp_path}/{ENCODER}/{uid}.zarr", seed)
    return f"{tmp_path}/{ENCODER}"


def stored(uri: str, seed: int) -> None:
    store = TakeStore.create(uri, make_layout())
    for at, name in enumerate(store.streams):
        for start in range(0, store.clips, store.unit_clips):
            unit = unit_of(store, name, start, seed)
            place = np.roll(np.array([3.0, 1, 0, 0, -1]), at + seed)
            store.write(name, start, **{**unit, "features": place + 0.2 * unit["features"]})
    assert store.finish()


def test_means_are_those_of_the_valid_clips_and_bound_every_one(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(means, "_BLOCK_NUMBERS", 64)  # more than one block of a stream
    assert refresh(folder, HERE).means == 2
    table = MeansTable(folder, HERE)
    assert sorted(set(table.takes)) == ["a", "b"]
    query = np.random.default_rng(7).normal(size=TakeStore.open(f"{folder}/a.zarr").dim)
    unit = directions(query, True)
    scores = table.scores(lambda rows: directions(rows, np.ones(len(rows), bool)) @ unit)
    most = table.most(scores)
    for row, (uid, name) in enumerate(zip(table.takes, table.streams, strict=True)):
        store = TakeStore.open(f"{folder}/{uid}.zarr")
        at = store.streams.index(name)
        valid = store.array(schema.VALID)[:, at].astype(bool)
        clips = directions(store.array(schema.FEATURES)[:, at, :], valid)[valid]
        assert table.clips[row] == valid.sum() > 0
        mean = clips.mean(axis=0) / np.linalg.norm(clips.mean(axis=0))
        assert scores[row] == pytest.approx(mean @ unit, abs=2e-3)
        assert most[row] >= (clips @ unit).max()
        assert most[row] - (clips @ unit).max() < 0.3


def test_only_what_changed_is_made_again(folder: str) -> None:
    refresh(folder, HERE)
    was = identity_of(folder, HERE)
    assert refresh(folder, HERE).means == 0
    assert identity_of(folder, HERE) == was
    TakeStore.open(f"{folder}/a.zarr", writable=True).note("cam01_0", "it is out of focus")
    TakeStore.open(f"{folder}/b.zarr", writable=True).mark_partial()
    assert refresh(folder, HERE).means == 1
    assert set(MeansTable(folder, HERE).takes) == {"a"}
    assert identity_of(folder, HERE) != was
    # After a job, of what it wrote; by the command, of all.
    Objects(folder).delete_many([NAME])
    stored(f"{folder}/c.zarr", 2)
    refresh_quietly(str(Path(folder).parent), [ENCODER], HERE)
    assert set(MeansTable(folder, HERE).takes) == {"c"}
    assert refresh(folder, HERE).means == 1
    assert set(MeansTable(folder, HERE).takes) == {"a", "c"}


def test_of_two_writers_none_undoes_the_other(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = means._table_of

    def meanwhile(rows):
        monkeypatch.setattr(means, "_table_of", real)
        assert refresh(folder, HERE).means == 2
        return real(rows)

    monkeypatch.setattr(means, "_table_of", meanwhile)
    refresh(folder, HERE)
    assert set(MeansTable(folder, HERE).takes) == {"a", "b"}


def test_a_large_table_is_read_in_pieces(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(folder, HERE)
    whole = MeansTable(folder, HERE)
    monkeypatch.setattr(means, "KEPT_BYTES", 1)
    monkeypatch.setattr(means, "PIECE_ROWS", 2)
    pieces = MeansTable(folder, HERE)
    sizes = []

    def score(rows):
        sizes.append(len(rows))
        return np.asarray(rows, np.float32).sum(axis=1)

    np.testing.assert_array_equal(pieces.scores(score), whole.scores(lambda r: score(r)))
    assert max(sizes[:-1]) == 2
    # As many rows, of another take.
    TakeStore.open(f"{folder}/b.zarr", writable=True).mark_partial()
    stored(f"{folder}/c.zarr", 2)
    refresh(folder, HERE)
    assert set(MeansTable(folder, HERE).takes) == {"a", "c"}
    with pytest.raises(StoreError, match="ask again"):
        pieces.scores(score)
    assert len(MeansTable(folder, HERE).takes) == len(pieces.takes)
    Objects(folder).delete_many([NAME])
    with pytest.raises(StoreError, match="ask again"):
        pieces.scores(score)


def test_a_damaged_table_is_told_and_made_anew(folder: str) -> None:
    refresh(folder, HERE)
    Objects(folder).put(NAME, b"no table")
    with pytest.raises(StoreError, match="catalogue --rebuild"):
        MeansTable(folder, HERE)
    assert refresh(folder, HERE).means == 2
    assert not MeansTable(f"{folder}-none", HERE).takes
    assert identity_of(f"{folder}-none", HERE) is None
