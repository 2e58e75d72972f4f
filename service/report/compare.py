"""How alike two sets of feature vectors of the same clips are."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEIGHBOURS = 10


def cosines(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Cosine of each vector of `a` to that of `b`, float64 [n]; 1 where both are zero.

    Args:
        a: Float [n, D].
        b: Float [n, D].
    """
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    dots = (left * right).sum(axis=1)
    same = (left == right).all(axis=1)
    found = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    return np.where(same, 1.0, np.clip(found, -1, 1))


def linear_cka(a: ArrayLike, b: ArrayLike) -> float | None:
    """Linear centred kernel alignment: 1 where one set is a rotated, scaled copy of the other.

    Args:
        a: Float [n, D].
        b: Float [n, E]; the dims may differ.

    Returns:
        0 to 1; None where a set has no spread, as with fewer than two clips.
    """
    left, right = _centred(a), _centred(b)
    if len(left) < 2:
        return None
    if len(left) < max(left.shape[1], right.shape[1]):
        grams = left @ left.T, right @ right.T
        shared = float((grams[0] * grams[1]).sum())
        own = float(np.linalg.norm(grams[0]) * np.linalg.norm(grams[1]))
    else:
        shared = float(np.linalg.norm(left.T @ right) ** 2)
        own = float(np.linalg.norm(left.T @ left) * np.linalg.norm(right.T @ right))
    return min(1.0, shared / own) if own > 0 else None


def neighbour_overlap(a: ArrayLike, b: ArrayLike, count: int = NEIGHBOURS) -> float | None:
    """How many of the nearest clips of a clip, by cosine, are the same in both sets, on average.

    Args:
        a: Float [n, D].
        b: Float [n, E].
        count: Of nearest clips.

    Returns:
        0 to 1; None with no more than `count` clips.
    """
    left, right = _nearest(a, count), _nearest(b, count)
    if left is None or right is None:
        return None
    shared = (left[:, :, None] == right[:, None, :]).any(axis=2).mean()
    return float(shared)


def _centred(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, np.float64)
    found = found - found.mean(axis=0) if len(found) else found
    # Squares of large values must not overflow, nor those of small ones vanish.
    largest = np.abs(found).max(initial=0.0)
    return found / largest if largest > 0 else found


def _nearest(values: ArrayLike, count: int) -> NDArray[np.intp] | None:
    found = np.asarray(values, np.float64)
    if len(found) <= count:
        return None
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    unit = np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    return np.argpartition(-alike, count, axis=1)[:, :count]
