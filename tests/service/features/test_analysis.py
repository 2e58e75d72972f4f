"""Likeness of cameras, the map of clips, nearest moments: against plain loops."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.features import analysis
from takestream import likeness
from takestream.likeness import mean_cosines


@st.composite
def stores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """features float16 [clip, stream, feature], NaN where invalid, and valid [clip, stream]."""
    shape = (draw(st.integers(0, 9)), draw(st.integers(0, 5)), draw(st.integers(1, 6)))
    numbers = st.floats(-60_000, 60_000, width=16)
    features = draw(arrays(np.float16, shape, elements=numbers))
    valid = draw(arrays(np.bool_, shape[:2]))
    return np.where(valid[..., None], features, np.float16("nan")), valid


def unit(vector: np.ndarray) -> np.ndarray | None:
    wide = vector.astype(np.float64)
    length = np.linalg.norm(wide)
    return wide / length if np.isfinite(length) and length > 0 else None


@settings(deadline=None)
@given(stores(), st.sampled_from([1, 2**24]))
def test_similarity_is_the_mean_cosine_to_the_others(
    store: tuple[np.ndarray, np.ndarray], block: int
) -> None:
    features, valid = store
    with patch.object(likeness, "_BLOCK", block):
        found = mean_cosines(features, valid)
    assert found.dtype == np.float32
    assert found.shape == valid.shape
    for clip in range(valid.shape[0]):
        units = [unit(v) if ok else None for v, ok in zip(features[clip], valid[clip], strict=True)]
        for stream, own in enumerate(units):
            others = [u for at, u in enumerate(units) if at != stream and u is not None]
            if own is None or not others:
                assert np.isnan(found[clip, stream])
            else:
                expected = np.mean([own @ other for other in others])
                assert found[clip, stream] == pytest.approx(expected, abs=1e-4)


@settings(deadline=None)
@given(stores(), st.sampled_from([1, 2**24]))
def test_pairs_are_the_mean_cosines_of_two_streams(
    store: tuple[np.ndarray, np.ndarray], block: int
) -> None:
    features, valid = store
    with patch.object(likeness, "_BLOCK", block):
        found = analysis.pairs(features, valid)
    assert found.shape == (valid.shape[1],) * 2
    for a, b in np.ndindex(found.shape):
        units = [
            (unit(clip[a]), unit(clip[b]))
            for clip, ok in zip(features, valid, strict=True)
            if ok[a] and ok[b]
        ]
        cosines = [x @ y for x, y in units if x is not None and y is not None]
        if cosines:
            assert found[a, b] == pytest.approx(np.mean(cosines), abs=1e-4)
        else:
            assert np.isnan(found[a, b])


def test_large_and_tiny_features_have_their_direction() -> None:
    features = np.array([[[6e4] * 2000, [6e-8] * 2000]], dtype=np.float16)
    assert mean_cosines(features, np.ones((1, 2), bool)) == pytest.approx(1, abs=1e-5)


def test_damaged_numbers_make_no_number() -> None:
    features = np.array([[[np.inf, 1], [1, 1], [1, 1]]], dtype=np.float32)
    valid = np.ones((1, 3), dtype=bool)
    found = mean_cosines(features, valid)
    assert np.isnan(found[0, 0])
    assert found[0, 1:] == pytest.approx(1)
    assert analysis.project(features, valid).columns.tolist() == [1, 2]
    assert analysis.cosines(features, valid, [1, 1])[0] == pytest.approx([0, 1, 1])


@settings(deadline=None)
@given(stores(), st.integers(1, 8))
def test_the_map_has_the_valid_clips_and_finite_places(
    store: tuple[np.ndarray, np.ndarray], limit: int
) -> None:
    features, valid = store
    found = analysis.project(features, valid, limit)
    pairs = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)) <= limit
    assert all(valid[pair] for pair in pairs)
    assert np.isfinite(found.x).all()
    assert np.isfinite(found.y).all()
    first, second = found.explained
    assert 0 <= second <= first + 1e-9
    assert first + second <= 1 + 1e-5
    again = analysis.project(features, valid, limit)
    assert (again.x == found.x).all()
    assert (again.y == found.y).all()


@pytest.mark.parametrize(
    "shape", [(60, 2, 24), (9, 2, 80), (150, 2, 200)], ids=["clips", "features", "large"]
)
def test_the_map_is_the_principal_components(shape: tuple[int, int, int]) -> None:
    decay = 1 / np.arange(1, shape[2] + 1)
    features = (np.random.default_rng(0).normal(size=shape) * decay).astype(np.float32)
    found = analysis.project(features, np.ones(shape[:2], bool))
    flat = features.reshape(-1, shape[2]).astype(np.float64)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    expected = np.abs(left[:, :2] * values[:2])
    assert np.abs(np.stack([found.x, found.y], 1)) == pytest.approx(expected, abs=1e-3)
    shares = values[:2] ** 2 / (values**2).sum()
    assert found.explained == pytest.approx(tuple(shares), abs=1e-5)


def test_equal_clips_lie_on_one_point_and_explain_nothing() -> None:
    found = analysis.project(np.ones((5, 2, 3), np.float16), np.ones((5, 2), bool))
    assert not found.x.any()
    assert not found.y.any()
    assert found.explained == (0, 0)


def test_a_long_take_is_thinned_evenly() -> None:
    features = np.random.default_rng(0).normal(size=(1000, 1, 3))
    found = analysis.project(features, np.ones((1000, 1), bool), limit=11)
    assert found.rows.tolist() == np.linspace(0, 999, 11).round().astype(int).tolist()


@settings(deadline=None)
@given(stores(), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2**24]))
def test_nearest_moments_are_the_best_ones_apart(
    store: tuple[np.ndarray, np.ndarray], top: int, gap: int, block: int
) -> None:
    features, valid = store
    query = np.ones(features.shape[2])
    with patch.object(likeness, "_BLOCK", block):
        scored = analysis.cosines(features, valid, query)
    found = analysis.best(scored, valid, top=top, gap=gap)
    assert len(found) == valid.shape[1]
    for stream, moments in enumerate(found):
        scores = {}
        for row in np.flatnonzero(valid[:, stream]).tolist():
            own = unit(features[row, stream])
            scores[row] = 0 if own is None else own @ query / np.linalg.norm(query)
        rows = [row for row, _ in moments]
        assert [score for _, score in moments] == pytest.approx(
            [scores[row] for row in rows], abs=1e-4
        )
        assert all(abs(a - b) >= gap for a in rows for b in rows if a != b)
        assert [s for _, s in moments] == sorted((s for _, s in moments), reverse=True)
        # Whoever was left out is near a better one, or there were enough.
        for row, score in scores.items():
            if len(moments) == top and score <= moments[-1][1] + 1e-4:
                continue
            assert any(abs(row - r) < gap and s >= score - 1e-4 for r, s in moments)


def test_of_equal_moments_the_first_comes_first() -> None:
    scores = np.full((7, 1), 0.5)
    found = analysis.best(scores, np.ones((7, 1), bool), top=5, gap=3)
    assert found == [[(0, 0.5), (3, 0.5), (6, 0.5)]]


def test_what_has_no_score_is_no_moment() -> None:
    scores = np.array([[np.nan, 0.1], [0.2, 0.3]])
    valid = np.array([[True, True], [True, False]])
    assert analysis.best(scores, valid, top=5, gap=1) == [[(1, 0.2)], [(0, 0.1)]]
    assert analysis.best(np.zeros((0, 1)), np.zeros((0, 1), bool), top=5, gap=1) == [[]]
