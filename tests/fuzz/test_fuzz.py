"""Damage that once fooled the readers, and a portion of `make fuzz`."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.__main__ import report, run
from tests.fuzz.damage import boxes
from tests.fuzz.films import FILMS, SISTER, Film, make_film, without
from tests.fuzz.trial import Verdict, judge

SEED = 1
# Beside the undamaged films, which are the first.
SMALL = range(len(FILMS), len(FILMS) + 8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where films are kept."""
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def verdict(folder: Path) -> Callable[[str, Callable[[Film], bytes]], Verdict]:
    """Judges a film of that name, damaged so."""

    def of(name: str, damage: Callable[[Film], bytes]) -> Verdict:
        film = make_film(name, folder)
        found = Verdict(name, name, "test")
        judge(film, damage(film), make_film(SISTER, folder), found)
        assert found.falls == [], found.words
        return found

    return of


def noise(*numbers: int) -> Callable[[Film], bytes]:
    """Packets that are noise."""

    def made(film: Film) -> bytes:
        data = bytearray(film.data)
        for number in numbers:
            position, size = film.packets[number]
            data[position : position + size] = np.random.default_rng(number).bytes(size)
        return bytes(data)

    return made


def spans(film: Film, kind: bytes) -> list[tuple[int, int]]:
    return [(start, stop) for name, start, stop in boxes(film.data) if name == kind]


@pytest.mark.parametrize("name", ["h264, fragments", "hevc, fragments", "vp9, fragments"])
def test_frames_after_a_lost_first_fragment_keep_their_places(name, verdict):
    def headless(film: Film) -> bytes:
        (first, _), (second, _) = spans(film, b"moof")[:2]
        return film.data[:first] + film.data[second:]

    found = verdict(name, headless)
    assert (found.right, found.lost) == (10, 0)
    assert any("begins 16 frames after the take" in line for line in found.said)


def test_a_fragment_that_claims_to_be_later_moves_no_sister(verdict):
    def later(film: Film) -> bytes:
        at = spans(film, b"tfdt")[4][1] - 4
        (when,) = struct.unpack_from(">I", film.data, at)
        return film.data[:at] + struct.pack(">I", when + 27_904) + film.data[at + 4 :]

    verdict("vp9, fragments", later)


def test_frames_lost_from_a_stream_of_uneven_steps_move_no_other(verdict):
    assert verdict("h264, uneven", noise(*range(53, 61))).right >= 9


def test_a_stream_whose_first_key_is_noise(verdict):
    assert verdict("h264, sliced", noise(0)).right == 10


def test_after_damage_intra_refresh_takes_its_time(verdict):
    assert verdict("h264, intra refresh", noise(40)).right >= 4


@pytest.mark.parametrize("packet", [41, 58, 61])
def test_in_open_groups_units_make_no_difference(packet, verdict):
    verdict("h264, open groups", noise(packet))
    verdict("h264, open groups", lambda film: without(film, {packet}))


@pytest.mark.parametrize("packets", [range(64, 69), (48, 62)])
def test_pictures_before_lost_packets_do_not_depend_on_the_unit(packets, verdict):
    assert verdict("h264", lambda film: without(film, set(packets))).right >= 9


@pytest.mark.slow
def test_a_portion(folder):
    verdicts = run(SEED, SMALL, folder, 1)
    assert len(verdicts) == len(SMALL)
    assert report(verdicts) == 0
    assert sum(v["valid"] for v in verdicts) > 30
    assert any(v["valid"] < v["clips"] for v in verdicts)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_larger_portion(folder):
    assert report(run(SEED + 1, range(240), folder, 2)) == 0
