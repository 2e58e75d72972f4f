"""What a take's features say about its cameras and moments: likeness, a map, nearest moments."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.stored import Array

Floats = NDArray[np.float32]


class Map(NamedTuple):
    """A 2-D picture of clips. rows, columns: clip and stream of each point; x, y: float32 [n].

    explained: the share of the variance along x and y.
    """

    rows: Array
    columns: Array
    x: Floats
    y: Floats
    explained: tuple[float, float]


def directions(features: ArrayLike, valid: ArrayLike) -> Floats:
    """Features [..., D] as float32 of length 1; zeros where invalid or without direction."""
    values = np.where(np.asarray(valid)[..., None], np.asarray(features, np.float32), 0)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    unit: Floats = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    return unit


def similarity(features: ArrayLike, valid: ArrayLike) -> Floats:
    """Cosine of each clip to the mean direction of the same moment in the other valid streams.

    features [n, S, D], valid [n, S] → float32 [n, S], NaN where there is nothing to compare.
    """
    unit = directions(features, valid)
    others = unit.sum(axis=1, keepdims=True) - unit
    length = np.linalg.norm(others, axis=-1)
    defined = (length > 1e-6) & unit.any(axis=-1)
    dots = np.einsum("nsd,nsd->ns", unit, others)
    return np.where(defined, dots / np.maximum(length, 1e-6), np.nan).astype(np.float32)


def project(features: ArrayLike, valid: ArrayLike, limit: int = 4000) -> Map:
    """Principal components of the directions of at most `limit` evenly chosen valid clips.

    features [n, S, D], valid [n, S]. Signs are fixed: the largest loading of an axis is positive.
    """
    rows, columns = np.nonzero(np.asarray(valid))
    if len(rows) > limit:
        kept = np.linspace(0, len(rows) - 1, limit).round().astype(int)
        rows, columns = rows[kept], columns[kept]
    some = np.asarray(features)[rows, columns]
    unit = directions(some, np.ones(len(rows), dtype=bool))
    points = np.zeros((len(rows), 2), dtype=np.float32)
    shares = np.zeros(2)
    if len(rows) > 1:
        centred = unit - unit.mean(axis=0)
        # D × D is small and does not grow with the take.
        variance, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        top = axes[:, ::-1][:, :2]
        top = top * np.sign(top[np.abs(top).argmax(axis=0), np.arange(top.shape[1])])
        points[:, : top.shape[1]] = centred @ top
        total = max(float(variance.sum()), 1e-12)
        shares[: top.shape[1]] = np.clip(variance[::-1][:2] / total, 0, 1)
    return Map(rows, columns, points[:, 0], points[:, 1], (float(shares[0]), float(shares[1])))


def nearest(
    features: ArrayLike, valid: ArrayLike, query: ArrayLike, *, top: int, gap: int
) -> list[list[tuple[int, float]]]:
    """Per stream, the clips most like `query` [D] by cosine: (row, score), best first.

    Clips less than `gap` rows from a better one are left out: neighbours show the same moment.
    """
    wanted = directions(query, True)
    return best(directions(features, valid) @ wanted, valid, top=top, gap=gap)


def best(scores: Floats, valid: ArrayLike, *, top: int, gap: int) -> list[list[tuple[int, float]]]:
    """Per stream, the rows of the highest of `scores` [n, S], as `nearest` gives them."""
    found = []
    for column, ok in zip(scores.T, np.asarray(valid).T, strict=True):
        left = np.where(ok, column, -np.inf)
        chosen: list[tuple[int, float]] = []
        while len(chosen) < top and len(left) and np.isfinite(left.max()):
            row = int(left.argmax())
            chosen.append((row, float(column[row])))
            left[max(0, row - gap + 1) : row + gap] = -np.inf
        found.append(chosen)
    return found
