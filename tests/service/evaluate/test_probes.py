"""Probes and scores beside scikit-learn's own."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, f1_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from service.evaluate import neighbours, probes
from service.evaluate.folds import Fold
from service.evaluate.probes import RIDGES, linear_scores, neighbour_scores
from service.evaluate.ridge import Sums, few_samples
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


def folds_of(samples: int, count: int = 3) -> list[Fold]:
    rows = np.arange(samples)
    return [(rows[rows % count != n], rows[rows % count == n]) for n in range(count)]


def by_sums(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, strengths) -> list:
    scale = StandardScaler().fit(np.concatenate([known, asked]))
    sums = Sums.of(scale.transform(known), labels)
    fitted = sums.fitted(strengths, slice(None))
    return [one.scores(scale.transform(asked)) for one in fitted]


@pytest.mark.parametrize("ridge", [by_sums, few_samples])
@pytest.mark.parametrize(("samples", "dim"), [(80, 10), (30, 60)])
def test_the_linear_map_is_ridge_regression_on_standardised_features(ridge, samples, dim) -> None:
    vectors, labels = problem(samples, dim)
    asked, _ = problem(samples + 1, dim)
    vectors[:, 0] += 300
    asked[:, 0] += 300
    vectors[:, 1] = 5  # a feature without spread
    strengths = (1e-3, 1.0)
    scale = StandardScaler().fit(vectors)
    for strength, found in zip(strengths, ridge(vectors, labels, asked, strengths), strict=True):
        theirs = Ridge(alpha=strength * samples).fit(scale.transform(vectors), labels)
        np.testing.assert_allclose(found, theirs.predict(scale.transform(asked)), atol=5e-4)


@pytest.mark.parametrize("ridge", [by_sums, few_samples])
@pytest.mark.parametrize(("samples", "dim"), [(600, 400), (300, 600)])
def test_features_that_are_all_one_feature_can_be_learnt_from(ridge, samples, dim) -> None:
    random = np.random.default_rng(3)
    true = random.normal(size=(samples, 1))
    vectors = (true + 1e-6 * random.normal(size=(samples, dim))).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[(true[:, 0] > 0).astype(int)]
    for found in ridge(vectors, labels, vectors, RIDGES):
        assert (found.argmax(axis=1) == labels.argmax(axis=1)).mean() > 0.9


def test_sums_over_folds_give_what_each_fold_gives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = problem(240, 20, 5)
    groups = np.arange(240) // 4
    folds = folds_of(60)
    folds = [tuple(np.flatnonzero(np.isin(groups, side)) for side in fold) for fold in folds]
    # Rows that are in no fold, and no numbers.
    vectors[:8] = np.nan
    folds = [(train[train >= 8], test[test >= 8]) for train, test in folds]
    dealt = np.roll(labels, 7, axis=0)
    many = linear_scores(vectors, [labels, dealt], groups, folds)
    monkeypatch.setattr(probes, "_many", probes._few)
    few = linear_scores(vectors, [labels, dealt], groups, folds)
    for ours, theirs in zip(many, few, strict=True):
        assert ours.shape == (232, 5)
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
    # One fold, as of official splits.
    alone = linear_scores(vectors, [labels], groups, folds[:1])[0]
    np.testing.assert_allclose(alone, many[0][: len(alone)], atol=2e-4)


@pytest.mark.parametrize("at_once", [7, 1024])
@pytest.mark.parametrize("used", [slice(None), slice(1)])
def test_neighbours_are_scikit_learns(
    monkeypatch: pytest.MonkeyPatch, at_once: int, used: slice
) -> None:
    monkeypatch.setattr(neighbours, "_AT_ONCE", at_once)
    vectors, _ = problem(90, 8)
    folds = folds_of(90)[used]
    found = neighbours.nearest(vectors, folds, 5)
    for (train, test), (near, cosines) in zip(folds, found, strict=True):
        index = NearestNeighbors(n_neighbors=5, metric="cosine").fit(vectors[train])
        distances, places = index.kneighbors(vectors[test])
        np.testing.assert_array_equal(near, train[places])
        np.testing.assert_allclose(cosines, 1 - distances, atol=1e-5)


def test_all_vote_where_fewer_than_enough_are_learnt_from() -> None:
    vectors, labels = problem(12, 4)
    fold = np.arange(9), np.arange(9, 12)
    (found,) = neighbour_scores(vectors, [labels], [fold])
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found[:, labels[:9].any(axis=0)] > 0).all()


def test_several_ways_to_label_do_not_disturb_each_other() -> None:
    vectors, labels = problem(60, 6)
    folds = folds_of(60)
    groups = np.arange(60) // 4
    other = labels[::-1].copy()
    alone = linear_scores(vectors, [labels], groups, folds)[0]
    both = linear_scores(vectors, [labels, other], groups, folds)
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
