"""Data sets of LeRobot, several episodes in one video."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import xarray as xr

from configs.load import load_job
from service.demo.footage import encode_video
from tests.support.brightness import BrightnessEncoder
from workers.dataset.layouts import licence_of, open_dataset
from workers.dataset.lerobot import INFO, LeRobot
from workers.dataset.take import DatasetError
from workers.media.source import Source
from workers.media.video import probe_video
from workers.run.extract import UnitExtractor
from workers.run.recipe import make_recipe

FRONT, WRIST = "observation.images.front", "observation.images.wrist_left"
LENGTHS = (40, 50, 33)
RATE = 30
TEMPLATE = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def features(**more: Any) -> dict[str, Any]:
    video = {"dtype": "video", "shape": [64, 96, 3], "info": {"video.is_depth_map": False}}
    return {FRONT: video, WRIST: video, "action": {"dtype": "float32", "shape": [6]}, **more}


def rows() -> list[dict[str, Any]]:
    """Episodes 0 and 1 share a file, episode 2 has one of its own."""
    found = []
    for index, length in enumerate(LENGTHS):
        row: dict[str, Any] = {
            "episode_index": index, "tasks": ["pick up", "put down"][: 2 - index % 2],
            "length": length, "stats/action/mean": [0.0] * 6,
        }  # fmt: skip
        for key in (FRONT, WRIST):
            begin = sum(LENGTHS[:index]) / RATE if index < 2 else 0.0
            row |= {
                f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": int(index == 2),
                f"videos/{key}/from_timestamp": begin,
                # A sum of floats, a little off.
                f"videos/{key}/to_timestamp": begin + length / RATE + 2e-6,
            }  # fmt: skip
        found.append(row)
    return found


def written(root: Path, episodes: list[dict[str, Any]] | None = None, **info: Any) -> str:
    said = {"codebase_version": "v3.0", "fps": RATE, "video_path": TEMPLATE, "features": features()}
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True, exist_ok=True)
    (root / INFO).write_text(json.dumps({**said, **info}))
    table = pa.Table.from_pylist(rows() if episodes is None else episodes)
    half = max(1, len(table) // 2)
    for number, part in enumerate((table[:half], table[half:])):
        pq.write_table(part, root / f"meta/episodes/chunk-000/file-{number:03d}.parquet")
    return str(root / INFO)


def films(root: Path) -> None:
    """Pictures as bright as the number of their frame in the file."""
    for key in (FRONT, WRIST):
        for file, frames in enumerate((sum(LENGTHS[:2]), LENGTHS[2])):
            path = root / TEMPLATE.format(video_key=key, chunk_index=0, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            greys = (np.full((64, 96, 3), 20 + 2 * n, np.uint8) for n in range(frames))
            encode_video(path, greys, audio=False, gop=25)


def test_episodes_become_takes(tmp_path: Path) -> None:
    found = open_dataset(written(tmp_path))
    assert isinstance(found, LeRobot)
    takes = found.takes()
    assert [take.name for take in takes] == [f"episode_{n:06d}" for n in range(3)]
    assert [take.task for take in takes] == ["pick up; put down", "pick up", "pick up; put down"]
    assert [take.duration for take in takes] == [n / RATE for n in LENGTHS]
    front, wrist = takes[1].streams
    assert (front.key, wrist.key) == ("front_0", "wrist_left_0")
    assert front.uri == str(tmp_path / f"videos/{FRONT}/chunk-000/file-000.mp4")
    assert takes[2].streams[1].uri == str(tmp_path / f"videos/{WRIST}/chunk-000/file-001.mp4")
    assert found.notes() == ()
    before = found.identity()
    written(tmp_path, total_episodes=4)
    assert found.identity() != before
    # Nobody says under which licence, and it is not Ego-Exo4D's.
    assert licence_of(load_job(None, {"dataset": str(tmp_path / INFO), "output": "o"})) is None


def test_an_episode_has_its_own_frames_of_a_shared_file(tmp_path: Path) -> None:
    films(tmp_path)
    takes = open_dataset(written(tmp_path)).takes()
    for take, length in zip(takes, LENGTHS, strict=True):
        for stream in take.streams:
            video = probe_video(Source(stream.uri), span=stream.span)
            assert video.samples == length
            np.testing.assert_allclose(video.times(), np.arange(length) / RATE, atol=1e-6)


def test_episodes_become_stores(tmp_path: Path) -> None:
    films(tmp_path)
    job = {"dataset": written(tmp_path), "output": str(tmp_path / "out")}
    recipe = make_recipe(load_job(None, {**job, "store": {"dtype": "float32"}}))
    extractor = UnitExtractor(
        recipe, [BrightnessEncoder(recipe.target.encoder)], torch.device("cpu")
    )
    for take, first, length in zip(recipe.dataset.takes(), (0, 40, 0), LENGTHS, strict=True):
        prepared = extractor.prepare(take, [stream.key for stream in take.streams])
        for unit in prepared.units:
            extractor.extract(unit)
        assert extractor.finish(take).complete
        store = xr.open_zarr(recipe.store_uri(take.uid)).load()
        assert store.valid.all()
        assert store.attrs["grid"]["frames"] == length
        # Eight frames, every fourth from the clip's first.
        expected = 20 + 2 * (first + store.start_frame.values + 14)
        assert np.abs(store.features.values[:, :, 0] - expected[:, None]).max() < 3


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    depth = {"dtype": "video", "info": {"video.is_depth_map": True}}
    more = {"observation.images.depth": depth, "observation.image": {"dtype": "image"}}
    found = open_dataset(written(tmp_path, features=features(**more)))
    assert len(found.takes()[0].streams) == 2
    assert found.notes() == (
        "observation.images.depth: videos of depth, which are not read",
        "observation.image: pictures in tables, which are not read",
    )


def test_a_camera_without_a_place_is_absent_and_says_why(tmp_path: Path) -> None:
    given = rows()
    given[0][f"videos/{WRIST}/file_index"] = None
    given[1][f"videos/{WRIST}/to_timestamp"] = 0.0
    takes = open_dataset(written(tmp_path, given)).takes()
    for take in takes[:2]:
        front, wrist = take.streams
        assert front.uri
        assert (wrist.uri, wrist.span) == (None, None)
        assert "does not say where its video is" in wrist.note
    assert takes[2].streams[1].uri


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"codebase_version": "v2.1"}, "its version is v2.1, and v3.0 is read"),
        ({"codebase_version": None}, "its version is none"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": "fast"}, "fps is 'fast'"),
        ({"video_path": "../{video_key}.mp4"}, "is no path of videos"),
        ({"video_path": "/etc/{file_index}"}, "is no path of videos"),
        ({"video_path": "s3://other/{video_key}"}, "is no path of videos"),
        ({"video_path": "{video_key.__class__}"}, "is no path of videos"),
        ({"video_path": "{file_index:999999999d}"}, "is no path of videos"),
        ({"video_path": "{file_index"}, "is no path of videos"),
        ({"video_path": None}, "is no path of videos"),
        ({"features": {}}, "none of its features is a video"),
        ({"features": {"a/../b": {"dtype": "video"}}}, "cannot name a camera"),
        (
            {"features": {"front": {"dtype": "video"}, FRONT: {"dtype": "video"}}},
            "cannot name a camera",
        ),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, info: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=INFO) as refused:
        open_dataset(written(tmp_path, **info)).takes()
    assert words in str(refused.value)


def test_tables_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    given = rows()
    given[2]["episode_index"] = 1
    with pytest.raises(DatasetError, match="episode 1 is there twice"):
        open_dataset(written(tmp_path, given)).takes()
    given[2]["episode_index"] = None
    with pytest.raises(DatasetError, match=r"file-001\.parquet: row 2: it names no episode"):
        open_dataset(written(tmp_path, given)).takes()
    table = tmp_path / "meta/episodes/chunk-000/file-001.parquet"
    table.write_bytes(b"PAR1 torn")
    with pytest.raises(DatasetError, match=r"file-001\.parquet: not a Parquet file"):
        open_dataset(str(tmp_path / INFO)).takes()
    for path in table.parent.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="there is no table of episodes"):
        open_dataset(str(tmp_path / INFO)).takes()
    (tmp_path / INFO).write_text("{")
    with pytest.raises(DatasetError, match="not valid JSON"):
        open_dataset(str(tmp_path / INFO)).takes()
    with pytest.raises(DatasetError, match="there is no such file"):
        open_dataset(str(tmp_path / "x" / INFO)).takes()
