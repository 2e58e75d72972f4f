"""What is learnt from features: nearest neighbours, and a linear map with ridge regularisation.

Both give a score for each class and sample, so that one code judges them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.evaluate.folds import Fold
from service.evaluate.samples import Vectors, unit

Scores = NDArray[np.float32]

NEIGHBOURS = 20
# Of the votes, as in Wu et al. 2018 (arXiv:1805.01978) and in DINO (arXiv:2104.14294).
TEMPERATURE = 0.07
# Ridge, times the samples that are learnt from: standardised features have variance 1.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_INNER = 3


def neighbour_scores(
    vectors: Vectors, labels: Sequence[NDArray[np.float32]], fold: Fold
) -> list[Scores]:
    """Votes of the nearest training samples by cosine, weighted by exp(cosine / TEMPERATURE).

    Args:
        vectors: float32 [samples, D].
        labels: float32 [samples, classes] each: several ways to label the same samples.
        fold: Training and test rows.

    Returns:
        float32 [test, classes] for each of the labels.
    """
    from sklearn.neighbors import NearestNeighbors

    train, test = fold
    known = unit(vectors[train])
    count = min(NEIGHBOURS, len(train))
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(known)
    distance, near = search.kneighbors(unit(vectors[test]))
    weight = np.exp(-distance / TEMPERATURE)
    weight /= weight.sum(axis=1, keepdims=True)
    found = []
    for given in labels:
        mine, votes = given[train], np.zeros((len(test), given.shape[1]), dtype=np.float32)
        for place in range(count):
            votes += (weight[:, place, None] * mine[near[:, place]]).astype(np.float32)
        found.append(votes)
    return found


def linear_scores(
    vectors: Vectors,
    labels: Sequence[NDArray[np.float32]],
    groups: NDArray[np.int64],
    fold: Fold,
) -> list[Scores]:
    """A linear probe: regularised least squares to 0/1 labels on standardised features.

    As scikit-learn's `RidgeClassifier`, but one eigendecomposition serves all strengths of the
    ridge and all ways to label. The strength is the one that does best, by the first labels, over
    inner folds of the training samples, in which groups are kept apart too.

    Args:
        vectors: float32 [samples, D].
        labels: float32 [samples, classes] each: several ways to label the same samples.
        groups: int64 [samples].
        fold: Training and test rows.

    Returns:
        float32 [test, classes] for each of the labels.
    """
    from sklearn.model_selection import GroupKFold

    train, test = fold
    first = labels[0]
    strength = RIDGES[len(RIDGES) // 2]
    apart = len(np.unique(groups[train]))
    if apart >= 2:
        gained = np.zeros(len(RIDGES))
        inner = GroupKFold(min(_INNER, apart)).split(train, groups=groups[train])
        for learnt, tried in inner:
            rows = train[tried]
            every = _ridge(vectors[train[learnt]], first[train[learnt]], vectors[rows], RIDGES)
            gained += [first[rows][np.arange(len(rows)), s.argmax(axis=1)].sum() for s in every]
        # Of equally good ones the strongest.
        strength = RIDGES[len(RIDGES) - 1 - int(gained[::-1].argmax())]
    joined = np.concatenate(labels, axis=1)
    (scores,) = _ridge(vectors[train], joined[train], vectors[test], (strength,))
    cuts = np.cumsum([given.shape[1] for given in labels])[:-1]
    return np.split(scores, cuts, axis=1)


def _ridge(
    known: Vectors, labels: NDArray[np.float32], asked: Vectors, strengths: Sequence[float]
) -> list[Scores]:
    """Scores of `asked` for each strength; float32 [asked, classes]."""
    middle = known.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = known.std(axis=0, dtype=np.float64).astype(np.float32)
    spread[spread == 0] = 1
    x, z = (known - middle) / spread, (asked - middle) / spread
    base = labels.mean(axis=0)
    y = labels - base
    # Whichever is smaller: features by features, or samples by samples.
    tall = len(x) >= x.shape[1]
    gram = x.T @ x if tall else x @ x.T
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    right = vectors.T @ (x.T @ y if tall else y)
    left = (z if tall else z @ x.T) @ vectors.astype(np.float32)
    values = np.maximum(values, 0)[:, None]
    return [
        (left @ (right / (values + strength * len(x))).astype(np.float32) + base).astype(np.float32)
        for strength in strengths
    ]
