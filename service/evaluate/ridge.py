"""Ridge regression to 0/1 labels on standardised features.

As scikit-learn's `StandardScaler` and `Ridge`. Where there are more samples than features, all that
it needs of samples are sums over them, and sums over folds are added and subtracted: products of
samples are made once for all folds, outer and inner.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.evaluate.samples import Vectors

Scores = NDArray[np.float32]
# Of features without spread only rounding is left of the variance, in these shares of the square.
_NO_SPREAD = 100 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Sums:
    """What ridge regression needs of some samples.

    Attributes:
        count: How many.
        x: float64 [D], the sum of their features.
        y: float64 [classes], of their labels.
        xx: float32 [D, D], of products of features.
        xy: float32 [D, classes], of products of features and labels.
    """

    count: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    xx: NDArray[np.float32]
    xy: NDArray[np.float32]

    @classmethod
    def of(cls, x: Vectors, y: NDArray[np.float32]) -> "Sums":
        """Of samples with features float32 [n, D] near 0 and labels float32 [n, classes]."""
        sums = x.sum(axis=0, dtype=np.float64), y.sum(axis=0, dtype=np.float64)
        return cls(len(x), *sums, x.T @ x, x.T @ y)

    def __sub__(self, other: "Sums") -> "Sums":
        """Of these samples without some of them."""
        return Sums(
            self.count - other.count, self.x - other.x, self.y - other.y,
            self.xx - other.xx, self.xy - other.xy,
        )  # fmt: skip

    def fitted(self, strengths: Sequence[float], classes: slice) -> Iterator["Fitted"]:
        """The linear map to some of the classes, for each strength of the ridge."""
        mean = (self.x / self.count).astype(np.float32)
        base = (self.y[classes] / self.count).astype(np.float32)
        square = np.diag(self.xx) / self.count
        variance = square - mean**2
        there = variance > _NO_SPREAD * square
        scale = np.where(there, 1 / np.sqrt(np.where(there, variance, 1)), 0).astype(np.float32)
        gram = self.xx - np.outer(mean * self.count, mean)
        gram *= scale[:, None]
        gram *= scale
        right = scale[:, None] * (self.xy[:, classes] - np.outer(mean * self.count, base))
        for strength in strengths:
            weights = scale[:, None] * solved(gram, right, strength * self.count)
            yield Fitted(weights, base - mean @ weights)


@dataclass(frozen=True)
class Fitted:
    """A linear map from features to scores.

    Attributes:
        weights: float32 [D, classes].
        base: float32 [classes].
    """

    weights: NDArray[np.float32]
    base: NDArray[np.float32]

    def scores(self, x: Vectors) -> Scores:
        """Of features float32 [n, D]; float32 [n, classes]."""
        return np.asarray(x @ self.weights + self.base)


def near_zero(x: Vectors) -> Vectors:
    """Features moved to mean 0 and brought to deviation 1, in place; 0 where they have no spread.

    Sums over them lose no digits then, in whichever fold: each has its own mean and deviation.
    """
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    x -= mean
    deviation = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
    there = deviation > 10 * np.finfo(np.float32).eps * np.abs(mean)
    x *= np.where(there, 1 / np.where(there, deviation, 1), 0)
    return x


def few_samples(
    known: Vectors, labels: NDArray[np.float32], asked: Vectors, strengths: Sequence[float]
) -> Iterator[Scores]:
    """The same by products of samples, of which there are fewer than features.

    Args:
        known: float32 [n, D].
        labels: float32 [n, classes].
        asked: float32 [m, D].
        strengths: Of the ridge, times n.

    Yields:
        float32 [m, classes] for each strength.
    """
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(known)
    x, z = scale.transform(known), scale.transform(asked)
    base = labels.mean(axis=0)
    gram, other = x @ x.T, z @ x.T
    for strength in strengths:
        yield other @ solved(gram, labels - base, strength * len(x)) + base


def solved(
    gram: NDArray[np.float32], right: NDArray[np.float32], ridge: float
) -> NDArray[np.float32]:
    """`w` of `(gram + ridge) w = right`, by Cholesky's factors.

    For a handful of ridges they are cheaper than one matrix of eigenvectors. A ridge that is lost
    in the rounding of float32 products is raised until it counts.
    """
    import torch  # whose factors need less than half the CPU of scipy's where cores are busy

    ridge = max(ridge, float(np.finfo(np.float32).eps) * float(np.trace(gram)))
    while True:
        raised = torch.from_numpy(gram).clone()
        raised.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(raised)
        if not failed:
            found = torch.cholesky_solve(torch.from_numpy(np.ascontiguousarray(right)), factor)
            return np.asarray(found.numpy())
        ridge *= 4
