"""Stores against official files: `takestream diff`, also as `takestream compare`."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from service.cli.main import run
from tests.support.feature_stores import facts_of, feature_store

UID, STREAMS = "take-1", ("aria01_rgb", "cam01_0")
CLIPS, DIM = 40, 6


def features(clips: int = CLIPS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(clips, len(STREAMS), DIM)).astype(np.float32)


def official(folder: Path, values: np.ndarray, uid: str = UID, kind: str = "pt") -> Path:
    """The extractor's own form: [N, 1, D] for each stream."""
    folder.mkdir(exist_ok=True)
    for number, stream in enumerate(STREAMS):
        path = folder / f"{uid}_{stream}.{kind}"
        array = values[:, None, number]
        if kind == "npy":
            np.save(path, array)
        else:
            torch.save(torch.from_numpy(array.copy()), path)
    (folder / "config.yaml").write_text("fps: 30\n")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    values = features()
    made = feature_store(str(tmp_path / "out"), facts_of(UID), values, STREAMS, clip_seconds=0.5)
    return Path(made.uri).parent


def compare(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, dict[str, Any]]:
    code = run(["compare", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["pt", "npy"])
def test_official_files_of_the_same_features_are_alike(tmp_path, store, capsys, kind) -> None:
    files = official(tmp_path / "files", features(), kind=kind)
    for sides in ((files, store), (store, files), (files, files), (store / f"{UID}.zarr", files)):
        code, found = compare(capsys, *sides)
        assert (code, found["alike"]) == (0, True)
        (take,) = found["takes"]
        assert take["take_uid"] == UID
        assert [one["stream"] for one in take["streams"]] == list(STREAMS)
        assert all(one["equal"] == one["clips"] == CLIPS for one in take["streams"])
        assert found["settings"] == {}


def test_where_they_part_is_named_with_its_time(tmp_path, store, capsys) -> None:
    values = features()
    values[[7, 3, 21], 1] *= -1
    values[21, 1] *= -1
    values[21, 1, 0] += 1
    files = official(tmp_path / "files", values)
    code, found = compare(capsys, files, store)
    aria, cam = found["takes"][0]["streams"]
    assert (code, aria["parted"], cam["parted"]) == (1, 0, 3)
    assert (cam["first"]["clip"], cam["first"]["seconds"]) == (3, 1.5)
    assert [one["clip"] for one in cam["worst"]] == [3, 7, 21]
    assert cam["worst"][0]["cosine"] == pytest.approx(-1)
    assert cam["largest"] == pytest.approx(2 * np.abs(features()[[3, 7], 1]).max())
    assert run(["compare", str(files), str(store)]) == 1
    out = capsys.readouterr().err
    assert "cam01_0: least alike clip 3 at 1.50 s (-1.0000), clip 7 at 3.50 s (-1.0000)" in out
    assert "they part: 3 clips have a cosine below 0.999" in out
    assert run(["compare", str(files), str(store), "--min-cosine", "-1"]) == 0


def test_between_files_nobody_says_when(tmp_path, capsys) -> None:
    values = features()
    one = official(tmp_path / "one", values)
    values[5, 0] *= -1
    code, found = compare(capsys, one, official(tmp_path / "two", values))
    first = found["takes"][0]["streams"][0]["first"]
    assert (code, first["clip"], first["seconds"]) == (1, 5, None)


def test_of_one_clip_more_the_last_is_not_compared(tmp_path, store, capsys) -> None:
    longer = np.concatenate([features(), features(1, 9)])
    # The shorter one's last clip lies elsewhere, so another vector is no parting.
    longer[CLIPS - 1] = -longer[CLIPS - 1]
    files = official(tmp_path / "files", longer)
    code, found = compare(capsys, files, store)
    one = found["takes"][0]["streams"][0]
    assert (one["clips"], one["clips_a"], one["clips_b"]) == (CLIPS - 1, CLIPS + 1, CLIPS)
    assert (code, one["parted"]) == (1, 0)
    run(["compare", str(files), str(store)])
    said = capsys.readouterr().err
    assert f"A has {CLIPS + 1} clips and B {CLIPS}; the first {CLIPS - 1} are compared" in said
    assert "but they have not the same takes, streams or clips" in said


def test_files_of_other_clips_are_refused(tmp_path, store, capsys) -> None:
    files = official(tmp_path / "files", features(CLIPS * 16))
    assert run(["compare", str(files), str(store)]) == 2
    assert f"A has {CLIPS * 16} vectors and B {CLIPS}, so they are of other clips" in (
        capsys.readouterr().err
    )


def test_clips_of_nan_are_valid_in_the_other_alone(tmp_path, store, capsys) -> None:
    values = features()
    values[2:4, 0] = np.nan
    code, found = compare(capsys, official(tmp_path / "files", values), store)
    one = found["takes"][0]["streams"][0]
    assert (code, one["only_a"], one["only_b"], one["both"]) == (1, 0, 2, CLIPS - 2)


def test_what_was_not_downloaded_is_named_and_no_difference(tmp_path, store, capsys) -> None:
    files = official(tmp_path / "files", features())
    (files / f"{UID}_cam01_0.pt").unlink()
    official(tmp_path / "files", features(), uid="take-2")
    (files / f"{UID}_cam01_0.pt").unlink(missing_ok=True)
    code, found = compare(capsys, files, store)
    assert (code, found["only_a"], found["takes"][0]["only_b"]) == (0, ["take-2"], ["cam01_0"])
    # Of two stores it is one.
    values = features()[:, :1]
    other = feature_store(str(tmp_path / "o"), facts_of(UID), values, STREAMS[:1], clip_seconds=0.5)
    assert compare(capsys, other.uri, store)[0] == 1


def test_a_uid_with_an_underscore_ends_where_the_store_says(tmp_path, capsys) -> None:
    made = feature_store(str(tmp_path / "out"), facts_of("a_b"), features(), STREAMS)
    files = official(tmp_path / "files", features(), uid="a_b")
    for sides in ((files, made.uri), (made.uri, files)):
        code, found = compare(capsys, *sides)
        assert (code, len(found["takes"][0]["streams"])) == (0, 2)


def test_an_hdf5_file(tmp_path, store, capsys) -> None:
    with h5py.File(tmp_path / "features.hdf5", "w") as file:
        for number, stream in enumerate(STREAMS):
            file[f"{UID}_{stream}"] = features()[:, number]
    code, found = compare(capsys, tmp_path / "features.hdf5", store)
    assert (code, len(found["takes"][0]["streams"])) == (0, 2)


@pytest.mark.parametrize("held", [{"a": 1}, torch.ones(3, 2, 2), torch.ones(4, dtype=torch.int64)])
def test_a_file_without_features_is_named(tmp_path, store, capsys, held) -> None:
    files = official(tmp_path / "files", features())
    torch.save(held, files / f"{UID}_cam01_0.pt")
    assert run(["compare", str(files), str(store)]) == 2
    assert f"{UID}_cam01_0.pt: it" in capsys.readouterr().err


def test_where_there_is_nothing(tmp_path, store, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for where in ("empty", "nowhere"):
        assert run(["compare", str(tmp_path / where), str(store)]) == 2
        assert "nor files <take_uid>_<cam_id>_<stream>.pt" in capsys.readouterr().err
    other = official(tmp_path / "files", features(), uid="another")
    assert run(["compare", str(other), str(store)]) == 2
    assert "no take in common" in capsys.readouterr().err
