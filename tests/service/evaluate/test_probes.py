"""Probes and scores beside scikit-learn's own."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from service.evaluate import probes
from service.evaluate.probes import RIDGES, _ridge, linear_scores, neighbour_scores
from service.evaluate.scores import (
    Judged,
    accuracy,
    confusion,
    drawn_weights,
    macro_f1,
    mean_average_precision,
)


def problem(samples: int, dim: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(samples)
    which = random.integers(classes, size=samples)
    vectors = random.normal(size=(samples, dim)) + 2 * np.eye(classes, dim)[which]
    return vectors.astype(np.float32), np.eye(classes, dtype=np.float32)[which]


@pytest.mark.parametrize(("samples", "dim"), [(80, 10), (30, 60)])
def test_the_linear_map_is_ridge_regression_on_standardised_features(samples, dim) -> None:
    vectors, labels = problem(samples, dim)
    vectors[:, 1] = 5  # a feature without spread
    asked, _ = problem(samples + 1, dim)
    strengths = (1e-3, 1.0)
    scale = StandardScaler().fit(vectors)
    ours = _ridge(vectors.copy(), labels, asked.copy(), strengths)
    for strength, found in zip(strengths, ours, strict=True):
        theirs = Ridge(alpha=strength * samples).fit(scale.transform(vectors), labels)
        np.testing.assert_allclose(found, theirs.predict(scale.transform(asked)), atol=2e-4)


@pytest.mark.parametrize(("samples", "dim"), [(600, 400), (300, 600)])
def test_features_that_are_all_one_feature_can_be_learnt_from(samples, dim) -> None:
    random = np.random.default_rng(3)
    true = random.normal(size=(samples, 1))
    vectors = (true + 1e-6 * random.normal(size=(samples, dim))).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[(true[:, 0] > 0).astype(int)]
    for found in _ridge(vectors.copy(), labels, vectors.copy(), RIDGES):
        assert (found.argmax(axis=1) == labels.argmax(axis=1)).mean() > 0.9


def test_neighbours_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "NEIGHBOURS", 1)
    vectors, labels = problem(90, 8)
    train, test = np.arange(60), np.arange(60, 90)
    (found,) = neighbour_scores(vectors, [labels], (train, test))
    theirs = KNeighborsClassifier(1, metric="cosine").fit(
        vectors[train], labels[train].argmax(axis=1)
    )
    np.testing.assert_array_equal(found.argmax(axis=1), theirs.predict(vectors[test]))


def test_several_ways_to_label_do_not_disturb_each_other() -> None:
    vectors, labels = problem(60, 6)
    fold = np.arange(40), np.arange(40, 60)
    groups = np.arange(60) // 4
    other = labels[::-1].copy()
    alone = linear_scores(vectors, [labels], groups, fold)[0]
    both = linear_scores(vectors, [labels, other], groups, fold)
    np.testing.assert_allclose(alone, both[0], atol=1e-5)
    assert not np.allclose(both[0], both[1])


def test_figures_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(5)
    scores = random.normal(size=(200, 4)).round(1).astype(np.float32)  # with ties
    which = random.integers(4, size=200)
    labels = np.eye(4, dtype=np.float32)[which]
    judged = Judged(scores, labels, np.arange(200) // 5)
    weights = drawn_weights(judged.takes, 0)
    assert accuracy(judged, weights).value == (scores.argmax(axis=1) == which).mean()
    assert accuracy(judged, weights, top=4).value == 1
    expected = f1_score(which, scores.argmax(axis=1), average="macro")
    assert macro_f1(judged, weights).value == pytest.approx(expected)
    several = (random.random(size=(200, 4)) < 0.3).astype(np.float32)
    found = mean_average_precision(Judged(scores, several, judged.takes), weights)
    assert found.value == pytest.approx(average_precision_score(several, scores, average="macro"))
    assert found.low < found.value < found.high
    assert confusion(judged).sum() == 200


def test_intervals_are_of_takes_not_of_clips() -> None:
    """A take's samples are right or wrong together: the interval is that of 20 draws, not 2,000."""
    right = np.repeat(np.arange(20) % 2, 100)
    labels = np.eye(2, dtype=np.float32)[np.ones(2000, int)]
    judged = Judged(np.eye(2, dtype=np.float32)[right], labels, np.repeat(np.arange(20), 100))
    found = accuracy(judged, drawn_weights(judged.takes, 0))
    assert found.value == 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 20**0.5, rel=0.15)
