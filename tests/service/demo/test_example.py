"""The example data set is laid out, encoded and described as Ego-Exo4D is."""

from __future__ import annotations

import json
import struct
import time
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from numpy.typing import NDArray

from service.cli.main import run
from service.demo import example
from service.demo.example import make_example
from service.demo.footage import read_frame_number

STREAMS = {
    "alpha_balance01_1": {
        ("Aria", "rgb"): "Aria_214-1.mp4",
        ("Aria", "slam-left"): "Aria_1201-1.mp4",
        ("cam01", "0"): "cam01.mp4",
        ("cam02", "0"): "cam02.mp4",
        ("cam03", "0"): "cam03.mp4",
        ("cam04", "0"): "cam04.mp4",
    },
    "beta_duet01_2": {
        ("aria01", "rgb"): "aria01_214-1.mp4",
        ("aria01", "slam-left"): "aria01_1201-1.mp4",
        ("aria01", "et"): "aria01_211-1.mp4",
        ("gp01", "0"): "gp01.mp4",
        ("gp02", "0"): "gp02.mp4",
        ("gp03", "0"): "gp03.mp4",
        ("gp04", "0"): "gp04.mp4",
    },
}
FRAMES = {"alpha_balance01_1": 199, "beta_duet01_2": 187}
# Width and height, full and at 448: SLAM upright in one take, stretched in the other.
SIZES = {
    "rgb": ((540, 540), (448, 448)),
    "alpha slam-left": ((480, 640), (448, 598)),
    "beta slam-left": ((640, 480), (598, 448)),
    "et": ((640, 240), (1194, 448)),
    "0": ((540, 960), (448, 796)),
}
FOLDERS = ("frame_aligned_videos", "frame_aligned_videos/downscaled/448")
FILES = [
    f"takes/{take}/{folder}/{name}"
    for take, streams in STREAMS.items()
    for name in streams.values()
    for folder in FOLDERS
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_example(tmp_path_factory.mktemp("example") / "egoexo")


@pytest.fixture(scope="module")
def takes(data: Path) -> dict[str, dict[str, Any]]:
    return {take["take_name"]: take for take in json.loads((data / "takes.json").read_text())}


@dataclass
class Seen:
    """What decoding one file from end to end showed, a list entry per frame in shown order."""

    size: tuple[int, int] = (0, 0)
    times: list[float | None] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    keyframes: list[int] = field(default_factory=list)
    numbers: list[int | None] = field(default_factory=list)
    thumbnails: list[NDArray[np.int64]] = field(default_factory=list)
    most_colour: int = 0


@pytest.fixture(scope="module")
def decoded(data: Path) -> dict[str, Seen]:
    return {path: look(data / path) for path in FILES}


def look(path: Path) -> Seen:
    seen = Seen()
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            seen.size = (frame.width, frame.height)
            seen.times.append(frame.time)
            seen.kinds.append(frame.pict_type)
            seen.keyframes += [index] if frame.key_frame else []
            plane = frame.planes[0]
            luma = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
            luma = luma[:, : frame.width]
            gray = np.broadcast_to(luma[..., None], (*luma.shape, 3))
            seen.numbers.append(read_frame_number(gray))
            # Without the lowest part, where the number is.
            seen.thumbnails.append(luma[: frame.height * 8 // 9 : 8, ::8].astype(np.int64))
            if index == 40:
                rgb = frame.to_ndarray(format="rgb24").astype(int)
                seen.most_colour = int(np.abs(rgb - rgb.mean(axis=2, keepdims=True)).max())
    return seen


def boxes(path: Path) -> list[str]:
    """The names of an MP4 file's outermost boxes, in order."""
    names, data, at = [], path.read_bytes(), 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        assert size >= 8
        names.append(name.decode())
        at += size
    return names


def test_layout(data: Path) -> None:
    found = {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}
    said = {
        f"annotations/{name}_{split}.json"
        for name in ("keystep", "atomic_descriptions")
        for split in ("train", "val")
    }
    synced = {f"captures/{take.rpartition('_')[0]}/timesync.csv" for take in STREAMS}
    facts = {"takes.json", "captures.json", "participants.json", "annotations/splits.json"}
    assert found == {*facts, *said, *synced, *FILES}
    assert [path.name for path in data.parent.iterdir()] == [data.name]
    assert sum(path.stat().st_size for path in data.rglob("*")) < 12e6


def test_the_catalogue_names_exactly_the_files_and_the_previews(
    takes: dict[str, dict[str, Any]],
) -> None:
    assert set(takes) == set(STREAMS)
    for name, take in takes.items():
        assert take["root_dir"] == f"takes/{name}"
        videos = dict(take["frame_aligned_videos"])
        collage, best_exo = videos.pop("collage")["0"], videos.pop("best_exo")["0"]
        assert "cam_id" not in collage
        assert collage["relative_path"] == "ego_preview.mp4"
        assert best_exo["clip_uid"] is None
        assert best_exo["relative_path"] is None
        listed = {
            (cam_id, key): entry["relative_path"]
            for cam_id, streams in videos.items()
            for key, entry in streams.items()
        }
        assert listed == {
            key: f"frame_aligned_videos/{file}" for key, file in STREAMS[name].items()
        }
        for cam_id, streams in videos.items():
            for key, entry in streams.items():
                assert (entry["cam_id"], entry["readable_stream_id"]) == (cam_id, key)
        assert {camera["cam_id"] for camera in take["capture"]["cameras"]} == set(videos)
        for camera in take["capture"]["cameras"]:
            assert camera["is_ego"] is camera["cam_id"].lower().startswith("aria")


def test_the_catalogue_has_the_documented_fields(takes: dict[str, dict[str, Any]]) -> None:
    for name, take in takes.items():
        assert set(take) == {
            *("root_dir", "take_name", "participant_uid", "is_dropped", "objects", "best_exo"),
            *("task_start_sec", "task_end_sec", "task_id", "task_name", "parent_task_id"),
            *("parent_task_name", "take_idx", "duration_sec", "is_narrated"),
            *("physical_setting_uid", "timesync_start_idx", "timesync_end_idx", "capture"),
            *("validated", "frame_aligned_videos", "university_name", "capture_uid", "take_uid"),
            *("take_timing_uid", "timesync_uid", "task_timing_annotation_uid", "university_id"),
            *("has_trimmed_vrs", "vrs_relative_path", "vrs_all_streams_relative_path"),
            *("has_trimmed_trajectory", "trimmed_trajectory_relative_path"),
            *("has_trimmed_eye_gaze",),
            "licence",  # which is ours: the footage is not Ego-Exo4D's
        }
        assert take["timesync_end_idx"] - take["timesync_start_idx"] - 1 == FRAMES[name]
        rows = take["timesync_end_idx"] - take["timesync_start_idx"]
        assert take["duration_sec"] == rows / 30
        assert take["capture"]["capture_uid"] == take["capture_uid"]
    null = [take for take in takes.values() if take["best_exo"] is None]
    assert len(null) == 1
    for key in ("task_start_sec", "task_id", "task_name"):
        assert null[0][key] is None
    for key in ("take_uid", "parent_task_name", "university_name", "participant_uid"):
        assert len({take[key] for take in takes.values()}) == 2


def test_frame_counts(decoded: dict[str, Seen]) -> None:
    for path, seen in decoded.items():
        expected = FRAMES[path.split("/")[1]]
        assert expected % 16
        if path.startswith("takes/beta") and path.endswith("gp02.mp4"):
            expected -= 1
        assert len(seen.times) == expected, path
        assert seen.times == pytest.approx([index / 30 for index in range(expected)]), path


def test_every_picture_of_the_first_take_carries_its_number(decoded: dict[str, Seen]) -> None:
    for path, seen in decoded.items():
        if path.startswith("takes/alpha"):
            assert seen.numbers == list(range(199)), path
        else:
            assert set(seen.numbers) == {None}, path


def test_encoded_as_cameras_do(data: Path, decoded: dict[str, Seen]) -> None:
    for path, seen in decoded.items():
        assert seen.kinds.count(PictureType.B) > len(seen.kinds) / 2, path
        assert seen.keyframes[0] == 0
        with av.open(str(data / path)) as container:
            video, sound = container.streams.video[0], container.streams.audio
            assert video.codec_context.name == "h264"
            assert video.average_rate == 30
            if path.endswith(("1201-1.mp4", "211-1.mp4")):
                assert not sound
            else:
                assert sound[0].codec_context.name == "aac"
                assert sound[0].layout.name == "stereo"
                heard = [frame.to_ndarray() for frame in container.decode(sound[0])]
                samples = np.concatenate(heard, axis=1)
                length = samples.shape[1] / 48_000
                assert length == pytest.approx(len(seen.times) / 30, abs=0.1), path
                left, right = np.abs(samples).mean(axis=1)
                assert left > 1.5 * right > 0.01, "channels of their own"
        if path.startswith("takes/beta") and "_211-1" not in path:
            assert seen.keyframes == [0], "one long group of pictures"


def test_index_at_the_front_of_some_files_and_at_the_end_of_others(data: Path) -> None:
    order = {path: [n for n in boxes(data / path) if n in ("moov", "mdat")] for path in FILES}
    front = {path for path, names in order.items() if names == ["moov", "mdat"]}
    end = {path for path, names in order.items() if names == ["mdat", "moov"]}
    assert front == {path for path in FILES if path.endswith(("cam01.mp4", "gp01.mp4"))}
    assert end == set(FILES) - front


def test_picture_shapes(decoded: dict[str, Seen]) -> None:
    for take, streams in STREAMS.items():
        for (_, stream), name in streams.items():
            sizes = SIZES.get(stream) or SIZES[f"{take.partition('_')[0]} {stream}"]
            for folder, size in zip(FOLDERS, sizes, strict=True):
                seen = decoded[f"takes/{take}/{folder}/{name}"]
                assert seen.size == size
                assert (seen.most_colour <= 3) is (stream in ("slam-left", "et"))


def test_eye_cameras_have_ten_pictures_a_second_and_black_ones_between(
    decoded: dict[str, Seen],
) -> None:
    for folder in FOLDERS:
        seen = decoded[f"takes/beta_duet01_2/{folder}/aria01_211-1.mp4"]
        bright = np.array([picture.mean() for picture in seen.thumbnails])
        shown = np.arange(len(bright)) % 3 == 0
        assert bright[shown].min() > 60
        assert bright[~shown].max() < 20


def test_cameras_of_a_take_see_the_same_moment(decoded: dict[str, Seen]) -> None:
    """Where the picture changes most, it does so in all of them at once, from whatever side."""
    lags = np.arange(-12, 13)
    for take, streams in STREAMS.items():
        changes = []
        for name in (name for (_, stream), name in streams.items() if stream != "et"):
            pictures = np.stack(decoded[f"takes/{take}/{FOLDERS[1]}/{name}"].thumbnails[:186])
            changes.append(np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2)))
        first = changes[0][12:-12]
        for other in changes[1:]:
            alike = [np.corrcoef(first, other[12 + lag :][: len(first)])[0, 1] for lag in lags]
            assert abs(lags[np.argmax(alike)]) <= 1, take
            assert alike[12] > max(alike[12 - 5], alike[12 + 5]) + 0.1, take


def test_the_gopros_see_it_from_different_sides(decoded: dict[str, Seen]) -> None:
    """No camera's picture is another's, or nearly."""
    for take, streams in STREAMS.items():
        names = [name for (_, stream), name in streams.items() if stream == "0"]
        seen = [decoded[f"takes/{take}/{FOLDERS[1]}/{name}"].thumbnails[0] for name in names]
        for one, other in combinations(seen, 2):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.6, take


def test_the_cameras_are_told_to_be_in_step_by_their_sound(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sync", str(data)]) == 0
    said = capsys.readouterr().out
    assert "10 in step, 0 off by a frame or more, 2 cannot be told" in said


def test_a_finished_example_is_kept(data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    started = time.monotonic()
    assert make_example(data) == data
    assert time.monotonic() - started < 1
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


@pytest.mark.parametrize("harm", ["no catalogue", "old catalogue", "empty file", "lost file"])
def test_a_half_made_example_is_completed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    def quickly(take: Any, root: Path) -> None:
        for path in FILES:
            if take.name in path:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(b"video")

    monkeypatch.setattr(example, "encode_take", quickly)
    make_example(tmp_path)
    whole = (data / "takes.json").read_text()
    assert (tmp_path / "takes.json").read_text() == whole
    victim = tmp_path / FILES[3]
    if harm == "no catalogue":
        (tmp_path / "takes.json").unlink()
    elif harm == "old catalogue":
        # Of the first version, which had other takes.
        old = {
            "take_name": "alpha_street01_1",
            "take_uid": "eee8910f-5f76-5119-8998-2abf5dbfc6b5",
        }
        (tmp_path / "takes.json").write_text(json.dumps([old]))
        gone = tmp_path / "takes/alpha_street01_1/frame_aligned_videos/cam01.mp4"
        gone.parent.mkdir(parents=True)
        gone.write_bytes(b"old")
    elif harm == "empty file":
        victim.write_bytes(b"")
    else:
        victim.unlink()
    make_example(tmp_path)
    assert victim.read_bytes() == b"video"
    assert not list(tmp_path.rglob("*street*"))
    assert (tmp_path / "takes.json").read_text() == whole


def test_an_interrupted_run_leaves_no_catalogue_and_no_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(example, "encode_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_example(tmp_path / "egoexo")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["egoexo"]


@pytest.mark.parametrize("text", ['[{"take_name": "cmu_bike01_2"}]', "[]", "no json", '{"a": 1}'])
def test_another_data_set_is_never_touched(tmp_path: Path, text: str) -> None:
    (tmp_path / "takes.json").write_text(text)
    with pytest.raises(FileExistsError, match="another data set"):
        make_example(tmp_path)
    assert (tmp_path / "takes.json").read_text() == text
