"""Two readers, one result: by the index, and plainly from the beginning; odd and damaged times."""

from __future__ import annotations

import itertools
import struct
from dataclasses import replace

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from takestream.errors import StorageUnavailable
from takestream.schema import Reason
from tests.support.films import Film
from tests.support.muxer import STEP, Sample, mux, track_of
from workers.media.decode import rgb
from workers.media.places import believable, by_decoder, by_time, rhythm
from workers.media.plain import PlainReader, survey
from workers.media.source import Source
from workers.media.video import probe_video

UNITS = (80, 96, 23)


def pictures(reader, unit=4096):
    """Every sample of the reader, read in units."""
    frames = []
    for first in range(0, reader.samples, unit):
        last = min(first + unit, reader.samples)
        frames += reader.read(first, last, lambda number: True, lambda number, frame: rgb(frame))
    assert [frame.frame for frame in frames] == list(range(reader.samples))
    return frames


def same(one, other):
    return all(
        a.reason == b.reason
        and (a.picture is None if b.picture is None else np.array_equal(a.picture, b.picture))
        for a, b in zip(one, other, strict=True)
    )


def seen(data, stored):
    """The probed stream and its frames, which must not depend on where units begin."""
    source = stored(data)
    video = probe_video(source)
    frames = pictures(video.reader(source))
    for unit in UNITS:
        assert same(frames, pictures(video.reader(source), unit)), unit
    return video, frames


def valid(frames):
    return {frame.frame: frame.picture for frame in frames if frame.reason is Reason.VALID}


@pytest.fixture(scope="session")
def plain(encode):
    return encode(count=128, gop=24, bframes=2, audio=False, x264_params={"scenecut": 0})


@pytest.fixture(scope="session")
def shown(plain):
    return Film(plain).pictures


@pytest.fixture(scope="session")
def track(plain):
    return track_of(plain)


def check(frames, shown, empty=()):
    """Each picture at its own number, and none at `empty`."""
    there = valid(frames)
    assert set(there) == set(range(len(shown))) - set(empty)
    assert all(np.array_equal(there[number], shown[number]) for number in there)


def test_both_readers_agree_on_every_film(any_film, stored):
    source = stored(any_film.data)
    video = probe_video(source)
    showing = survey(source, video.index)
    plainly = pictures(PlainReader(source, video.index, showing))
    frames = pictures(video.reader(source))
    assert same(frames, plainly)
    np.testing.assert_allclose(video.times(), showing.seconds, atol=1e-6)
    assert video.rate == showing.rate
    assert len(valid(frames)) == len(any_film.pictures)
    assert all(
        np.array_equal(a, b) for a, b in zip(valid(frames).values(), any_film.pictures, strict=True)
    )


@pytest.mark.usefixtures("tiny_reads")
@pytest.mark.parametrize("name", ["plain", "moov in front", "silent", "hevc"])
def test_what_the_index_took_along_is_not_read_again(name, film, stored):
    source = stored(film(name).data)
    video = probe_video(source)
    frames = pictures(video.reader(source))
    assert len(valid(frames)) == len(film(name).pictures)
    assert all(np.array_equal(valid(frames)[n], p) for n, p in enumerate(film(name).pictures))
    reads = sorted(source.reads)
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(reads)), reads


@pytest.mark.parametrize("plainly", [False, True])
def test_what_the_index_took_along_is_confirmed_too(plainly, plain, stored):
    wrong = bytearray(plain)
    wrong[5000:5400] = bytes(400)  # among the packets, in the block that holds the file's beginning
    source = stored(bytes(wrong))
    video = probe_video(source)
    fsspec.filesystem("memory").pipe(source.uri, plain)
    later = Source(source.uri)
    reader = video.reader(later)
    if plainly:
        reader = PlainReader(later, video.index, survey(source, video.index))
    assert any(frame.reason is not Reason.VALID for frame in pictures(reader))
    with pytest.raises(StorageUnavailable, match="two readings"):
        later.confirm()


# Packets are not always frames


def nal(*content: int) -> bytes:
    return struct.pack(">I", len(content)) + bytes(content)


