"""Whatever boxes a file is made of, it is read or refused in plain words."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from takestream.schema import Reason
from tests.fuzz.damage import PARENTS, TABLES, boxes
from tests.support.films import FRAGMENTS
from workers.media.bitstream import length_prefix
from workers.media.container import UnreadableVideo
from workers.media.frame_num import FrameNumbers
from workers.media.video import probe_video

SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
NAMES = st.sampled_from(sorted([*PARENTS, *(name.encode() for name in TABLES), b"free", b"uuid"]))
NUMBERS = st.sampled_from([0, 1, 2, 7, 8, 511, 512, 1 << 16, 2**31 - 1, 2**31, 2**32 - 1])


def _boxed(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content


CONTENTS = st.lists(NUMBERS, max_size=12).map(lambda some: struct.pack(f">{len(some)}I", *some))
LEAVES = st.builds(_boxed, NAMES, st.one_of(CONTENTS, st.binary(max_size=60)))
TREES = st.recursive(
    LEAVES,
    lambda some: st.builds(_boxed, NAMES, st.lists(some, max_size=4).map(b"".join)),
    max_leaves=10,
)


def check(data, stored):
    """Reads the file, or refuses it by the one error that is meant for that."""
    source = stored(data)
    try:
        video = probe_video(source)
    except UnreadableVideo:
        return
    assert 0 < video.samples < 100_000
    assert len(video.times()) == video.samples
    assert video.rate > 0
    last = min(video.samples, 200)
    frames = list(video.reader(source).read(0, last, lambda n: True, lambda n, frame: n))
    assert [frame.frame for frame in frames] == list(range(last))
    assert all(frame.picture == frame.frame for frame in frames if frame.reason is Reason.VALID)


@pytest.fixture(scope="session")
def small(encode):
    """An ordinary film and one of fragments, small enough to be taken apart often."""
    common = {"count": 24, "gop": 8, "bframes": 2, "audio": False, "size": (64, 48)}
    return encode(**common), encode(**common, container_options=FRAGMENTS)


@settings(max_examples=250, **SHARED)
@given(st.lists(TREES, max_size=4))
def test_random_boxes(stored, some):
    check(_boxed(b"ftyp", b"isom\0\0\0\0isom") + b"".join(some), stored)


@settings(max_examples=250, **SHARED)
@given(st.data())
def test_random_boxes_in_a_film(small, stored, data):
    film = data.draw(st.sampled_from(small))
    found = [b for b in boxes(film) if b[0] not in (b"mdat", b"ftyp")]
    _, start, stop = data.draw(st.sampled_from(found))
    new = data.draw(TREES)
    if data.draw(st.booleans()):  # as long as the one that it replaces: what follows stays in place
        new = _boxed(new[4:8], new[8 : stop - start].ljust(stop - start - 8, b"\0"))
    check(film[:start] + new + film[stop:], stored)


@settings(max_examples=400, **SHARED)
@given(st.data())
def test_random_numbers_in_a_film_s_tables(small, stored, data):
    film = bytearray(data.draw(st.sampled_from(small)))
    found = [b for b in boxes(bytes(film)) if b[0].decode("latin1") in TABLES]
    for _ in range(data.draw(st.integers(1, 3))):
        _, start, stop = data.draw(st.sampled_from(found))
        at = data.draw(st.integers(start + 8, stop - 4))
        film[at : at + 4] = struct.pack(">I", data.draw(NUMBERS))
    check(bytes(film), stored)


@given(st.binary(max_size=80), st.binary(max_size=80), st.integers(1, 4))
def test_frame_numbers_of_anything(extradata, packet, prefix):
    numbers = FrameNumbers(extradata, prefix)
    assert numbers.gap_before(packet) in (True, False)


def test_frame_numbers_tell_a_missing_reference(film):
    it = film("closed gop")
    with it.open() as container:
        extradata = container.streams.video[0].codec_context.extradata
    contents = [it.data[p.pos : p.pos + p.size] for p in it.packets]
    prefix = length_prefix("h264", extradata)
    numbers = FrameNumbers(extradata, prefix)
    assert not any(numbers.gap_before(content) for content in contents)
    leaned_on = [n for n, c in enumerate(contents) if c[4] & 0x60 and not it.packets[n].is_keyframe]
    for lost in leaned_on[::7]:
        numbers = FrameNumbers(extradata, prefix)
        kept = [c for n, c in enumerate(contents) if n != lost]
        found = np.flatnonzero([numbers.gap_before(content) for content in kept])
        after = lost + 1 < len(contents) and not it.packets[lost + 1].is_keyframe
        assert found[:1].tolist() == ([lost] if after else [])
