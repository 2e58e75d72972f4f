"""What a take's features say about its moments: a map, and the nearest ones.

Pure arithmetic over the arrays of one store. How alike its cameras see a moment is said by
`takestream.likeness`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from takestream.likeness import blocks, directions

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# Of the iteration that finds the principal components.
_SMALL, _SUBSPACE, _ITERATIONS = 128, 10, 30


class Map(NamedTuple):
    """A 2-D picture of clips. rows, columns: clip and stream of each point; x, y: float32 [n].

    explained: the share of the variance along x and y.
    """

    rows: Ints
    columns: Ints
    x: Floats
    y: Floats
    explained: tuple[float, float]


def project(features: ArrayLike, valid: ArrayLike, limit: int = 4000) -> Map:
    """Principal components of the directions of at most `limit` evenly chosen valid clips.

    features [n, S, D], valid [n, S]. Signs are fixed: the largest loading of an axis is positive.
    What has no direction is no point; fewer than two points lie at 0.
    """
    features = np.asarray(features)
    rows, columns = np.nonzero(np.asarray(valid))
    if len(rows) > limit:
        kept = np.linspace(0, len(rows) - 1, limit).round().astype(int)
        rows, columns = rows[kept], columns[kept]
    unit = directions(features[rows, columns], np.ones(len(rows), dtype=bool))
    some = unit.any(axis=-1)
    rows, columns, unit = rows[some], columns[some], unit[some]
    points = np.zeros((len(rows), 2), dtype=np.float32)
    shares = np.zeros(2)
    if len(rows) > 1:
        centred = (unit - unit.mean(axis=0, dtype=np.float64)).astype(np.float32)
        variance, axes = _principal(centred)
        points[:, : len(variance)] = centred @ axes
        shares[: len(variance)] = variance
    return Map(rows, columns, points[:, 0], points[:, 1], (float(shares[0]), float(shares[1])))


def cosines(features: ArrayLike, valid: ArrayLike, query: ArrayLike) -> Floats:
    """Cosine of every clip to `query` [D]: float32 [n, S]; 0 where one has no direction."""
    features, valid = np.asarray(features), np.asarray(valid)
    wanted = directions(query, True)
    result = np.zeros(valid.shape, dtype=np.float32)
    for rows in blocks(features):
        result[rows] = directions(features[rows], valid[rows]) @ wanted
    return np.clip(result, -1, 1)


def pairs(features: ArrayLike, valid: ArrayLike) -> NDArray[np.float64]:
    """Mean cosine of the streams to each other, over the clips that are valid in both.

    features [n, S, D], valid [n, S] → float64 [S, S] in [-1, 1], NaN where no clip is.
    """
    features, valid = np.asarray(features), np.asarray(valid)
    streams = valid.shape[1]
    total, count = np.zeros((streams, streams)), np.zeros((streams, streams))
    for rows in blocks(features):
        unit = directions(features[rows], valid[rows])
        there = unit.any(axis=-1).astype(np.float64)
        total += np.einsum("nsd,ntd->st", unit, unit, optimize=True, dtype=np.float64)
        count += np.dot(there.T, there)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return np.clip(mean, -1, 1)


def best(
    scores: ArrayLike, valid: ArrayLike, *, top: int, gap: int
) -> list[list[tuple[int, float]]]:
    """Per stream, the valid clips of the highest scores [n, S]: (row, score), best first.

    Clips less than `gap` rows from a better one are left out: neighbours show the same moment. Of
    equal ones the first is taken.
    """
    left = np.where(np.asarray(valid), np.nan_to_num(np.asarray(scores), nan=-np.inf), -np.inf)
    gap = max(gap, 1)
    found = []
    for column in left.T:
        moments: list[tuple[int, float]] = []
        while len(moments) < top and len(column) and np.isfinite(column.max()):
            row = int(column.argmax())
            moments.append((row, float(column[row])))
            column[max(0, row - gap + 1) : row + gap] = -np.inf
        found.append(moments)
    return found


def _principal(centred: Floats) -> tuple[NDArray[np.float64], Floats]:
    """Shares of the variance [k] and unit axes [D, k] of at most two components of [n, D].

    By subspace iteration (Halko et al., arXiv:0909.4061, algorithm 4.4) from a fixed start: a whole
    spectrum of thousands of numbers takes seconds, and two of them are drawn.
    """
    least, dim = min(centred.shape), centred.shape[1]
    # A small one is done whole, and is exact at once.
    size = least if least <= _SMALL else _SUBSPACE
    start = np.random.default_rng(0).normal(size=(dim, size))
    basis, before = np.linalg.qr(start)[0].astype(np.float32), 0.0
    for _ in range(_ITERATIONS):
        seen = centred @ basis
        variance, turn = np.linalg.eigh(seen.T.astype(np.float64) @ seen)
        now = float(variance[-2:].sum())
        if abs(now - before) <= 1e-6 * now:
            break
        before = now
        basis = np.linalg.qr(centred.T @ seen)[0]
    total = float(np.square(centred, dtype=np.float64).sum())
    variance, axes = variance[::-1][:2], basis @ turn[:, ::-1][:, :2]
    # Axes along which nothing varies would be rounding errors.
    some = variance > 1e-9 * len(centred)
    variance, axes = variance[some], axes[:, some]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.minimum(variance / max(total, 1e-300), 1), (axes * signs).astype(np.float32)
