"""Every range of every film decodes to plain PyAV's pixels, and damage is named, never shown."""

from __future__ import annotations

import ctypes
import gc
import struct
import threading
import time

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from takestream.schema import Reason
from tests.support.decoding import check_exact, check_placed, decoded, everything, picture
from workers.media.decode import decode
from workers.media.decoder import open_cpu_decoder
from workers.media.index import read_index
from workers.media.reads import plan_reads
from workers.media.source import IN_FLIGHT

KINDS = [
    "closed gop",
    "open gop",
    "open gop, pyramid",
    "deep pyramid",
    "first groups hidden",
    "uneven, from below zero",
    "fragments",
    "intra refresh",
    "two edits",
    "two edits, the second at a key",
    "the same thrice",
    "no keys listed",
    "hevc, open gop",
    "vp9",
]


def test_a_whole_film_is_what_plain_decoding_gives(any_film, stored):
    source = stored(any_film.data)
    index = read_index(source)
    frames = decoded(source, index)
    check_placed(any_film, index, frames)
    # Each packet went through the decoder once, and nothing was read twice.
    counts = source.counters.snapshot()
    start, stop = index.packets(0, index.frames)
    assert counts["frames_decoded"] == min(stop + 1, len(any_film.packets)) - start
    assert "decode_errors" not in counts
    media = source.reads[-len(plan_reads(index.position, index.size)) :]
    if (np.diff(index.position) > 0).all():  # not so where an edit goes back
        assert sum(stop - start for start, stop in media) <= len(any_film.data)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.parametrize("name", KINDS)
def test_any_range_alone_is_the_same(name, film, stored, data):
    it = film(name)
    source = stored(it.data)
    index = read_index(source)
    first = data.draw(st.integers(0, index.frames - 1), label="first")
    last = data.draw(st.integers(first + 1, index.frames), label="last")
    check_exact(it, decoded(source, index, first, last))


@pytest.mark.parametrize("name", ["closed gop", "open gop", "two edits", "intra refresh"])
def test_each_frame_alone_is_the_same(name, film, stored):
    it = film(name)
    source = stored(it.data)
    index = read_index(source)
    for number in range(index.frames):
        check_exact(it, decoded(source, index, number, number + 1))


def test_a_range_in_the_middle_costs_its_groups_only(film, stored):
    source = stored(film("large").data)
    index = read_index(source)
    source.reads.clear()
    decoded(source, index, 120, 140)
    group = index.size[(np.arange(250) >= 100) & (np.arange(250) < 150)].sum()
    assert source.bytes_read <= group * 1.1
    assert source.counters.snapshot()["frames_decoded"] <= 50


def test_only_wanted_frames_are_converted(film, stored):
    source = stored(film("closed gop").data)
    index = read_index(source)
    seen = []
    frames = list(
        decode(
            source,
            index,
            5,
            30,
            {7, 13, 29, 40}.__contains__,
            lambda number, frame: seen.append(frame),
        )
    )
    assert len(seen) == 3
    assert all(frame.reason is Reason.VALID for frame in frames)


def test_past_the_end(film, stored):
    source = stored(film("two frames").data)
    index = read_index(source)
    frames = decoded(source, index, 1, 5)
    assert [frame.reason for frame in frames] == [Reason.VALID] + [Reason.PAST_END] * 3
    assert [frame.reason for frame in decoded(source, index, 7, 9)] == [Reason.PAST_END] * 2
    assert decoded(source, index, 1, 1) == []


def test_the_decoder_gets_zeros_after_each_packet_and_has_one_thread(film, stored):
    # libav reads up to 64 bytes past a packet's end, and what stands there changes the picture.
    source = stored(film("mpeg4").data)
    index = read_index(source)
    after = set()

    class Spy:
        def __init__(self, codec):
            self.codec = codec

        def decode(self, packet):
            if packet is not None:
                end = packet.buffer_ptr + packet.buffer_size
                after.add(ctypes.string_at(end, 64))
            return self.codec.decode(packet)

    def open_spied(index):
        container, codec = open_cpu_decoder(index)
        assert codec.thread_count == 1
        return container, Spy(codec)

    frames = list(
        decode(source, index, 0, index.frames, everything, picture, open_decoder=open_spied)
    )
    check_exact(film("mpeg4"), frames)
    assert after == {bytes(64)}


# Pictures


