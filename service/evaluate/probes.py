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
_INNER = 2
_AT_ONCE = 1024


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
    train, test = fold
    known, asked = unit(vectors[train]), unit(vectors[test])
    count = min(NEIGHBOURS, len(train))
    near, cosine = _nearest(known, asked, count)
    weight = np.exp((cosine - 1) / TEMPERATURE)
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

    As scikit-learn's `RidgeClassifier`, but one matrix of products serves all strengths of the
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


def _nearest(
    known: Vectors, asked: Vectors, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of `known` with the highest products, and those; [asked, count] each."""
    import torch

    near, best = [], []
    for first in range(0, len(asked), _AT_ONCE):
        # Ten times as fast as numpy's partition.
        found = torch.from_numpy(asked[first : first + _AT_ONCE] @ known.T).topk(count, dim=1)
        near.append(found.indices.numpy())
        best.append(found.values.numpy())
    return np.concatenate(near), np.concatenate(best)


def _ridge(
    known: Vectors, labels: NDArray[np.float32], asked: Vectors, strengths: Sequence[float]
) -> list[Scores]:
    """Scores of `asked` for each strength; float32 [asked, classes]. Overwrites both."""
    from scipy.linalg import cho_solve
    from sklearn.preprocessing import StandardScaler

    # Both are copies already, and large.
    scale = StandardScaler(copy=False)
    x, z = scale.fit_transform(known), scale.transform(asked)
    base = labels.mean(axis=0)
    y = labels - base
    # Whichever is smaller: features by features, or samples by samples.
    tall = len(x) >= x.shape[1]
    gram = (x.T @ x if tall else x @ x.T).astype(np.float64)
    right = x.T @ y if tall else y
    found = []
    for strength in strengths:
        factor = _factor(gram, strength * len(x))
        weights = cho_solve(factor, right, check_finite=False).astype(np.float32)
        found.append((z @ (weights if tall else x.T @ weights) + base).astype(np.float32))
    return found


def _factor(gram: NDArray[np.float64], ridge: float) -> tuple[NDArray[np.float64], bool]:
    """Cholesky's of `gram` + `ridge`; for a handful of ridges cheaper than one of eigenvectors.

    A ridge that is lost in the rounding of float32 products is raised until it counts.
    """
    from scipy.linalg import LinAlgError, cho_factor

    ridge = max(ridge, float(np.finfo(np.float32).eps) * float(np.trace(gram)))
    while True:
        raised = gram.copy()
        raised[np.diag_indices_from(raised)] += ridge
        try:
            factor, lower = cho_factor(raised, overwrite_a=True, check_finite=False)
            return factor, lower
        except LinAlgError:
            ridge *= 4
