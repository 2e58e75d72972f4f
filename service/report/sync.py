"""The synchronisation of a take as a table for a person."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from takestream.sync import BOTH, StreamSync, TakeSync, drift_words, offset_words

SIGN = "offset: + where a stream shows a moment later than the reference does"


def print_sync(sync: TakeSync, console: Console) -> None:
    """The streams of one take as a table; fits 80 columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("stream", overflow="fold", max_width=18)
    table.add_column("offset ms", justify="right", no_wrap=True)
    table.add_column("drift ppm", justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    table.add_column("trust", no_wrap=True)
    table.add_column("agree", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for name, stream in sync.streams.items():
        table.add_row(*_cells(name, stream))
    console.print(Padding(table, (0, 0, 0, 2), expand=False), highlight=False)


def _cells(name: str, stream: StreamSync) -> tuple[Text, ...]:
    told = stream.offset_ms is not None
    off = bool(stream.frames) and stream.believed
    return (
        Text(name),
        Text(offset_words(stream.offset_ms)),
        Text(drift_words(stream.drift_ppm)),
        Text("both" if stream.witness == BOTH else stream.witness if told else "–"),
        Text(stream.confidence if told else "–"),
        Text(f"{stream.agree}/{stream.windows}" if stream.windows else ""),
        Text(
            stream.verdict + shift_words(stream.shift_frames),
            style="yellow" if off or not stream.believed else "",
        ),
    )


def shift_words(frames: int) -> str:
    """By how much a store's timeline of a stream was shifted, to follow its verdict."""
    return f"; shifted by {frames:+d}" if frames else ""
