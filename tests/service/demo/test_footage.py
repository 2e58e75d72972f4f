"""Encoded files have the properties they were asked for, and frame numbers survive the encoding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from service.demo.footage import RgbFrame, burn_frame_number, encode_video, read_frame_number

NOISE = np.random.default_rng(7).integers(0, 256, (30, 60, 3), dtype=np.uint8)
NOISE = NOISE.repeat(8, axis=0).repeat(8, axis=1)


def pictures(count: int, width: int = 320, height: int = 240) -> Iterator[RgbFrame]:
    """Numbered frames of a moving pattern."""
    for number in range(count):
        yield burn_frame_number(np.roll(NOISE, 3 * number, axis=1)[:height, :width], number)


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def pixels(frame: av.VideoFrame) -> RgbFrame:
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def numbers(frames: list[av.VideoFrame]) -> list[int | None]:
    return [read_frame_number(pixels(frame)) for frame in frames]


@pytest.mark.parametrize("fps", [25, 30, Fraction(30000, 1001), Fraction(24000, 1001)], ids=str)
def test_every_frame_at_its_exact_time(tmp_path: Path, fps: Fraction | int) -> None:
    path = tmp_path / "a.mp4"
    assert encode_video(path, pictures(60), fps=fps) == 60
    frames = decode(path)
    assert numbers(frames) == list(range(60))
    times = [(frame.pts or 0) * (frame.time_base or 0) for frame in frames]
    assert times == [index / Fraction(fps) for index in range(60)]


def test_defaults_are_those_of_a_camera(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    encode_video(path, pictures(300), x264_params={"scenecut": 0})
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert audio.codec_context.name == "aac"
        assert audio.duration is not None
        assert audio.time_base is not None
        assert float(audio.duration * audio.time_base) == pytest.approx(10, abs=0.05)
        frames = list(container.decode(video))
    assert [index for index, frame in enumerate(frames) if frame.key_frame] == [0, 250]
    assert sum(frame.pict_type == PictureType.B for frame in frames) > 100


def test_variable_frame_rate_keeps_every_time(tmp_path: Path) -> None:
    steps = np.random.default_rng(1).integers(1500, 6000, 50)
    pts = [0, *(int(t) for t in np.cumsum(steps))]
    encode_video(tmp_path / "a.mp4", pictures(51), pts=pts)
    frames = decode(tmp_path / "a.mp4")
    assert [frame.pts for frame in frames] == pts
    assert frames[0].time_base == Fraction(1, 90_000)
    assert numbers(frames) == list(range(51))


def test_a_late_start_stays_late(tmp_path: Path) -> None:
    encode_video(tmp_path / "a.mp4", pictures(20), start=Fraction(5, 2))
    frames = decode(tmp_path / "a.mp4")
    assert frames[0].time == 2.5
    assert numbers(frames) == list(range(20))


def test_frames_before_zero_are_in_the_file_but_not_shown(tmp_path: Path) -> None:
    encode_video(tmp_path / "a.mp4", pictures(40), start=Fraction(-1, 3))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 40
    assert numbers(decode(tmp_path / "a.mp4")) == list(range(10, 40))


def test_open_gop_has_pictures_that_lean_on_the_next_keyframe(tmp_path: Path) -> None:
    def leading(path: Path) -> int:
        """How many packets after a keyframe are shown before it."""
        count, key_pts = 0, 0
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                if packet.pts is None:
                    continue
                if packet.is_keyframe:
                    key_pts = packet.pts
                count += packet.pts < key_pts
        return count

    for open_gop in (True, False):
        path = tmp_path / f"{open_gop}.mp4"
        settings = {"scenecut": 0}
        encode_video(path, pictures(90), gop=20, open_gop=open_gop, x264_params=settings)
        assert (leading(path) > 0) is open_gop


@pytest.mark.parametrize(("rotate", "reported"), [(0, 0), (90, -90), (180, -180), (270, 90)])
def test_rotation_is_written_and_pixels_stay(tmp_path: Path, rotate: int, reported: int) -> None:
    path = tmp_path / "a.mp4"
    encode_video(path, pictures(3), rotate=rotate, faststart=rotate == 90)
    frames = decode(path)
    assert frames[0].rotation == reported
    assert (frames[0].width, frames[0].height) == (320, 240)
    assert numbers(frames) == [0, 1, 2]


def test_fragments(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    muxer = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    encode_video(path, pictures(60), gop=20, container_options=muxer)
    assert path.read_bytes().count(b"moof") >= 3
    assert numbers(decode(path)) == list(range(60))


def test_odd_sizes_need_a_format_that_can_hold_them(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match=r"301x201.*yuv444p"):
        encode_video(path, pictures(3, 301, 201))
    encode_video(path, pictures(3, 301, 201), pix_fmt="yuv444p")
    frames = decode(path)
    assert (frames[0].width, frames[0].height) == (301, 201)
    assert numbers(frames) == [0, 1, 2]


@pytest.mark.parametrize("colors", [None, "bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_come_back_under_every_tag(tmp_path: Path, colors: Any, full_range: bool) -> None:
    path = tmp_path / "a.mp4"
    flat = np.full((64, 64, 3), (200, 60, 90), dtype=np.uint8)
    encode_video(path, [flat] * 3, crf=5, colors=colors, full_range=full_range)
    frame = decode(path)[1]
    assert frame.color_range == {(True, False): 0, (False, False): 1}.get(
        (colors is None, full_range), 2
    )
    assert frame.colorspace == {None: 2, "bt601": 6, "bt709": 1}[colors]
    seen = frame.to_ndarray(format="rgb24").astype(int)[16:48, 16:48]
    assert np.abs(seen - flat[16:48, 16:48]).max() <= 5


def test_silent_file(tmp_path: Path) -> None:
    encode_video(tmp_path / "a.mp4", pictures(3), audio=False)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize(
    ("frames", "settings", "message"),
    [
        ([], {}, "no frames"),
        ([np.zeros((8, 8), np.uint8)], {}, "uint8"),
        ([np.zeros((8, 8, 3), np.float32)], {}, "float32"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)], {}, "unlike shapes"),
        ([np.zeros((32, 32, 3), np.uint8)] * 2, {"pts": [0]}, "1 pts"),
        ([np.zeros((32, 32, 3), np.uint8)] * 2, {"pts": [0, 1, 2]}, "3 pts for 2 frames"),
        ([np.zeros((32, 32, 3), np.uint8)] * 2, {"pts": [1, 1]}, "rise"),
        ([np.zeros((32, 32, 3), np.uint8)], {"pts": [1], "start": 1}, "either"),
        ([np.zeros((32, 32, 3), np.uint8)], {"rotate": 45}, "45"),
        ([np.zeros((32, 32, 3), np.uint8)], {"codec": "aac"}, "not a video encoder"),
    ],
)
def test_impossible_wishes_are_named(
    tmp_path: Path, frames: list[RgbFrame], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encode_video(tmp_path / "a.mp4", frames, **settings)


@pytest.mark.parametrize("number", [0, 1, 187, 0x5555, 0xAAAA, 65535])
@pytest.mark.parametrize("size", [(96, 48), (224, 224), (301, 201), (796, 448), (1920, 1080)])
def test_a_number_can_be_read_at_every_size(number: int, size: tuple[int, int]) -> None:
    width, height = size
    rgb = burn_frame_number(np.full((height, width, 3), 127, np.uint8), number)
    assert read_frame_number(rgb) == number


@pytest.mark.parametrize("size", [(398, 224), (224, 224), (160, 90)])
def test_a_number_survives_scaling(size: tuple[int, int]) -> None:
    for number in (0, 249, 43690, 65535):
        full = burn_frame_number(np.resize(NOISE, (540, 960, 3)), number)
        frame = av.VideoFrame.from_ndarray(full, format="rgb24").reformat(*size)
        assert read_frame_number(pixels(frame)) == number


def test_no_number_is_read_where_there_is_none() -> None:
    rng = np.random.default_rng(3)
    for value in (0, 127, 255):
        assert read_frame_number(np.full((448, 796, 3), value, np.uint8)) is None
    for _ in range(200):
        blocks = rng.integers(0, 256, (1, 24, 1), dtype=np.uint8)
        assert read_frame_number(np.repeat(np.repeat(blocks, 480, 1), 3, 2).repeat(240, 0)) is None
    assert read_frame_number(np.zeros((4, 4, 3), np.uint8)) is None


def test_a_damaged_number_is_not_guessed() -> None:
    whole = burn_frame_number(np.zeros((120, 480, 3), np.uint8), 1234)
    for cell in range(24):
        flipped, faded = whole.copy(), whole.copy()
        flipped[110:, cell * 20 : cell * 20 + 20] ^= 255
        faded[110:, cell * 20 : cell * 20 + 20] = 128
        assert read_frame_number(flipped) is None
        # A gray end block still tells white from black, and the rest is whole.
        assert read_frame_number(faded) == (1234 if cell in (0, 1, 22, 23) else None)
    assert read_frame_number(whole[:, 40:]) is None
    assert read_frame_number(whole[::-1]) is None


def test_numbers_that_do_not_fit_are_refused() -> None:
    frame = np.zeros((48, 96, 3), np.uint8)
    for number in (-1, 65536):
        with pytest.raises(ValueError, match="16 bits"):
            burn_frame_number(frame, number)
    with pytest.raises(ValueError, match="too small"):
        burn_frame_number(frame[:, :95], 1)


@pytest.mark.parametrize("codec", ["libsvtav1", "libx264"])
def test_encoding_leaves_the_thread_as_it_was(tmp_path: Path, codec: str) -> None:
    """SVT-AV1 makes it real-time for root: two such that spin stop a machine of two cores."""
    before = os.sched_getscheduler(0)
    pictures = (np.full((64, 64, 3), n, dtype=np.uint8) for n in range(4))
    encode_video(tmp_path / "film.mp4", pictures, codec=codec, audio=False, gop=2)
    assert os.sched_getscheduler(0) == before
