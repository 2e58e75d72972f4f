"""The sound of a file: only its packets are read, and it stands where the frames' clock puts it."""

from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from tests.support.films import CountedSource, pictures
from tests.support.rooms import RATE, bustle, heard, write_film
from workers.media.index import read_index
from workers.media.sound import find_sound
from workers.media.video import probe_video

SECONDS, WANTED = 8, 8000
SCENE = bustle(SECONDS + 2, 1)


def film(path: Path, *, rate: int = RATE, **options) -> Path:
    sound = heard(SCENE, rate=rate, seconds=SECONDS)
    return write_film(path, pictures(SECONDS * 30), sound, rate=rate, **options)


def shift(part: np.ndarray, start: float) -> float:
    """By how many milliseconds later `part` has what the scene has at `start` of the take."""
    scene = signal.resample_poly(SCENE[RATE:], 1, RATE // WANTED)
    inner = part[WANTED // 2 : -WANTED // 2]
    first = round(start * WANTED)
    around = scene[first : first + len(part)]
    match = signal.correlate(around, inner, "valid")
    return (WANTED // 2 - int(match.argmax())) / WANTED * 1e3


@pytest.mark.parametrize(
    ("suffix", "options", "later"),
    [
        (".mp4", {}, 0),
        (".mp4", {"rate": 44_100, "channels": 2}, 0),
        (".mp4", {"rate": 22_050}, 0),
        (".mp4", {"sound_start": 0.25}, 250),
        (".mp4", {"sound_start": -0.1}, -100),
        (".mp4", {"codec": "libmp3lame", "rate": 44_100}, 0),
        (".mp4", {"codec": "libopus"}, 0),
        (".mov", {"codec": "pcm_s16le", "channels": 2}, 0),
        (".mp4", {"codec": "flac", "channels": 2}, 0),
        (".mp4", {"options": {"movflags": "faststart"}}, 0),
    ],
)
def test_sound_stands_on_the_clock_of_the_frames(tmp_path, suffix, options, later):
    source = CountedSource(str(film(tmp_path / f"film{suffix}", **options)))
    video = probe_video(source)
    sound = find_sound(video.index, video.origin)
    parts = sound.read(source, [(1.0, 3.0), (5.0, 7.5)], WANTED)
    assert [len(part) for part in parts] == [2 * WANTED, 2.5 * WANTED]
    for part, start in zip(parts, (1.0, 5.0), strict=True):
        assert shift(part, start) == pytest.approx(later, abs=1.0)


def test_pictures_that_begin_late_are_what_the_sound_is_counted_from(tmp_path):
    path = film(tmp_path / "film.mp4", sound_start=0.0)
    source = CountedSource(str(path))
    video = probe_video(source, span=(2.0, 7.0))
    assert video.origin == pytest.approx(2.0)
    sound = find_sound(video.index, video.origin)
    (part,) = sound.read(source, [(1.0, 3.0)], WANTED)
    assert shift(part, 3.0) == pytest.approx(0, abs=0.5)


def test_only_the_packets_of_the_stretch_are_read(tmp_path):
    path = write_film(
        tmp_path / "film.mp4", pictures(900, 480, 360), heard(bustle(32, 2), seconds=30)
    )
    source = CountedSource(str(path))
    index = read_index(source)
    before = len(source.reads)
    find_sound(index, 0.0).read(source, [(10.0, 12.0)], WANTED)
    read = sum(stop - start for start, stop in source.reads[before:])
    assert read < path.stat().st_size / 8


def test_fragments_are_read_from_the_beginning(tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    source = CountedSource(str(film(tmp_path / "film.mp4", options=options)))
    sound = find_sound(read_index(source), 0.0)
    assert not len(sound.pts)
    (part,) = sound.read(source, [(1.0, 3.0)], WANTED)
    # Nothing in such a file says that the encoder put 1024 samples in front.
    assert shift(part, 1.0) == pytest.approx(1024 / RATE * 1e3, abs=0.5)


def test_a_file_without_sound_and_one_that_is_cut_off(tmp_path):
    silent = write_film(tmp_path / "silent.mp4", pictures(60))
    assert find_sound(read_index(CountedSource(str(silent))), 0.0) is None
    path = film(tmp_path / "film.mp4", options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = CountedSource(str(path))
    sound = find_sound(read_index(source), 0.0)
    early, late = sound.read(source, [(0.0, 2.0), (6.0, 7.0)], WANTED)
    assert shift(early, 0.0) == pytest.approx(0, abs=0.5)
    assert not late.any()


def test_channels_that_cancel_out_are_not_mixed(tmp_path):
    left = heard(SCENE, seconds=SECONDS)
    path = write_film(
        tmp_path / "film.mov", pictures(SECONDS * 30), np.stack([left, -left]), codec="pcm_s16le",
        channels=2,
    )  # fmt: skip
    source = CountedSource(str(path))
    (part,) = find_sound(read_index(source), 0.0).read(source, [(1.0, 3.0)], WANTED)
    assert np.abs(part).max() > 0.05
    assert shift(part, 1.0) == pytest.approx(0, abs=0.5)
