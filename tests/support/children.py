"""Child processes of the tests."""

import signal
from pathlib import Path


def with_default_signals() -> None:
    """For `preexec_fn`: SIGINT and SIGHUP as a terminal's foreground process has them.

    Behind `&` in a script, or under `nohup`, pytest itself and so its children would ignore them.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def processes(mark: str, title: str = "") -> list[int]:
    """Pids of the processes whose environment has the entry `mark`, and their command `title`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                marked = mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if marked and command.strip() and title.encode() in command:
                found.append(int(entry.name))
    return found
