"""Ends what a session of Ray leaves running when its process is gone, however it went.

Ray ties its own processes to ours, but its agents look for their node once a minute only. Run as a
program, this reads from its stdin the folder of the session, until the pipe closes; then it kills
every process that has a log open there, or whose environment carries the session's mark (which
those that change their title may lose), and removes the private folder around that of the session.
Its parent, which has logs open as well, is left alone. It imports nothing of ours, so that it
starts in moments.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PRIVATE = "ts-"
"""How the name of a session's private folder begins."""

MARK = "TAKESTREAM_SESSION"
"""The variable that marks all processes of a session."""

# From the end of the session until its processes are killed: time to end by themselves.
GRACE_SECONDS = 2.0


@contextmanager
def marked_processes() -> Iterator[Callable[[str], None]]:
    """Mark the processes that are started in the block; none of them outlives this process.

    Without /proc nothing is done.

    Yields:
        A function to call with the folder whose `logs` they write, when it is known.
    """
    if not os.path.isdir("/proc/self"):
        yield lambda folder: None
        return
    mark = secrets.token_hex(8)
    watchdog = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != MARK},
    )
    before = os.environ.get(MARK)
    os.environ[MARK] = mark
    assert watchdog.stdin is not None
    pipe = watchdog.stdin

    def name(folder: str) -> None:
        with suppress(OSError):
            pipe.write(folder.encode() + b"\n")
            pipe.flush()

    try:
        yield name
    finally:
        if before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = before
        with suppress(OSError):
            pipe.close()
        with suppress(subprocess.TimeoutExpired):
            watchdog.wait(2 * GRACE_SECONDS)


def marked(mark: str, folder: str, spared: set[int]) -> list[int]:
    """The processes whose environment carries `mark` or that have logs in `folder` open."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) in spared:
            continue
        with suppress(OSError):
            with open(f"/proc/{entry}/environ", "rb") as file:
                mine = wanted in file.read().split(b"\0")
            if mine or (folder and _has_open(entry, folder)):
                found.append(int(entry))
    return found


def _has_open(pid: str, folder: str) -> bool:
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{number}").startswith(f"{folder}/logs/"):
                return True
    return False


def main(mark: str) -> None:
    """Wait for the end of stdin, then for the session's processes, then kill those left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spared = {os.getpid(), os.getppid()}
    told = b""
    while piece := os.read(0, 4096):
        told += piece
    folder = told.decode(errors="replace").strip()
    try:
        _end(mark, folder, spared)
    finally:
        private = os.path.dirname(os.path.dirname(folder))
        if os.path.basename(private).startswith(PRIVATE):
            shutil.rmtree(private, ignore_errors=True)


def _end(mark: str, folder: str, spared: set[int]) -> None:
    until = time.monotonic() + GRACE_SECONDS
    while marked(mark, folder, spared) and time.monotonic() < until:
        time.sleep(0.1)
    # More than once: one may just have started another.
    for _ in range(5):
        pids = marked(mark, folder, spared)
        if not pids:
            return
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1])
