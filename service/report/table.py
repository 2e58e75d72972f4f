"""Rows in print: a table that fits the terminal, a line a row in a pipe, CSV for scripts."""

import csv
import sys
from collections.abc import Sequence
from typing import Literal, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = tuple[str, ...]
Form = Literal["table", "csv", "json"]
# More rows are printed as they are: fitting thousands into the terminal takes seconds.
MOST_FITTED = 300
_BETWEEN = 2


def print_rows(
    headings: Sequence[str],
    rows: Sequence[Row],
    *,
    form: Form = "table",
    spare: Sequence[str] = (),
    below: str | None = None,
    file: TextIO | None = None,
) -> None:
    """Print rows on stdout.

    A terminal gets a table that fits: the column `below` goes below the table, columns of `spare`
    are left out, the first one first, until it does; what is still too wide is folded, but for the
    first column, which is there to be copied. A pipe gets every column, one line a row.

    Args:
        headings: Of the columns.
        rows: Their cells.
        form: `csv` for CSV with the headings in the first line.
        spare: Headings of columns that may be left out.
        below: Heading of a column of sentences.
        file: Where instead.
    """
    file = file or sys.stdout
    if form == "csv":
        csv.writer(file, lineterminator="\n").writerows((tuple(headings), *rows))
    elif file.isatty() and len(rows) <= MOST_FITTED:
        _print_fitted(headings, rows, spare, below, Console(file=file))
    else:
        widths = _widths(headings, rows)
        for row in (tuple(headings), *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            file.write((" " * _BETWEEN).join(cells).rstrip() + "\n")


def _widths(headings: Sequence[str], rows: Sequence[Row]) -> list[int]:
    return [max(map(len, column)) for column in zip(headings, *rows, strict=True)]


def _print_fitted(
    headings: Sequence[str],
    rows: Sequence[Row],
    spare: Sequence[str],
    below: str | None,
    console: Console,
) -> None:
    widths = dict(zip(headings, _widths(headings, rows), strict=True))
    gone: list[str] = []
    for name in filter(None, (below, *spare)):
        if sum(widths.values()) + _BETWEEN * (len(widths) - 1) <= console.width:
            break
        del widths[name]
        gone.append(name)
    table = Table(box=None, pad_edge=False, padding=(0, _BETWEEN, 0, 0))
    for heading in widths:
        first = heading == headings[0]
        table.add_column(heading, overflow="fold", no_wrap=first)
    kept = [n for n, heading in enumerate(headings) if heading in widths]
    for row in rows:
        table.add_row(*(Text(row[n]) for n in kept))
    console.print(table)
    if below in gone:
        gone.remove(below)
        for row in rows:
            console.print(Text(f"{row[0]}: {row[headings.index(below)]}"), highlight=False)
    if gone:
        console.print(f"[dim]without {', '.join(gone)}: --format csv has all[/dim]")
