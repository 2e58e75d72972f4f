"""A picture of which class is taken for which."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from service.evaluate.evaluation import Evaluation
from service.evaluate.scores import confusion

# More classes than these have no room for their names.
_MOST_NAMED, _MOST_DRAWN, _LONGEST = 40, 120, 28


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw, for the view and probe with the highest top-1, what each class is taken for; a PNG.

    The classes that are recalled least come first; of many only those.

    Args:
        evaluation: With its scores.
        path: Of the file.

    Raises:
        OSError: It cannot be written.
    """
    best = evaluation.best
    counts = confusion(evaluation.tested[best.view, best.probe]).astype(float)
    totals = counts.sum(axis=1)
    recall = np.divide(np.diag(counts), totals, out=np.ones(len(totals)), where=totals > 0)
    kept = np.argsort(recall, kind="stable")[:_MOST_DRAWN]
    shares = counts[kept][:, kept] / np.maximum(totals[kept], 1)[:, None]
    named = min(len(kept), _MOST_NAMED)
    figure = Figure(figsize=(5.2 + 0.24 * named, 4.2 + 0.24 * named), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="equal")
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the samples of the true class")
    if len(kept) <= _MOST_NAMED:
        names = [_short(evaluation.words.get(name, name)) for name in _names(evaluation, kept)]
        axes.set_xticks(range(len(kept)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(kept)), names, fontsize=8)
    axes.set_xlabel("guessed")
    axes.set_ylabel("true, the least recalled first")
    axes.set_title(
        f"{evaluation.encoder_id}\n{best.view}, {best.probe}: top-1 {best.top1.value:.1%}"
        f" (95 %: {best.top1.low:.1%} to {best.top1.high:.1%})",
        fontsize=9,
    )
    figure.savefig(path, dpi=120, format="png")


def _names(evaluation: Evaluation, kept: np.ndarray[tuple[int], np.dtype[np.intp]]) -> list[str]:
    return [evaluation.classes[number] for number in kept.tolist()]


def _short(name: str) -> str:
    # A dollar sign is mathematics to matplotlib.
    plain = name.replace("$", r"\$")
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"
