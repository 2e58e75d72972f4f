"""How good scores are, each figure with an interval: takes are drawn again, never clips."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
# Fewer for average precision: each draw costs a pass over all samples for every class.
_PRECISION_DRAWS = 200
_AT_ONCE = 50
Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A figure and the 95 % interval of it.

    Attributes:
        value: On all samples.
        low, high: 2.5 % and 97.5 % of it over the draws.
    """

    value: float
    low: float
    high: float

    def facts(self) -> dict[str, float]:
        """JSON-able."""
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """Scores of the samples that were tested.

    Attributes:
        scores: float32 [n, classes].
        labels: float32 [n, classes], 1 where the sample has the label.
        takes: int64 [n]: which samples are drawn together.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.float32]
    takes: NDArray[np.int64]

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The class with the highest score; [n]."""
        return np.asarray(self.scores.argmax(axis=1))

    def hits(self, top: int = 1) -> NDArray[np.bool_]:
        """Whether one of the `top` highest scores is of a label of the sample; [n]."""
        if top == 1:
            best = self.predicted[:, None]
        else:
            best = np.argpartition(-self.scores, min(top, self.scores.shape[1]) - 1, axis=1)[
                :, :top
            ]
        return np.asarray(np.take_along_axis(self.labels, best, axis=1).any(axis=1))


def drawn_weights(takes: NDArray[np.int64], seed: int) -> Weights:
    """How often each take is drawn, with replacement; float64 [draws, takes]."""
    return _drawn(len(np.unique(takes)), seed)


@lru_cache(maxsize=2)
def _drawn(count: int, seed: int) -> Weights:
    random = np.random.default_rng(seed)
    found = random.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)
    found.flags.writeable = False
    return found


def accuracy(judged: Judged, weights: Weights, top: int = 1) -> Figure:
    """The share of samples one of whose `top` guesses is right."""
    hits, count = _by_take(judged.hits(top), judged.takes), _by_take(None, judged.takes)
    return _figure(hits.sum() / count.sum(), (weights @ hits) / (weights @ count))


def macro_f1(judged: Judged, weights: Weights) -> Figure:
    """The mean over classes of F1, classes without a sample left out of a draw."""
    classes = judged.labels.shape[1]
    guess = np.eye(classes, dtype=np.float64)[judged.predicted]
    parts = [
        _by_take(values, judged.takes)
        for values in (guess * judged.labels, guess, judged.labels.astype(np.float64))
    ]

    def f1(weighted: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        right, guessed, true = weighted
        each = np.divide(
            2 * right, guessed + true, out=np.zeros_like(right), where=guessed + true > 0
        )
        there = true > 0
        return np.asarray((each * there).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1))

    whole = f1([part.sum(axis=0, keepdims=True) for part in parts])
    return _figure(float(whole[0]), f1([weights @ part for part in parts]))


def mean_average_precision(judged: Judged, weights: Weights) -> Figure:
    """The mean over classes of average precision, as scikit-learn's without interpolation."""
    _, place = np.unique(judged.takes, return_inverse=True)
    whole = np.ones((1, weights.shape[1]))
    drawn = np.concatenate([whole, weights[:_PRECISION_DRAWS]])
    total, counted = np.zeros(len(drawn)), np.zeros(len(drawn))
    for column in range(judged.labels.shape[1]):
        order = np.argsort(-judged.scores[:, column], kind="stable")
        true, mine = judged.labels[order, column] > 0, place[order]
        if not true.any():
            continue
        # Samples of equal score are one step, whatever their order.
        score = judged.scores[order, column]
        last = np.append(score[1:] != score[:-1], True)
        for first in range(0, len(drawn), _AT_ONCE):
            rows = slice(first, first + _AT_ONCE)
            weight = drawn[rows][:, mine]
            hits = np.cumsum(weight * true, axis=1)[:, last]
            seen = np.cumsum(weight, axis=1)[:, last]
            gained = np.diff(hits, axis=1, prepend=0)
            precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
            positives = hits[:, -1]
            there = positives > 0
            total[rows] += np.where(
                there, (gained * precision).sum(axis=1) / np.maximum(positives, 1e-300), 0
            )
            counted[rows] += there
    each = total / np.maximum(counted, 1)
    return _figure(float(each[0]), each[1:])


def difference(a: Judged, b: Judged, weights: Weights) -> Figure:
    """How much more of the same samples B gets right than A, in shares of 1, takes paired."""
    gain = _by_take(b.hits().astype(np.float64) - a.hits(), a.takes)
    count = _by_take(None, a.takes)
    return _figure(gain.sum() / count.sum(), (weights @ gain) / (weights @ count))


def confusion(judged: Judged) -> NDArray[np.int64]:
    """Counts [true, guessed] of samples with one label."""
    classes = judged.labels.shape[1]
    found = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(found, (judged.labels.argmax(axis=1), judged.predicted), 1)
    return found


def _by_take(values: Any, takes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the samples of each take; of ones without values."""
    _, place = np.unique(takes, return_inverse=True)
    given = np.ones(len(takes)) if values is None else np.asarray(values, np.float64)
    found = np.zeros((int(place.max(initial=-1)) + 1, *given.shape[1:]))
    np.add.at(found, place, given)
    return found


def _figure(value: float, drawn: NDArray[np.float64]) -> Figure:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Figure(float(value), float(low), float(high))
