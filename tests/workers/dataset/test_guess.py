"""A table of cameras proposed from folders."""

import itertools
from pathlib import Path

import fsspec
import pytest

from workers.dataset.guess import guess_table
from workers.dataset.table import CameraTable
from workers.dataset.take import DatasetError

_numbers = itertools.count()


def put(root: Path | str, *names: str) -> str:
    for name in names:
        fs, path = fsspec.url_to_fs(f"{root}/{name}")
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, b"x")
    return str(root)


def pairs(root: str) -> dict[str, tuple[str, str]]:
    guess = guess_table(root)
    return {uri.removeprefix(f"{root}/"): (take, cam) for take, cam, uri, _ in guess.rows}


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_folder_a_take_and_a_file_a_camera(where: str, tmp_path: Path) -> None:
    root = str(tmp_path / "My, Films") if where == "local" else f"memory://g/{next(_numbers)}"
    put(root, "tea/left.mp4", "tea/head.MOV", "bike/left.mp4", "bike/notes.txt", "bike/.x.mp4",
        "bike/r.mkv")  # fmt: skip
    guess = guess_table(root)
    assert guess.rows == (
        ("bike", "left", f"{root}/bike/left.mp4", False),
        ("tea", "head", f"{root}/tea/head.MOV", True),
        ("tea", "left", f"{root}/tea/left.mp4", False),
    )
    assert guess.notes[:2] == (
        "2 takes: 1 of 1 cameras, 1 of 2 cameras",
        "1 videos cannot be read (.mkv); turn them into mp4 first",
    )
    # What is printed is a data set, wherever it is written.
    (tmp_path / "cameras.csv").write_text(guess.csv())
    takes = CameraTable(str(tmp_path / "cameras.csv")).takes()
    assert [(take.name, s.cam_id, s.uri, s.is_ego) for take in takes for s in take.streams] == list(
        guess.rows
    )


def test_other_ways_to_keep_videos(tmp_path: Path) -> None:
    assert pairs(put(tmp_path / "flat", "left.mp4", "right.mp4")) == {
        "left.mp4": ("flat", "left"), "right.mp4": ("flat", "right"),
    }  # fmt: skip
    assert pairs(put(tmp_path / "deep", "s1/tea/a.mp4", "s1/tea/b.mp4", "s2/tea/a.mp4")) == {
        "s1/tea/a.mp4": ("s1_tea", "a"), "s1/tea/b.mp4": ("s1_tea", "b"),
        "s2/tea/a.mp4": ("s2_tea", "a"),
    }  # fmt: skip
    # A folder for each camera.
    root = put(tmp_path / "cams", "tea/l/v.mp4", "tea/r/v.mp4", "bike/l/v.mp4", "bike/r/v.mp4")
    assert pairs(root)["bike/r/v.mp4"] == ("bike", "r")
    # Takes of one camera are not the cameras of one take.
    root = put(tmp_path / "one", "tea/v.mp4", "bike/v.mp4")
    assert pairs(root) == {"tea/v.mp4": ("tea", "v"), "bike/v.mp4": ("bike", "v")}
    root = put(tmp_path / "twice", "tea/v.mp4", "tea/v.mov")
    assert pairs(root) == {"tea/v.mp4": ("tea", "v-mp4"), "tea/v.mov": ("tea", "v-mov")}


@pytest.mark.parametrize(
    ("cam", "worn"), [("Aria01", True), ("ego", True), ("head-cam", True), ("lego", False),
                      ("cam01", False), ("ahead", False)],
)  # fmt: skip
def test_cameras_that_are_worn(tmp_path: Path, cam: str, worn: bool) -> None:
    ((_, _, _, ego),) = guess_table(put(tmp_path, f"t/{cam}.mp4")).rows
    assert ego == worn


def test_files_named_apart_in_every_take(tmp_path: Path) -> None:
    guess = guess_table(put(tmp_path, "a/GX01.mp4", "b/GX02.mp4"))
    assert "are the files' names the cameras' names?" in guess.notes[1]


def test_whatever_folders_are_called_the_table_can_be_read(tmp_path: Path) -> None:
    names = (" sp /x.mp4", "a_b/c.mp4", "a/b/c.mp4", "a/b/d.mp4", "a_b/c-mp4.mp4", "q\\w/e.mp4",
             "ku\u0308che/\u00e4.mp4", f"{'l' * 250}/x.mp4", f"{'l' * 249}m/x.mp4")  # fmt: skip
    root = put(tmp_path / "g", *names, "new\nline/x.mp4", "esc/\x1b[31m.mp4")
    guess = guess_table(root)
    assert guess.notes[-1] == (
        "2 videos are left out: their paths hold what a table cannot; rename them"
    )
    (tmp_path / "c.csv").write_text(guess.csv())
    takes = CameraTable(str(tmp_path / "c.csv")).takes()
    assert {s.uri for take in takes for s in take.streams} == {f"{root}/{name}" for name in names}
    assert {take.name for take in takes} == {"sp", "a_b", "q_w", "k\u00fcche", "l" * 200}


def test_only_paths_that_cannot_be_listed(tmp_path: Path) -> None:
    put(tmp_path, "new\nline/x.mp4")
    with pytest.raises(DatasetError, match="1 have paths that cannot be listed"):
        guess_table(str(tmp_path))


def test_nothing_to_guess_from(tmp_path: Path) -> None:
    put(tmp_path, "a/b.avi")
    with pytest.raises(DatasetError, match=r"no \.mp4 or .* 1 of \.avi cannot be read"):
        guess_table(str(tmp_path))
    with pytest.raises(DatasetError, match="there is no such folder"):
        guess_table(str(tmp_path / "absent"))
    with pytest.raises(DatasetError, match=r"b\.avi: there is no such folder"):
        guess_table(str(tmp_path / "a" / "b.avi"))
    put(tmp_path, "takes.json")
    with pytest.raises(DatasetError, match="it is a data set: --dataset"):
        guess_table(str(tmp_path))
