"""A real service in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Serving:
    """A running service; `.kill(title)` takes one of its processes down by what Ray calls it."""

    def __init__(self, url: str, mark: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self.url, self.mark, self.process, self.log = url, mark, process, log

    def pids(self, title: str) -> list[int]:
        """Its processes that Ray calls so: `ray::Worker`, `ray::ServeReplica:takestream:Engine`."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    mine = f"SERVE_MARK={self.mark}".encode() in (entry / "environ").read_bytes()
                    if mine and title.encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def kill(self, title: str) -> None:
        pids = self.pids(title)
        assert pids, title
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def service(log: Path, environment: dict[str, str], *arguments: object) -> Iterator[Serving]:
    """`takestream serve …` in the foreground of another process, until it is ready and after."""
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "takestream", "serve", *map(str, arguments)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", "0"],
            env={**environment, "SERVE_MARK": mark},
            stdout=output,
            stderr=output,
            text=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"takestream serves (http\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Serving(found[1], mark, process, log)
    finally:
        process.terminate()
        process.wait(60)
