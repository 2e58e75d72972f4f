"""Damage in a film is named, never shown, and reaches no frame that it need not."""

from __future__ import annotations

import numpy as np
import pytest

from takestream.schema import Reason
from tests.support.decoding import check_exact, decoded
from workers.media.decode import rgb
from workers.media.index import read_index
from workers.media.plain import PlainReader, survey
from workers.media.video import probe_video


def packet_span(film):
    start = min(packet.pos for packet in film.packets)
    return start, max(packet.pos + packet.size for packet in film.packets)


def garbage(film, random, size=4096):
    start, stop = packet_span(film)
    at = random.integers(start, stop - size)
    return film.data[:at] + random.bytes(size) + film.data[at + size :]


def zeros(film, random):
    # As large a part of the film as 256 KiB are of a real one.
    start, stop = packet_span(film)
    size = min(256 * 1024, (stop - start) // 3)
    at = random.integers(start, stop - size)
    return film.data[:at] + bytes(size) + film.data[at + size :]


def zeros_in_a_packet(film, random):
    large = [packet for packet in film.packets if packet.size > 200]
    packet = large[random.integers(len(large))]
    size = int(random.integers(3, packet.size - 150))
    at = packet.pos + 100 + int(random.integers(packet.size - 149 - size))
    return film.data[:at] + bytes(size) + film.data[at + size :]


def flips(film, random):
    data = bytearray(film.data)
    for at in random.integers(*packet_span(film), 30):
        data[at] ^= 1 << int(random.integers(8))
    return bytes(data)


def cut_between_packets(film, random):
    return film.data[: film.packets[random.integers(5, len(film.packets))].pos]


def cut_inside_a_packet(film, random):
    packet = film.packets[random.integers(5, len(film.packets))]
    return film.data[: packet.pos + 1 + random.integers(packet.size - 1)]


# H.264 films whose packets are smaller than the damage. (Of garbage inside one large packet no
# decoder tells for certain.)
DAMAGED = [
    "moov in front",
    "closed gop",
    "open gop",
    "open gop, pyramid",
    "deep pyramid",
    "no b-frames",
    "sliced",
    "interlaced",
    "4:2:2",
]


def decoded_with_damage(film, damage, seed, stored):
    """What comes of a damaged copy, and the packets that the damage touches."""
    source = stored(damage(film, np.random.default_rng(seed)))
    return decoded(source, read_index(source)), film.touched(fsspec_bytes(source))


def fsspec_bytes(source):
    return source.read(0, source.identity().size)


def check_untouched_frames_are_valid(film, frames, touched):
    """Frames that lean on no touched packet by the rules of the format must have survived."""
    presented = [film.packets[n].pts for n in range(len(film.packets))]
    for frame in frames:
        packet = film.packet_of[frame.frame]
        key = film.group[packet]
        leans_on = set(range(key, packet + 1))
        if presented[packet] < presented[key] and key:  # shown before its key: the group before too
            leans_on |= set(range(film.group[key - 1], key))
        # The packet after may throw doubt on it if it is damaged; one that is absent does not.
        if not (leans_on | {packet + 1}) & touched:
            assert frame.reason is Reason.VALID, (frame.frame, packet, sorted(touched))
            assert np.array_equal(frame.picture, film.pictures[frame.frame])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("damage", [garbage, zeros], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", DAMAGED)
def test_what_garbage_changed_is_never_shown(name, damage, seed, film, stored):
    it = film(name)
    frames, touched = decoded_with_damage(it, damage, seed, stored)
    assert any(frame.reason is not Reason.VALID for frame in frames)
    for frame in frames:
        if frame.reason is Reason.VALID:
            assert np.array_equal(frame.picture, it.pictures[frame.frame]), frame.frame
        else:
            assert frame.picture is None
    check_untouched_frames_are_valid(it, frames, touched)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["plain", "open gop", "sliced", "hevc", "hevc, open gop"])
def test_zeros_inside_one_packet_are_never_shown(name, seed, film, stored):
    # A decoder alone shows most of them.
    it = film(name)
    source = stored(zeros_in_a_packet(it, np.random.default_rng(seed)))
    video = probe_video(source)
    plainly = PlainReader(source, video.index, survey(source, video.index))
    for reader in (video.reader(source), plainly):
        frames = list(reader.read(0, reader.samples, lambda n: True, lambda n, f: rgb(f)))
        assert len(frames) == len(it.pictures)
        for frame in frames:
            if frame.reason is Reason.VALID:
                assert np.array_equal(frame.picture, it.pictures[frame.frame]), frame.frame


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["moov in front", "open gop", "deep pyramid", "hevc", "vp9"])
@pytest.mark.parametrize("damage", [flips, garbage, zeros], ids=lambda f: f.__name__)
def test_what_no_damage_reaches_stays_and_nothing_shifts(name, damage, seed, film, stored):
    it = film(name)
    frames, touched = decoded_with_damage(it, damage, seed, stored)
    check_untouched_frames_are_valid(it, frames, touched)


