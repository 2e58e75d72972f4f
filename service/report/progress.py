"""Live progress: a display on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workers.run.report import Progress
from workers.run.tasks import Record

PLAIN_SECONDS = 30.0


class OnProgress(Protocol):
    """What `run_job` calls."""

    def __call__(self, progress: Progress, records: Sequence[Record]) -> None:
        """Take note of where the job stands."""


@contextmanager
def progress_display(*, quiet: bool = False) -> Iterator[OnProgress]:
    """Progress on stderr, so that stdout stays for results; `quiet` says nothing."""
    if quiet:
        yield lambda progress, records: None
    elif sys.stderr.isatty():
        with Live(Text("starting Ray and the workers …"), console=Console(stderr=True)) as live:
            yield lambda progress, records: live.update(_panel(progress))
    else:
        yield _Plain()


class _Plain:
    """One `key=value` line every `PLAIN_SECONDS` and one at the end of each take."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PLAIN_SECONDS
        self._takes = 0

    def __call__(self, progress: Progress, records: Sequence[Record]) -> None:
        now = time.monotonic()
        if now < self._next and progress.takes_done == self._takes:
            return
        self._next, self._takes = now + PLAIN_SECONDS, progress.takes_done
        words = " ".join(f"{name}={value}" for name, value in _facts(progress).items())
        print(f"progress {words}", file=sys.stderr, flush=True)


def rates(progress: Progress) -> dict[str, float]:
    """clips/s, frames/s decoded, MB/s read, over the whole run so far."""
    seconds = max(progress.seconds, 1e-9)
    return {
        "clips_per_s": progress.clips_seen / seconds,
        "frames_per_s": progress.counts.get("frames_decoded", 0) / seconds,
        "mb_per_s": progress.counts.get("bytes_read", 0) / 1e6 / seconds,
    }


def _facts(progress: Progress) -> dict[str, str]:
    left = progress.seconds_left
    lately = {**rates(progress), "clips_per_s": progress.clips_per_s}
    return {
        "takes": f"{progress.takes_done}/{progress.takes}",
        "units": f"{progress.units_done}/{progress.units}",
        "failed": str(progress.units_failed),
        "clips": f"{progress.clips_reached}/{progress.clips_asked}",
        **{name: f"{value:.1f}" for name, value in lately.items()},
        "elapsed_s": f"{progress.seconds:.0f}",
        "eta_s": "?" if left is None else f"{left:.0f}",
    }


def _panel(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_row(
        "takes",
        ProgressBar(total=max(1, progress.takes), completed=progress.takes_done, width=28),
        f"{progress.takes_done}/{progress.takes}",
    )
    table.add_row(
        "clips",
        ProgressBar(max(1, progress.clips_asked), progress.clips_reached, width=28),
        f"{_about(progress)}{progress.clips_reached}/{progress.clips_asked}"
        + (f" ({progress.clips_skipped} there already)" if progress.clips_skipped else ""),
    )
    speed, left = rates(progress), progress.seconds_left
    failed = f"  [red]{progress.units_failed} units failed[/red]" if progress.units_failed else ""
    table.add_row(
        "speed",
        "",
        f"{progress.clips_per_s:.1f} clips/s  {speed['frames_per_s']:.0f} frames/s  "
        f"{speed['mb_per_s']:.1f} MB/s",
    )
    table.add_row(
        "time",
        "",
        f"{_clock(progress.seconds)} so far"
        + ("" if left is None else f", about {_clock(left)} left"),
    )
    table.add_row(
        "units", "", Text.from_markup(f"{progress.units_done}/{progress.units} done{failed}")
    )
    return table


def _about(progress: Progress) -> str:
    return "" if progress.takes_prepared >= progress.takes else "about "


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