def test_pictures_are_turned_as_the_display_matrix_says(encode, stored, mp4):
    # ISO 14496-12: a point (p, q) of the stored picture is shown at (a p + c q + x, b p + d q + y).
    height, width = 48, 64
    matrices = {
        "stored": (1, 0, 0, 1, 0, 0),
        "phone held upright": (0, 1, -1, 0, height, 0),
        "upside down": (-1, 0, 0, -1, width, height),
        "phone on its head": (0, -1, 1, 0, 0, width),
    }
    upright = encode(count=3, size=(width, height), audio=False)
    stored_picture = decoded(source := stored(upright), read_index(source))[1].picture
    for name, (a, b, c, d, x, y) in matrices.items():
        one = 1 << 16
        matrix = [a * one, b * one, 0, c * one, d * one, 0, x * one, y * one, 1 << 30]
        header = mp4.get(upright, "moov.trak.tkhd")
        header = header[:40] + struct.pack(">9i", *matrix) + header[76:]
        source = stored(mp4.put(upright, "moov.trak.tkhd", header))
        picture = decoded(source, read_index(source))[1].picture
        shape = (width, height) if b else (height, width)
        assert picture.shape == (*shape, 3), name
        assert picture.flags.c_contiguous
        for q in range(height):
            for p in range(width):
                # The middle of a pixel, in halves of a pixel.
                shown_x = a * (2 * p + 1) + c * (2 * q + 1) + 2 * x
                shown_y = b * (2 * p + 1) + d * (2 * q + 1) + 2 * y
                shown = picture[(shown_y - 1) // 2, (shown_x - 1) // 2]
                assert (shown == stored_picture[q, p]).all(), name


def test_the_first_of_two_video_streams_is_decoded(encode, stored, tmp_path):
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(20):
            for stream, grey in zip(streams, (number * 10, 255), strict=True):
                picture = np.full((64, 64, 3), grey, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    source = stored(path.read_bytes())
    greys = [frame.picture.mean() for frame in decoded(source, read_index(source))]
    np.testing.assert_allclose(greys, np.arange(20) * 10, atol=3)


# Damage


def test_reads_are_joined_and_grow(film, stored):
    position = np.arange(0, 40_000_000, 10_000)
    size = np.full(len(position), 9_000)
    reads = plan_reads(position, size)
    assert [a for a, _ in reads[1:]] == [b for _, b in reads[:-1]]
    assert (reads[0][0], reads[-1][1]) == (0, len(position))
    spans = [int(position[b - 1] + size[b - 1] - position[a]) for a, b in reads]
    assert spans[0] <= 512 * 1024 < spans[1] <= 1024 * 1024 < spans[3] <= 4 * 1024 * 1024
    assert plan_reads(np.array([0, 10**7, 5]), np.array([10, 10, 10])) == [(0, 1), (1, 2), (2, 3)]
    assert plan_reads(np.array([], dtype=np.int64), np.array([], dtype=np.int64)) == []
    assert plan_reads(np.array([0]), np.array([10**9])) == [(0, 1)]


def test_closed_early_it_leaves_nothing_running(film, stored, monkeypatch):
    monkeypatch.setattr("workers.media.reads.FIRST_READ", 4096)
    monkeypatch.setattr("workers.media.reads.FULL_READ", 4096)
    source = stored(film("large").data)
    index = read_index(source)
    before = set(threading.enumerate())
    source.reads.clear()
    frames = decode(source, index, 0, index.frames, everything, picture)
    assert next(frames).frame == 0
    frames.close()
    time.sleep(0.05)
    assert len(source.reads) < 3 * IN_FLIGHT
    after = len(source.reads)
    time.sleep(0.05)
    assert len(source.reads) == after
    assert all(thread.name.startswith("source") for thread in set(threading.enumerate()) - before)


def test_an_error_of_the_storage_is_raised(film, stored):
    source = stored(film("large").data)
    index = read_index(source)

    def fail(start, stop):
        raise FileNotFoundError(source.uri)

    source.read = fail
    with pytest.raises(FileNotFoundError):
        decoded(source, index)


def test_memory_holds_a_few_frames_only(film, stored):
    it = film("large")
    source = stored(it.data)
    index = read_index(source)
    alive = most = 0

    class Picture:
        def __init__(self, frame):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    for _ in decode(
        source, index, 0, index.frames, everything, lambda number, frame: Picture(frame)
    ):
        pass
    assert most < 12


def test_frames_are_freed_as_soon_as_they_are_pictures(film, stored):
    """Not when Python next looks for cycles: a few hundred frames are half a gigabyte."""
    it = film("large")
    index = read_index(source := stored(it.data))
    gc.collect()
    gc.disable()
    try:
        for _ in decode(source, index, 0, index.frames, everything, picture):
            pass
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = sum(type(one) is VideoFrame for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left < 12