def test_most_of_what_scattered_bits_change_is_named(film, stored):
    # A flipped bit can leave a picture that decodes without any complaint, and the frames that
    # lean on it; no decoder tells. This is how many it tells of.
    it = film("large")
    wrong = hidden = 0
    for seed in range(5):
        frames, _ = decoded_with_damage(it, flips, seed, stored)
        for frame in frames:
            changed = frame.picture is None or not np.array_equal(
                frame.picture, it.pictures[frame.frame]
            )
            wrong += changed
            hidden += changed and frame.reason is Reason.VALID
    assert wrong > 300
    assert hidden < wrong / 4


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "cut", [cut_between_packets, cut_inside_a_packet], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("name", ["moov in front", "large, moov in front"])
def test_a_cut_object_gives_all_that_is_in_it(name, cut, seed, film, stored):
    it = film(name)
    data = cut(it, np.random.default_rng(seed))
    source = stored(data)
    index = read_index(source)
    frames = decoded(source, index)
    assert len(frames) == len(it.pictures)
    absent = {n for n, p in enumerate(it.packets) if p.pos + p.size > len(data)}
    assert absent
    for frame in frames:
        packet = it.packet_of[frame.frame]
        if packet in absent:
            assert frame.reason is Reason.MISSING_FRAME
        elif not set(range(it.group[packet], packet)) & absent:
            assert frame.reason is Reason.VALID
            assert np.array_equal(frame.picture, it.pictures[frame.frame])


@pytest.mark.parametrize("name", ["closed gop", "open gop", "deep pyramid"])
def test_a_verdict_does_not_depend_on_where_decoding_began(name, film, stored):
    it = film(name)
    source = stored(garbage(it, np.random.default_rng(5), 1200))
    index = read_index(source)
    whole = decoded(source, index)
    assert 0 < sum(frame.reason is not Reason.VALID for frame in whole) < 40
    for first in range(0, 60, 5):
        for last in (first + 1, first + 3, 60):
            part = decoded(source, index, first, last)
            good = [frame.reason is Reason.VALID for frame in part]
            assert good == [frame.reason is Reason.VALID for frame in whole[first:last]]


def test_damage_before_the_first_wanted_frame_reaches_it(film, stored):
    it = film("closed gop")
    packet = it.packets[14]  # the third of its group
    data = it.data[: packet.pos] + b"\xff" * packet.size + it.data[packet.pos + packet.size :]
    source = stored(data)
    index = read_index(source)
    assert {frame.reason for frame in decoded(source, index, 20, 24)} == {Reason.DAMAGED_FRAME}
    check_exact(it, decoded(source, index, 24, 30))


def test_pictures_that_lean_on_a_corrupt_group_and_the_next_are_damaged_too(film, stored):
    # The decoder flags a picture as corrupt, but none of those that refer to it.
    it = film("open gop")
    keys = [n for n, packet in enumerate(it.packets) if packet.is_keyframe]
    silent = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        number = int(random.choice([n for n in range(60) if it.packets[n].size > 300]))
        if it.data[it.packets[number].pos + 4] & 0x60 == 0:
            continue  # none leans on it
        at = it.packets[number].pos + 100
        data = it.data[:at] + random.bytes(100) + it.data[at + 100 :]
        source = stored(data)
        frames = decoded(source, read_index(source))
        named = {it.packet_of[f.frame] for f in frames if f.reason is not Reason.VALID}
        for before, key, after in zip(keys, keys[1:], [*keys[2:], 60], strict=False):
            if not named & set(range(before, key)) or number - min(named) not in (0, 1):
                continue
            leading = {n for n in range(key, after) if it.packets[n].pts < it.packets[key].pts}
            assert leading <= named
            silent += bool(leading) and "decode_errors" not in source.counters.snapshot()
            break
    assert silent >= 3, "the damage was not of the kind that this test is about"


def test_a_film_that_is_nothing_but_noise(film, stored):
    it = film("moov in front")
    start, stop = packet_span(it)
    data = it.data[:start] + np.random.default_rng(0).bytes(stop - start) + it.data[stop:]
    source = stored(data)
    index = read_index(source)
    assert all(frame.reason is not Reason.VALID for frame in decoded(source, index))


# Reading
