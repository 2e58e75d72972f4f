"""An evaluation for a person: a table, and a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2

from service.evaluate.evaluation import Evaluation, Row
from service.evaluate.paired import Difference
from service.evaluate.scores import Figure
from service.report.table import Row as Cells

HEADINGS = (
    "view", "probe", "top-1 %", "top-5 %", "macro-F1 %", "mAP %", "majority %", "shuffled %",
    "samples", "takes",
)  # fmt: skip
SPARE = ("takes", "top-5 %", "mAP %", "samples")
PAIRED = ("view", "probe", "A %", "B %", "B against A", "samples", "takes")


def row_cells(row: Row) -> Cells:
    """One line of the table."""
    return (
        row.view, row.probe, _cell(row.top1), _cell(row.top5), _cell(row.macro_f1),
        _cell(row.mean_ap), _cell(row.majority, short=True), _cell(row.shuffled, short=True),
        str(row.samples), str(row.takes),
    )  # fmt: skip


def paired_cells(one: Difference) -> Cells:
    """One line of the table of two encoders."""
    return (
        one.view, one.probe, f"{100 * one.a:.1f}", f"{100 * one.b:.1f}", one.words,
        str(one.samples), str(one.takes),
    )  # fmt: skip


def head_lines(evaluation: Evaluation) -> Iterator[str]:
    """What comes before the table: leaks in the first lines, then what was judged and how."""
    for leak in evaluation.leaks:
        yield f"leak: {leak}"
    settings = evaluation.settings
    folds = (
        f"official split, judged on {' and '.join(settings.test)}"
        if settings.folds == "official"
        else f"{evaluation.folds} folds, each {settings.group_by} in one of them"
    )
    yield (
        f"{evaluation.encoder_id} on {settings.labels}: {len(evaluation.classes)} classes,"
        f" {evaluation.groups} different {settings.group_by}, {folds}"
    )


def foot_lines(evaluation: Evaluation) -> Iterator[str]:
    """What comes after it: what was left out, and what to know."""
    for why, count in evaluation.left_out.items():
        yield f"left out: {count} {why}"
    if evaluation.refused:
        some = ", ".join(f"{one.label} ({one.samples})" for one in evaluation.refused[:5])
        more = f" and {len(evaluation.refused) - 5} more" if len(evaluation.refused) > 5 else ""
        yield f"classes left out, {evaluation.refused[0].why} (samples): {some}{more}"
    for note in evaluation.notes:
        yield f"note: {note}"
    if worst := evaluation.best.worst:
        words = evaluation.words
        listed = "; ".join(
            f"{words.get(name, name)} {100 * recall:.0f} % of {count}, taken for"
            f" {words.get(taken, taken)}"
            for name, recall, count, taken in worst[:3]
        )
        yield f"least recalled by {evaluation.best.view}, {evaluation.best.probe}: {listed}"
    yield "in brackets: 95 % of draws of takes, with replacement"


def evaluation_html(
    facts: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]] = ()
) -> str:
    """A page that needs no network.

    Args:
        facts: Of `Evaluation.facts`.
        differences: Of `Difference.facts`, of two encoders.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("service.report", ""), autoescape=True, trim_blocks=True
    )
    return environment.get_template("evaluation.html.j2").render(
        evaluations=facts, differences=differences
    )


def _cell(figure: Figure | None, *, short: bool = False) -> str:
    if figure is None:
        return ""
    value = f"{100 * figure.value:.1f}"
    return value if short else f"{value} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