@pytest.mark.parametrize("spread", [False, True])
def test_samples_without_a_picture(spread, encode, stored):
    data = encode(count=128, gop=24, bframes=0, audio=False, x264_params={"scenecut": 0})
    track = track_of(data)
    message = nal(6, 5, 17, *range(1, 17), 120, 128)
    samples, durations = [], []
    for sample in track.samples:
        for content, ticks in ((nal(9, 0xF0), 0), (message, 0), (sample.data, STEP)):
            ahead = STEP // 3 * (len(samples) % 3) if spread else 0
            key = sample.key and content is sample.data
            samples.append(Sample(content, sample.dts + ahead, 0, key))
            durations.append(STEP // 3 + (len(samples) % 3 == 0) * 2 if spread else ticks)
    video, frames = seen(mux(replace(track, samples=samples, durations=durations)), stored)
    assert video.read_by == "order"
    assert video.rate == 30
    check(frames, Film(data).pictures)


def test_b_frames_whose_pts_are_their_dts(track, shown, stored):
    samples = [replace(sample, offset=0) for sample in track.samples]
    video, frames = seen(mux(replace(track, samples=samples)), stored)
    assert video.read_by == "order"
    check(frames, shown)
    np.testing.assert_allclose(video.times(), np.arange(128) / 30, atol=1e-6)


@pytest.mark.parametrize("sync", [None, tuple(range(1, 129)), (1, 30, 97), (60, 97)])
def test_keys_in_name_only(sync, track, shown, stored):
    video, frames = seen(mux(replace(track, sync=sync)), stored)
    assert video.read_by == "index"
    check(frames, shown)


# A frame's number is where its PTS puts it


@pytest.mark.parametrize("wrong", [0x2000000, 65536, 7 * STEP, -3 * STEP, STEP, 170])
@pytest.mark.parametrize("packet", [38, 39, 127, 1])
def test_one_false_composition_offset(packet, wrong, track, shown, stored):
    samples = list(track.samples)
    samples[packet] = replace(samples[packet], offset=samples[packet].offset + wrong)
    _, frames = seen(mux(replace(track, samples=samples)), stored)
    there = valid(frames)
    assert len(there) >= 127
    for number, picture in there.items():
        assert np.array_equal(picture, shown[number]), number


def test_a_fragment_that_libav_skips(encode, stored):
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    settings = {"gop": 16, "bframes": 2, "audio": False, "x264_params": {"scenecut": 0}}
    whole = encode(count=128, container_options=fragments, **settings)
    broken = bytearray(whole)
    at = -1
    for _ in range(5):
        at = broken.index(b"mfhd", at + 1)
    broken[at - 1] = 1
    video, frames = seen(bytes(broken), stored)
    check(frames, Film(whole).pictures, range(64, 80))
    assert video.samples == 128
    assert any("16 of 128 frames are missing" in line for line in video.problems)


def test_a_long_last_sample_moves_no_clock(track, stored):
    durations = [STEP] * 127
    for last in (0, 511, 513, STEP * 30 * 600):
        data = mux(replace(track, durations=[*durations, last]))
        assert probe_video(stored(data)).rate == 30


def test_a_stream_that_begins_late_says_so(track, shown, film, stored):
    late = mux(replace(track, edits=[(500, -1), (4267, 1024)]))
    video, frames = seen(late, stored)
    check(frames, shown)
    assert any("0.500 s after the file's start" in line for line in video.problems)
    assert probe_video(stored(film("plain").data)).problems == ()


# Damage


def test_one_chunk_elsewhere_costs_what_leans_on_it(track, shown, stored):
    data = bytearray(mux(track))
    at = data.index(b"stco") + 12
    data[at + 4 * 80 : at + 4 * 81] = data[at + 4 * 20 : at + 4 * 21]
    video, frames = seen(bytes(data), stored)
    there = valid(frames)
    assert len(there) >= 110
    assert all(np.array_equal(there[number], shown[number]) for number in there)
    assert any("its index is damaged" in line for line in video.problems)


def test_a_lost_frame_that_nothing_leans_on_costs_itself(track, shown, stored):
    alone = [n for n, s in enumerate(track.samples) if s.data[4] & 0x60 == 0]
    assert len(alone) > 20
    for packet in alone[3:30:9]:
        samples = list(track.samples)
        content = bytearray(samples[packet].data)
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        samples[packet] = replace(samples[packet], data=bytes(content))
        _, frames = seen(mux(replace(track, samples=samples)), stored)
        there = valid(frames)
        assert len(there) >= 127
        assert all(np.array_equal(there[number], shown[number]) for number in there)


def test_frames_lost_at_the_beginning_move_no_later_one(track, shown, stored):
    # Two samples with one PTS, so that the stream is read plainly, and a first group of noise.
    samples = [
        replace(s, data=np.random.default_rng(n).bytes(len(s.data))) if n < 24 else s
        for n, s in enumerate(track.samples)
    ]
    samples[100] = replace(samples[100], offset=samples[100].offset + STEP)
    video, frames = seen(mux(replace(track, samples=samples)), stored)
    assert video.read_by == "order"
    there = valid(frames)
    assert len(there) > 90
    assert all(np.array_equal(there[number], shown[number]) for number in there)


# Arithmetic


def test_rhythm():
    assert rhythm(np.array([5])) is None
    beat = rhythm(np.arange(100) * 512)
    assert beat == (type(beat))(512.0, True, True)
    assert rhythm(np.array([0, 33, 67, 100, 133, 167, 200])).step == pytest.approx(33.4, abs=0.1)
    assert not rhythm(np.cumsum(np.random.default_rng(0).integers(1500, 6000, 60))).steady


@given(st.integers(1, 10_000), st.sets(st.integers(1, 250), max_size=40), st.integers(-500, 500))
def test_places_by_time_are_the_steps(step, holes, start):
    there = np.array(sorted(set(range(251)) - holes))
    assert by_time(start + there * step, step).tolist() == there.tolist()


@given(st.sets(st.integers(1, 98), max_size=8), st.integers(2, 5000), st.data())
def test_wrong_times_move_no_other_frame(wrong, step, data):
    pts = np.arange(100, dtype=np.int64) * step
    for number in wrong:
        pts[number] += data.draw(st.integers(-(2**31), 2**31))
    stand = by_decoder(pts, np.ones(100, dtype=bool), step)
    right = np.setdiff1d(np.arange(100), list(wrong))
    placed = stand.place[right]
    # Only neighbours that lie can leave it open where a frame belongs.
    assert (placed[placed >= 0] == right[placed >= 0]).mean() > 0.9
    assert (np.diff(stand.place[stand.place >= 0]) > 0).all()


def test_a_pts_far_from_its_dts_is_not_believed():
    dts = np.arange(60) * 512
    pts = dts + np.array([1024, 2048, 512] * 20)
    assert believable(pts, dts, 512).all()
    pts[30] += 5 * 512
    assert np.flatnonzero(~believable(pts, dts, 512)).tolist() == [30]
