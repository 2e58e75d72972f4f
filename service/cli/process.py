"""What the command line is as a process: its signals, and its streams when they fail."""

import errno
import io
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn


def take_signals() -> None:
    """Have SIGTERM and SIGHUP interrupt the command as SIGINT does: clean up, exit 130.

    What the parent had ignored stays ignored, as its users expect: SIGHUP under `nohup`, SIGINT
    behind `&` in a script, where the terminal's Ctrl-C is for another process. SIGTERM always ends
    the command.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def interrupted(command: str, written: str = "") -> str:
    """What to say when a command was interrupted: what is kept, and how it goes on.

    Args:
        command: Its name.
        written: How much of a job is written, where that is known.
    """
    if command in ("extract", "demo", "perform"):
        kept = f"What was written is kept, {written}" if written else "What was written is kept"
        return f"interrupted. {kept}: run the same command again to go on."
    if command in ("serve", "serve-demo"):
        return (
            "the service is stopped. Jobs that had not ended keep what they wrote, and go on when "
            "a service on this output starts."
        )
    return "interrupted."


class Stream:
    """A standard stream whose failure is remembered instead of raised.

    A job's work does not depend on who reads its progress and its summary. After the first error
    what is written goes to /dev/null.

    Attributes:
        lost: Why nothing more was written; None as long as all is well, and for a reader that went
            away, as `head` does.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._broken = stream, False
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._break(error)
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._break(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _break(self, error: OSError) -> None:
        if self._broken:
            return
        self._broken = True
        if error.errno != errno.EPIPE:
            self.lost = error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


def guard_streams() -> Stream:
    """Put a `Stream` in place of stdout and of stderr; that of stdout.

    One that was closed from the start (`>&-`) is opened on /dev/null, so that no file or socket
    gets its number and with it what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8, and names that are half a character, are shown by escapes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    guarded = Stream(sys.stdout)
    # A descriptor of its own: what libraries write to the standard error themselves can then be
    # told from what we say.
    words = os.fdopen(os.dup(sys.stderr.fileno()), "w", 1, sys.stderr.encoding, "backslashreplace")
    sys.stdout, sys.stderr = guarded, Stream(words)
    return guarded
