"""Windows agree on a line, and ways round three cameras close."""

import numpy as np
import pytest

from workers.sync.agreement import Link, Rules, link, place
from workers.sync.lag import Lag
from workers.sync.line import Line, fit_line

RULES = Rules(tolerance=0.010, error=0.0002)


def test_outlying_windows_do_not_move_the_line():
    moments = np.linspace(5, 295, 12)
    lags = 0.1 + 50e-6 * moments
    lags[[2, 7, 9]] = [1.3, -2.0, 0.4]
    line = fit_line(moments, lags, 0.010, 0.0002)
    assert line.agree.sum() == 9
    assert line.offset == pytest.approx(0.1, abs=1e-4)
    assert line.drift == pytest.approx(50e-6, abs=1e-6)
    assert line.at(200.0) == pytest.approx(0.11, abs=1e-4)


def test_scattered_windows_tell_no_drift():
    moments = np.linspace(1, 29, 8)
    lags = np.array([0, 8, -7, 3, -8, 6, -2, 5]) * 1e-3
    line = fit_line(moments, lags, 0.010, 0.0002)
    assert line.slope == 0
    assert line.drift is None


def lag(moment, seconds, clear=True, heard=True):
    return Lag(moment, seconds, 20.0, 0.2, heard, clear)


def test_a_pair_needs_most_of_its_windows():
    good = [lag(float(n), 0.1) for n in range(6)]
    assert link(good, RULES).sure
    assert link([*good[:3], *(lag(9.0 + n, n * 0.3 - 1) for n in range(5))], RULES).line is None
    # Windows with more than one answer count against it.
    doubtful = [lag(20.0 + n, 0.5, clear=False) for n in range(4)]
    found = link([*good, *doubtful], RULES)
    assert found.line is not None
    assert not found.sure
    assert link([*good[:3], *doubtful * 3], RULES).line is None


def tie(seconds, agree=8, sure=True):
    line = Line(seconds, 0.0, 0.0, 0.0, np.ones(agree, dtype=bool))
    return Link(line, agree, agree, agree, agree, sure)


def test_a_link_that_does_not_close_is_left_out():
    links = {
        ("a", "b"): tie(0.1),
        ("a", "c"): tie(0.3),
        ("b", "c"): tie(0.2),
        ("a", "d"): tie(-0.1),
        ("b", "d"): tie(0.9, agree=4),
        ("c", "d"): tie(-0.4),
    }
    found = place("abcd", links, RULES, 0.0)
    assert {name: round(one.offset, 6) for name, one in found.items()} == {
        "a": 0.0, "b": 0.1, "c": 0.3, "d": -0.1,
    }  # fmt: skip
    assert all(one.sure for one in found.values())


def test_three_cameras_that_contradict_each_other_are_not_sure():
    links = {("a", "b"): tie(0.1), ("a", "c"): tie(0.3), ("b", "c"): tie(0.5)}
    found = place("abc", links, RULES, 0.0)
    assert not any(one.sure for one in found.values())


def test_cameras_that_only_a_third_ties_together():
    links = {("a", "b"): tie(0.1), ("b", "c"): tie(0.2)}
    found = place("abcd", links, RULES, 0.0)
    assert found["c"].offset == pytest.approx(0.3)
    assert "d" not in found
