"""Made-up rooms: offsets are found by sound, and what only sounds alike is not believed."""

import numpy as np
import pytest

from tests.support.rooms import RATE, bustle, clicks, heard, listening, tune
from workers.sync.agreement import place
from workers.sync.sound import RULES, compare_sounds


def placed(recordings, seconds):
    """Where the second and later recordings stand beside the first; None where nobody can tell."""
    listens = {str(n): listening(sound, rate) for n, (sound, rate) in enumerate(recordings)}
    found = place(list(listens), compare_sounds(listens, seconds), RULES, seconds / 2)
    return [found.get(name) for name in list(listens)[1:]]


def room(scene, offset, seed, seconds, rate=RATE, **options):
    sound = heard(scene, offset=offset, seed=seed, seconds=seconds, rate=rate, **options)
    return sound, rate


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"reverberation": 0.8, "noise": -6}, {"reverberation": 0.4, "noise": -20}),
        ({"noise": 6}, {"noise": 3}),
        ({"gain": 0.002}, {"clip": True, "reverberation": 0.5}),
        ({"rate": 44_100}, {"rate": 16_000, "gain": -1.0}),
    ],
)
@pytest.mark.parametrize("offset", [-0.5, -0.1234, 0.0, 0.033, 0.5])
def test_an_offset_is_found_within_two_milliseconds(first, second, offset):
    scene = bustle(23, 3)
    (found,) = placed([room(scene, 0.0, 1, 20, **first), room(scene, offset, 2, 20, **second)], 20)
    assert found.sure
    assert found.offset == pytest.approx(offset, abs=0.002)


@pytest.mark.slow
def test_a_drift_of_50_ppm_is_seen_in_five_minutes():
    scene = bustle(303, 4)
    (found,) = placed(
        [room(scene, 0.0, 1, 300, noise=-10), room(scene, -0.2, 2, 300, ppm=50.0, noise=-10)], 300
    )
    assert found.sure
    assert found.drift == pytest.approx(50e-6, abs=2e-6)
    assert found.offset == pytest.approx(-0.2, abs=0.002)


def test_no_drift_is_seen_where_there_is_none():
    scene = bustle(63, 5)
    (found,) = placed([room(scene, 0.0, 1, 60), room(scene, 0.1, 2, 60, rate=44_100)], 60)
    assert found.slope == 0
    assert found.drift == pytest.approx(0, abs=2e-6)


SAME = bustle(23, 6)
HUM = sum(np.sin(2 * np.pi * 50 * k * np.arange(23 * RATE) / RATE + k) / k for k in range(1, 30))
UNTOLD = {
    "two rooms": (bustle(23, 7), bustle(23, 8)),
    "music in one": (SAME, tune(23, 9)),
    "music of one beat": (tune(23, 10), tune(23, 11)),
    "a metronome": (clicks(23, 0.5), clicks(23, 0.5)),
    "a slow metronome": (clicks(23, 1.7), clicks(23, 1.7)),
    "a loop": (np.tile(tune(2, 12), 12)[: 23 * RATE], np.tile(tune(2, 12), 12)[: 23 * RATE]),
    "hum": (0.1 * HUM.astype(np.float32), 0.1 * HUM.astype(np.float32)),
    "clicks of their own": (clicks(23, 0.5), clicks(23, 0.5, first=0.27)),
    "silence": (SAME, 0 * SAME),
    "silence in both": (0 * SAME, 0 * SAME),
}


@pytest.mark.parametrize("kind", UNTOLD)
@pytest.mark.parametrize("seconds", [6, 20])
def test_what_is_not_told_is_not_believed(kind, seconds):
    first, second = UNTOLD[kind]
    noise = {"noise": -200 if "silence" in kind else -30}
    found = placed(
        [room(first, 0.0, 1, seconds, **noise), room(second, 0.2, 2, seconds, **noise)], seconds
    )
    assert found == [None]


def test_a_room_with_a_metronome_in_it_is_told_by_the_rest():
    scene = 0.5 * clicks(23, 0.5) + bustle(23, 13)
    (found,) = placed([room(scene, 0.0, 1, 20), room(scene, 0.2, 2, 20)], 20)
    assert found.sure
    assert found.offset == pytest.approx(0.2, abs=0.002)


def test_a_camera_with_music_of_its_own_is_told_by_what_it_hears_beside():
    scene = bustle(23, 14)
    (found,) = placed([room(scene, 0.0, 1, 20), room(scene + 0.5 * tune(23, 15), 0.2, 2, 20)], 20)
    assert found.offset == pytest.approx(0.2, abs=0.002)


def test_a_deaf_camera_spoils_no_other():
    scene = bustle(23, 16)
    one, two, three = placed(
        [
            room(scene, 0.0, 1, 20),
            room(scene, 0.25, 2, 20),
            room(bustle(23, 17), 0.0, 3, 20),
            room(scene, -0.4, 4, 20),
        ],
        20,
    )
    assert one.offset == pytest.approx(0.25, abs=0.002)
    assert two is None
    assert three.offset == pytest.approx(-0.4, abs=0.002)


@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.0])
def test_a_take_too_short_tells_nothing(seconds):
    scene = bustle(5, 18)
    assert placed([room(scene, 0.0, 1, seconds), room(scene, 0.1, 2, seconds)], seconds) == [None]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_rooms_are_never_believed_wrongly(seed):
    random = np.random.default_rng(seed)
    seconds = float(random.choice([6, 12, 30]))
    long = seconds + 3
    period = float(random.choice([0.25, 0.333, 0.5, 0.6, 0.75, 1.0, 1.3, 2.0]))
    scenes = {
        "room": (bustle(long, seed), bustle(long, seed)),
        "foreign": (bustle(long, seed), bustle(long, seed + 100)),
        "tunes": (tune(long, seed), tune(long, seed + 100)),
        "clicks": (clicks(long, period), clicks(long, period)),
        "mixed": (clicks(long, period) + 0.02 * bustle(long, seed),) * 2,
        "loop": (np.tile(tune(period * 2, seed), 400)[: round(long * RATE)],) * 2,
    }
    for kind, (first, second) in scenes.items():
        offset = float(random.uniform(-0.5, 0.5))
        options = [
            {
                "noise": float(random.uniform(-40, 5)),
                "reverberation": float(random.choice([0, 0.3, 0.8])),
                "clip": bool(random.random() < 0.2),
                "rate": int(random.choice([48_000, 44_100, 22_050])),
            }
            for _ in range(2)
        ]
        (found,) = placed(
            [
                room(first, 0.0, 2 * seed, seconds, **options[0]),
                room(second, offset, 2 * seed + 1, seconds, **options[1]),
            ],
            seconds,
        )
        if kind == "room":
            assert found is not None
        if found is not None and found.sure:
            assert kind in ("room", "mixed", "clicks", "loop")
            assert found.offset == pytest.approx(offset, abs=0.002), kind
