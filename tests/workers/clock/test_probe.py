"""What a take's streams agree on, and what is said of the ones that do not."""

from fractions import Fraction

import numpy as np
import pytest

from takestream.errors import StorageDenied
from takestream.schema import Reason
from workers.clock.probe import probe_take
from workers.dataset.layouts import open_dataset
from workers.dataset.take import Stream, Take
from workers.media.counters import Counters
from workers.media.source import Source


def probe(streams, **more):
    """The probe of a take with these streams: a source, a URI, or none; `more` of each of them."""
    take = Take(
        uid="u",
        name="n",
        task=None,
        university=None,
        capture=None,
        duration=None,
        streams=tuple(
            Stream(key, key, "0", getattr(source, "uri", source), False, **more)
            for key, source in streams.items()
        ),
    )
    return probe_take(take, open_dataset(""), Counters())


@pytest.fixture
def films(film, stored):
    def get(name, stop=None):
        return stored(film(name).data[:stop])

    return get


def test_a_take_of_equal_streams(films):
    found, indexes = probe({"a": films("plain"), "b": films("open gop"), "c": films("hevc")})
    assert (found.frames, found.rate) == (60, 30)
    assert found.problems() == {}
    assert set(indexes) == {"a", "b", "c"}
    one = found.streams["c"]
    assert (one.reason, one.codec, one.width, one.height) == (Reason.VALID, "hevc", 160, 120)
    assert one.identity == indexes["c"].identity
    facts = one.provenance()
    assert facts["frames"] == 60
    assert facts["rate"] == "30"
    assert facts["drift"] == 0
    assert "reason" not in facts


def test_broken_and_absent_streams_do_not_stop_the_others(films, film, stored):
    found, indexes = probe(
        {
            "good": films("plain"),
            "listed": None,
            "gone": "memory://nowhere/a.mp4",
            "empty": stored(b""),
            "text": stored(b"hello " * 99),
            "half": films("plain", 20_000),
        }
    )
    assert set(indexes) == {"good"}
    assert found.frames == 60
    assert {key: one.reason for key, one in found.streams.items()} == {
        "good": Reason.VALID,
        "listed": Reason.STREAM_ABSENT,
        "gone": Reason.STREAM_ABSENT,
        "empty": Reason.STREAM_UNREADABLE,
        "text": Reason.STREAM_UNREADABLE,
        "half": Reason.STREAM_UNREADABLE,
    }
    problems = found.problems()
    assert set(problems) == set(found.streams) - {"good"}
    assert problems["listed"] == ("listed in takes.json without a file",)
    assert problems["gone"] == ("listed, but the object is absent",)
    assert problems["empty"] == ("the object is empty (0 bytes)",)
    assert "not a readable mp4 or mov file" in problems["half"][0]
    assert found.streams["half"].size == 20_000


def test_what_differs_is_said(films, film):
    cut = film("moov in front").packets[40].pos
    found, _ = probe(
        {
            "a": films("plain"),
            "b": films("open gop"),
            "short": films("two frames"),
            "long": films("large"),
            "slow": films("25 fps"),
            "uneven": films("uneven"),
            "cut": films("moov in front", cut),
        }
    )
    assert (found.frames, found.rate) == (60, 30)
    problems = found.problems()
    assert set(problems) == {"short", "long", "slow", "uneven", "cut"}
    assert problems["short"] == ("shorter than the take: 2 frames, the take has 60",)
    assert problems["long"] == ("longer than the take: 250 frames, the take has 60",)
    assert problems["slow"][0] == "25 frames/s, the take has 30"
    assert any("variable frame rate" in line for line in problems["uneven"])
    assert problems["cut"] == ("the object is cut short: the data of 20 of 60 frames is not in it",)


def test_drift_is_the_largest_distance_from_the_take_s_clock_in_frames(films, film):
    found, indexes = probe({"a": films("plain"), "b": films("open gop"), "c": films("uneven")})
    times = (np.array([pts for pts, _ in film("uneven").decoded]) / 90_000).tolist()
    distances = [abs((time - times[0]) * 30 - number) for number, time in enumerate(times)]
    assert found.streams["c"].drift == pytest.approx(max(distances))
    assert indexes["c"].rate != 30


def test_29_97_is_kept_exactly(films):
    found, _ = probe({"a": films("29.97 fps")})
    assert found.rate == Fraction(30000, 1001)
    assert found.streams["a"].drift < 1e-6


def test_no_streams():
    found, indexes = probe({})
    assert (found.frames, found.rate, indexes) == (0, Fraction(30), {})


def test_an_outage_is_not_a_broken_video(films, monkeypatch):
    def refuse(self, start, stop):
        raise StorageDenied("no")

    streams = {"a": films("plain")}
    monkeypatch.setattr(Source, "read", refuse)
    with pytest.raises(StorageDenied):
        probe(streams)


def test_what_a_data_set_says_is_compared_with_the_object(films):
    film = films("plain")
    size = film.identity().size
    found, _ = probe({"a": film}, size=size + 1, note="odd", camera_kind="slam")
    assert found.problems() == {
        "a": (
            f"odd; the data set says it has {size + 1} bytes, its object has {size}; its pictures"
            " are 160x120: SLAM cameras are upright (480x640), and some takes ship them stretched",
        )
    }
    facts = found.streams["a"].provenance()
    assert not {"note", "listed"} & set(facts)
    assert probe({"a": film}, size=size, camera_kind="rgb")[0].problems() == {}
    found, _ = probe({"a": None, "b": "memory://none.mp4"}, note="why")
    assert found.problems() == {"a": ("why",), "b": ("listed, but the object is absent; why",)}


def test_upright_slam_and_full_size_are_ordinary(encode, stored):
    slam = stored(encode(count=4, size=(480, 640)))
    assert probe({"a": slam}, camera_kind="slam")[0].problems() == {}
    found, _ = probe({"a": stored(encode(count=4, size=(3840, 2160)))}, camera_kind="gopro")
    assert (found.streams["a"].width, found.streams["a"].height) == (3840, 2160)
    assert found.problems() == {}
