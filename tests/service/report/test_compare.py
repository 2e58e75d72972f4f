"""How alike sets of vectors are, against what the formulas say by themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.report.compare import cosines, linear_cka, neighbour_overlap

SETS = arrays(np.float32, (14, 5), elements=st.floats(-100, 100, width=32))


def test_a_turned_and_scaled_copy_is_the_same() -> None:
    random = np.random.default_rng(0)
    some = random.normal(size=(40, 6))
    turn = np.linalg.qr(random.normal(size=(6, 6)))[0]
    assert linear_cka(some, 3 * some @ turn + 7) == pytest.approx(1)
    assert neighbour_overlap(some, 3 * some @ turn) == 1
    # Both ways of computing it agree: by 40 × 40 Gram matrices, and by the dims.
    wide = np.pad(some, ((0, 0), (0, 60)))
    other = random.normal(size=(40, 6))
    assert linear_cka(wide, other) == pytest.approx(linear_cka(some, other))
    assert linear_cka(some, other) < 0.5
    assert neighbour_overlap(some, other) < 0.6


def test_chance_is_near_what_chance_gives() -> None:
    random = np.random.default_rng(1)
    found = neighbour_overlap(random.normal(size=(400, 8)), random.normal(size=(400, 8)))
    assert found == pytest.approx(10 / 399, abs=0.01)


def test_what_cannot_be_said_is_none() -> None:
    assert linear_cka(np.ones((1, 3)), np.ones((1, 3))) is None
    assert linear_cka(np.ones((9, 3)), np.ones((9, 3))) is None
    assert neighbour_overlap(np.ones((10, 3)), np.ones((10, 3))) is None


@given(SETS, SETS)
def test_bounds_and_symmetry(a: np.ndarray, b: np.ndarray) -> None:
    cka = linear_cka(a, b)
    assert cka is None or (-1e-9 <= cka <= 1 and cka == pytest.approx(linear_cka(b, a)))
    assert 0 <= neighbour_overlap(a, b) <= 1
    alike = cosines(a, b)
    assert (np.abs(alike) <= 1).all()
    assert (cosines(a, a) == 1).all()
