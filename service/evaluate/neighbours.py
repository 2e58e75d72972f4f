"""The nearest training samples of every tested one, over all folds at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.evaluate.folds import Fold
from service.evaluate.samples import Vectors, unit

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 1024
Near = tuple[NDArray[np.int64], NDArray[np.float32]]


def nearest(vectors: Vectors, folds: Sequence[Fold], count: int) -> list[Near]:
    """The training rows with the highest cosines to each tested row, and these.

    A pair of samples of two folds is in the training of one and in the test of the other, and the
    other way round: its cosine is computed once for both.

    Args:
        vectors: float32 [samples, D].
        folds: Training and test rows; each learns from all rows that it is not judged on.
        count: How many; all, where a fold has fewer to learn from.

    Returns:
        For each fold int64 [tested, count] and float32 [tested, count], highest first.
    """
    tests = [test for _, test in folds]
    rest = np.setdiff1d(folds[0][0], np.concatenate(tests))
    found = [_Found(vectors, test, min(count, len(train))) for train, test in folds]
    parts = [*found, _Found(vectors, rest, 0)]
    for number, mine in enumerate(parts):
        for other in parts[number + 1 :]:
            for first in range(0, len(mine.rows), _AT_ONCE):
                some = slice(first, first + _AT_ONCE)
                cosines = mine.unit[some] @ other.unit.T
                mine.add(cosines, other, some)
                other.add(cosines.T, mine, slice(None), some)
    return [(each.near.numpy(), each.cosines.numpy()) for each in found]


class _Found:
    """What was found for some rows.

    Args:
        vectors: float32 [samples, D].
        rows: Of them, [n].
        count: How many neighbours are wanted.

    Attributes:
        near: int64 [n, count], their rows.
        cosines: float32 [n, count], highest first.
    """

    def __init__(self, vectors: Vectors, rows: NDArray[np.intp], count: int) -> None:
        import torch  # finds the highest ten times as fast as numpy's partition

        self.rows = torch.from_numpy(rows)
        self.unit = torch.from_numpy(unit(vectors[rows]))
        self.near = torch.zeros((len(rows), count), dtype=torch.int64)
        self.cosines = torch.full((len(rows), count), -torch.inf)

    def add(
        self, cosines: "Tensor", other: "_Found", mine: slice, theirs: slice = slice(None)
    ) -> None:
        """Of some of these rows [n] with some of those of `other` [m]: cosines [n, m]."""
        import torch

        count = self.near.shape[1]
        if not count or not cosines.numel():
            return
        best = cosines.topk(min(count, cosines.shape[1]), dim=1)
        values = torch.cat([self.cosines[mine], best.values], dim=1)
        near = torch.cat([self.near[mine], other.rows[theirs][best.indices]], dim=1)
        kept = values.topk(count, dim=1)
        self.cosines[mine] = kept.values
        self.near[mine] = near.gather(1, kept.indices)
