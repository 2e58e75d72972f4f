"""What is learnt from features: nearest neighbours, and a linear map with ridge regularisation.

Both give a score for each class and sample, so that one code judges them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from service.evaluate.folds import Fold
from service.evaluate.neighbours import nearest
from service.evaluate.ridge import Scores, Sums, few_samples, near_zero
from service.evaluate.samples import Vectors

NEIGHBOURS = 20
# Of the votes, as in Wu et al. 2018 (arXiv:1805.01978) and in DINO (arXiv:2104.14294).
TEMPERATURE = 0.07
# Ridge, times the samples that are learnt from: standardised features have variance 1.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_INNER = 2

Labels = NDArray[np.float32]
Rows = NDArray[np.intp]


def neighbour_scores(
    vectors: Vectors, labels: Sequence[Labels], folds: Sequence[Fold]
) -> list[Scores]:
    """Votes of the nearest training samples by cosine, weighted by exp(cosine / TEMPERATURE).

    Args:
        vectors: float32 [samples, D].
        labels: float32 [samples, classes] each: several ways to label the same samples.
        folds: Training and test rows; each learns from all rows that it is not judged on.

    Returns:
        float32 [tested, classes] for each of the labels: of the first fold's test, then of the
        next.
    """
    found: list[list[Scores]] = [[] for _ in labels]
    for (_, test), (near, cosine) in zip(folds, nearest(vectors, folds, NEIGHBOURS), strict=True):
        weight = np.exp((cosine - 1) / TEMPERATURE)
        weight /= weight.sum(axis=1, keepdims=True)
        for mine, given in zip(found, labels, strict=True):
            votes = np.zeros((len(test), given.shape[1]), dtype=np.float32)
            for place in range(near.shape[1]):
                votes += (weight[:, place, None] * given[near[:, place]]).astype(np.float32)
            mine.append(votes)
    return [np.concatenate(mine) for mine in found]


def linear_scores(
    vectors: Vectors, labels: Sequence[Labels], groups: NDArray[np.int64], folds: Sequence[Fold]
) -> list[Scores]:
    """A linear probe: regularised least squares to 0/1 labels on standardised features.

    As scikit-learn's `RidgeClassifier`, but products of features serve all folds, strengths of the
    ridge and ways to label. The strength is the one that does best, by the first labels, over
    inner folds of the training samples, in which groups are kept apart too.

    Args:
        vectors: float32 [samples, D].
        labels: float32 [samples, classes] each: several ways to label the same samples.
        groups: int64 [samples].
        folds: Training and test rows; each learns from all rows that it is not judged on.

    Returns:
        float32 [tested, classes] for each of the labels: of the first fold's test, then of the
        next.
    """
    fewest = min(len(train) for train, _ in folds)
    by_sums = fewest >= _INNER * vectors.shape[1]
    scores = (_many if by_sums else _few)(vectors, labels, groups, folds)
    cuts = np.cumsum([given.shape[1] for given in labels])[:-1]
    return np.split(np.concatenate(list(scores)), cuts, axis=1)


def _many(
    vectors: Vectors, labels: Sequence[Labels], groups: NDArray[np.int64], folds: Sequence[Fold]
) -> Iterator[Scores]:
    """Of folds with more samples than features, a fold at a time."""
    used = np.unique(np.concatenate([rows for fold in folds for rows in fold]))
    x, y = near_zero(vectors[used]), np.concatenate(labels, axis=1)[used]
    place = np.zeros(len(vectors), dtype=np.intp)
    place[used] = np.arange(len(used))
    first = slice(0, labels[0].shape[1])

    def sums_of(rows: Rows) -> Sums:
        return Sums.of(x[place[rows]], y[place[rows]])

    whole = Sums.of(x, y)
    for train, test in folds:
        sums = whole - sums_of(test)
        rest, gained = sums, []
        inner = _inner(train, groups)
        for number, tried in enumerate(inner):
            mine = rest if number == len(inner) - 1 else sums_of(tried)
            rest -= mine
            fitted = list((sums - mine).fitted(RIDGES, first))
            gained.append(
                _gained(labels[0][tried], [one.scores(x[place[tried]]) for one in fitted])
            )
        (found,) = sums.fitted((_strength(gained),), slice(None))
        yield found.scores(x[place[test]])


def _few(
    vectors: Vectors, labels: Sequence[Labels], groups: NDArray[np.int64], folds: Sequence[Fold]
) -> Iterator[Scores]:
    """Of folds with fewer samples than features, a fold at a time."""
    y = np.concatenate(labels, axis=1)
    for train, test in folds:
        gained = []
        for tried in _inner(train, groups):
            learnt = np.setdiff1d(train, tried)
            scores = few_samples(vectors[learnt], labels[0][learnt], vectors[tried], RIDGES)
            gained.append(_gained(labels[0][tried], list(scores)))
        yield from few_samples(vectors[train], y[train], vectors[test], (_strength(gained),))


def _inner(train: Rows, groups: NDArray[np.int64]) -> list[Rows]:
    """The training rows in parts that share no group; empty where they are of one alone."""
    from sklearn.model_selection import GroupKFold

    apart = len(np.unique(groups[train]))
    if apart < 2:
        return []
    cuts = GroupKFold(min(_INNER, apart)).split(train, groups=groups[train])
    return [train[tried] for _, tried in cuts]


def _gained(labels: Labels, scores: Sequence[Scores]) -> NDArray[np.float64]:
    """How many samples have their label as the highest score, for each of the strengths."""
    rows = np.arange(len(labels))
    return np.array([labels[rows, one.argmax(axis=1)].sum() for one in scores], dtype=np.float64)


def _strength(gained: Sequence[NDArray[np.float64]]) -> float:
    """The best ridge: of equally good ones the strongest; the middle one if none was tried."""
    if not gained:
        return RIDGES[len(RIDGES) // 2]
    return RIDGES[len(RIDGES) - 1 - int(np.sum(gained, axis=0)[::-1].argmax())]
