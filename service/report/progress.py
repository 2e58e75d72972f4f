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


def seconds_left(progress: Progress) -> float | None:
    """Estimated seconds to the end, None as long as nothing is known.

    Takes not prepared yet are taken to be as long as the others.
    """
    if not progress.takes_prepared or not progress.clips_seen:
        return None
    known = progress.clips - progress.clips_skipped
    expected = known * progress.takes / progress.takes_prepared
    left = max(0.0, expected - progress.clips_seen - progress.clips_failed)
    return left * progress.seconds / progress.clips_seen


def _facts(progress: Progress) -> dict[str, str]:
    left = seconds_left(progress)
    return {
        "takes": f"{progress.takes_done}/{progress.takes}",
        "units": f"{progress.units_done}/{progress.units}",
        "failed": str(progress.units_failed),
        "clips": str(int(progress.clips_seen)),
        **{name: f"{value:.1f}" for name, value in rates(progress).items()},
        "eta_s": "?" if left is None else f"{left:.0f}",
    }


def _panel(progress: Progress) -> Table:
    known = max(1, progress.clips - progress.clips_skipped)
    table = Table.grid(padding=(0, 1))
    table.add_row(
        "takes",
        ProgressBar(total=max(1, progress.takes), completed=progress.takes_done, width=28),
        f"{progress.takes_done}/{progress.takes}",
    )
    table.add_row(
        "clips",
        ProgressBar(total=known, completed=min(known, progress.clips_seen), width=28),
        f"{int(progress.clips_seen)}/{progress.clips - progress.clips_skipped}"
        + (f" ({progress.clips_skipped} there already)" if progress.clips_skipped else ""),
    )
    speed, left = rates(progress), seconds_left(progress)
    failed = f"  [red]{progress.units_failed} units failed[/red]" if progress.units_failed else ""
    table.add_row(
        "speed",
        "",
        f"{speed['clips_per_s']:.1f} clips/s  {speed['frames_per_s']:.0f} frames/s  "
        f"{speed['mb_per_s']:.1f} MB/s  " + ("" if left is None else f"{_clock(left)} left"),
    )
    table.add_row(
        "units", "", Text.from_markup(f"{progress.units_done}/{progress.units} done{failed}")
    )
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
