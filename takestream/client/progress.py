"""How far a job is, on the terminal or in a notebook."""

import sys
import time

from takestream.protocol import JobState

# Seconds between two lines where a line cannot be written over.
_PAUSE = 30.0


class Line:
    """A line on stderr that is written over: in a terminal and a notebook; elsewhere now and then.

    Args:
        shown: Whether anything is written at all.
    """

    def __init__(self, shown: bool) -> None:
        self._shown, self._last, self._width = shown, "", 0
        self._over = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._due = 0.0

    def show(self, state: JobState) -> None:
        """Say how far it is, and when it has ended, leave the line there."""
        words = str(state)
        if not self._shown:
            return
        if self._over:
            end = "\n" if state.ended else ""
            print(f"\r{words:<{self._width}}", end=end, file=sys.stderr, flush=True)
            self._width = len(words)
        elif state.ended or (words != self._last and time.monotonic() >= self._due):
            print(words, file=sys.stderr, flush=True)
            self._last, self._due = words, time.monotonic() + _PAUSE
