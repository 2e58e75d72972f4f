"""Two encoders judged on the same samples: how much better one is, takes paired."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from service.evaluate.errors import EvaluationRefused
from service.evaluate.evaluation import Evaluation
from service.evaluate.scores import Figure, Judged, difference, drawn_weights


@dataclass(frozen=True)
class Difference:
    """How many more samples B gets right than A, by one view and probe.

    Attributes:
        view, probe: As of a `Row`.
        samples, takes: That both were tested on.
        a, b: Top1 of each on these.
        gain: top1 of B less that of A.
    """

    view: str
    probe: str
    samples: int
    takes: int
    a: float
    b: float
    gain: Figure

    @property
    def words(self) -> str:
        """`B is better by 2.1 points (95 %: 0.9 … 3.3)`, or that no difference can be seen."""
        low, high = 100 * self.gain.low, 100 * self.gain.high
        span = f"(95 %: {low:.1f} … {high:.1f})"
        if low > 0:
            return f"B is better by {100 * self.gain.value:.1f} points {span}"
        if high < 0:
            span = f"(95 %: {-high:.1f} … {-low:.1f})"
            return f"A is better by {-100 * self.gain.value:.1f} points {span}"
        return f"no difference can be seen {span}"

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "words": self.words}


def differences(a: Evaluation, b: Evaluation) -> list[Difference]:
    """B against A, for each view and probe that both have.

    Raises:
        EvaluationRefused: They have no view, no class or no sample in common.
    """
    found = list(_differences(a, b))
    if not found:
        raise EvaluationRefused(
            f"{a.encoder_id} and {b.encoder_id} have no view with samples in common"
        )
    return found


def _differences(a: Evaluation, b: Evaluation) -> Iterator[Difference]:
    for key, left in a.tested.items():
        right = b.tested.get(key)
        if right is None:
            continue
        places = {name: number for number, name in enumerate(b.order[key])}
        pairs = [
            (number, places[name]) for number, name in enumerate(a.order[key]) if name in places
        ]
        if not pairs:
            continue
        ours, theirs = (np.array(side) for side in zip(*pairs, strict=True))
        first = Judged(left.scores[ours], left.labels[ours], left.takes[ours])
        second = Judged(right.scores[theirs], right.labels[theirs], left.takes[ours])
        gain = difference(first, second, drawn_weights(first.takes, a.settings.seed))
        yield Difference(
            *key, len(pairs), len(np.unique(first.takes)), float(first.hits().mean()),
            float(second.hits().mean()), gain,
        )  # fmt: skip
