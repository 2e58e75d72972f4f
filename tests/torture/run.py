"""One job, one of its processes struck at one moment, and what has to hold afterwards."""

import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.support.children import processes, with_default_signals

MARK = "RUN_MARK"
TITLES = {"worker": "ray::Worker", "raylet": "/raylet ", "gcs": "/gcs_server ",
          "driver": "-m takestream", "service": "-m takestream"}  # fmt: skip
CHUNKS = "*/*.zarr/features/c/*/*/*"
# Until a run of the job has ended, and until nothing of it is left.
LONGEST_SECONDS, LEFT_SECONDS = 180.0, 15.0
RERUNS = 3


@dataclass(frozen=True)
class Blow:
    """What is struck, how, and when.

    Attributes:
        target: `worker`, `raylet`, `gcs`, `driver` or `service`.
        how: Of a signal; `STOP` is followed by `CONT`.
        moment: 0 to 1, from the first process of its kind to the last chunk.
    """

    target: str
    how: str
    moment: float

    @classmethod
    def any(cls, chance: random.Random, services: bool) -> "Blow":
        """One at random."""
        targets = ["worker", "worker", "raylet", "gcs", "driver", "driver"]
        target = chance.choice(targets + ["service"] * services)
        hows = ["KILL", "KILL", "KILL", "STOP"]
        if target in ("driver", "service"):
            hows += ["TERM", "HUP"]
        return cls(target, chance.choice(hows), round(chance.random(), 3))

    def __str__(self) -> str:
        return f"{self.how} {self.target} at {self.moment:.2f}"


class Broken(AssertionError):
    """Something that has to hold does not."""


class Torture:
    """A job over `dataset`, run again and again into new folders below `root`."""

    def __init__(self, dataset: Path, root: Path) -> None:
        self.dataset, self.root = dataset, root
        self._count = 0
        self.undisturbed = self._fresh()
        code, words = self._ended(self._start(self.undisturbed))
        if code:
            raise Broken(f"undisturbed, exit code {code}: {words}")
        self.chunks = len(list(self.undisturbed.glob(CHUNKS)))

    def strike(self, blow: Blow) -> str:
        """Run the job, strike it, run it again until it is complete; in words what came of it.

        Raises:
            Broken: Something does not hold.
        """
        output = self._fresh()
        process = self._start(output, service=blow.target == "service")
        try:
            kept, met = self._struck(process, output, blow)
            if blow.target == "service" and blow.how == "STOP":
                self._wait(lambda: self._complete(output), process, "the job of the service")
                process.terminate()
            code, words = self._ended(process)
        finally:
            self._end(process)
        self._check_end(output, code, words, blow)
        runs = 1
        while not self._complete(output) or code != 0:
            if runs > RERUNS:
                raise Broken(f"not complete after {runs} runs: exit code {code}: {words}")
            before = self._times(output)
            code, words = self._ended(self._start(output))
            self._nothing_left(output)
            again = [key for key, when in before.items() if self._times(output).get(key) != when]
            if again:
                raise Broken(f"{len(again)} finished chunks were written again by a rerun: {again}")
            runs += 1
        # A worker may be lost between its unit's last PUT and its record: that unit is done twice.
        twice = [key for key, when in kept.items() if self._times(output).get(key) != when]
        if len(twice) > 2 * (blow.target == "worker"):
            raise Broken(f"finished chunks were written twice: {twice}")
        self._same(output)
        return f"{'struck' if met else 'had ended'}, {len(kept)} chunks kept, {runs} runs"

    def _fresh(self) -> Path:
        self._count += 1
        return self.root / f"{self._count}"

    def _start(self, output: Path, *, service: bool = False) -> "subprocess.Popen[str]":
        place = ["--dataset", str(self.dataset), "--output", str(output), "--unit-frames", "32"]
        command = ["serve", "--port", str(self._port)] if service else ["extract"]
        temporary = self.root / "t"
        temporary.mkdir(parents=True, exist_ok=True)
        words = (self.root / f"{output.name}.log").open("a")
        with words:
            process = subprocess.Popen(
                [sys.executable, "-m", "takestream", *command, *place],
                env={**os.environ, MARK: str(output), "TMPDIR": str(temporary)},
                stdout=words, stderr=subprocess.STDOUT, text=True,
                preexec_fn=with_default_signals,
            )  # fmt: skip
        self._words = Path(words.name)
        if service:
            self._wait(self._ready, process, "the service")
            self._submit()
        return process

    @property
    def _port(self) -> int:
        return 20000 + os.getpid() % 20000

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def _submit(self) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/v1/jobs", b"{}",
            {"content-type": "application/json"},
        )  # fmt: skip
        urllib.request.urlopen(request, timeout=60).close()

    def _struck(
        self, process: "subprocess.Popen[str]", output: Path, blow: Blow
    ) -> tuple[dict[str, int], bool]:
        """The chunks that were there, and whether the target still was."""
        title, mark = TITLES[blow.target], f"{MARK}={output}"

        def there() -> list[int]:
            own = blow.target in ("driver", "service")
            return [process.pid] if own else processes(mark, title)

        self._wait(lambda: bool(there()), process, blow.target)
        # The first tenth is before the first chunk, the rest is counted by them.
        wanted = int((blow.moment - 0.1) / 0.9 * self.chunks) + 1 if blow.moment > 0.1 else 0
        if wanted:
            self._wait(lambda: len(self._times(output)) >= wanted, process, "its chunks")
        else:
            time.sleep(blow.moment * 40)
        kept, pids = self._times(output), there()
        if not pids or process.poll() is not None:
            return kept, False
        pid = random.Random(blow.moment).choice(pids)
        try:
            os.kill(pid, getattr(signal, f"SIG{blow.how}"))
            if blow.how == "STOP":
                time.sleep(3)
                os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return kept, False
        return kept, True

    def _wait(self, true: Callable[[], bool], process: "subprocess.Popen[str]", what: str) -> None:
        until = time.monotonic() + LONGEST_SECONDS
        while not true():
            if process.poll() is not None:
                return
            if time.monotonic() > until:
                raise Broken(f"{what} did not come in {LONGEST_SECONDS:.0f} s")
            time.sleep(0.02)

    def _ended(self, process: "subprocess.Popen[str]") -> tuple[int, str]:
        try:
            code = process.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            stacks = subprocess.run(
                ["py-spy", "dump", "--pid", str(process.pid)], capture_output=True, text=True
            )
            process.kill()
            raise Broken(f"did not end in {LONGEST_SECONDS:.0f} s: {stacks.stdout}") from None
        return code, self._words.read_text()[-3000:]

    def _end(self, process: "subprocess.Popen[str]") -> None:
        if process.poll() is None:
            process.kill()
            process.wait()

    def _check_end(self, output: Path, code: int, words: str, blow: Blow) -> None:
        if "Traceback" in words or "fault of takestream" in words:
            raise Broken(f"{blow}: {words}")
        if code == 0 and blow.target != "service" and not self._complete(output):
            raise Broken(f"{blow}: exit code 0, and not complete: {words}")
        if code not in (0, 1, 2, 130, -signal.SIGKILL):
            raise Broken(f"{blow}: exit code {code}: {words}")
        self._nothing_left(output)

    def _nothing_left(self, output: Path) -> None:
        """Nothing runs, and no folder or socket is there any more."""
        until = time.monotonic() + LEFT_SECONDS
        while left := [*processes(f"{MARK}={output}"), *self._folders()]:
            if time.monotonic() > until:
                shown = [_command(one) for one in left]
                raise Broken(f"left {LEFT_SECONDS:.0f} s after the end: {shown}")
            time.sleep(0.1)

    def _folders(self) -> Iterator[Path]:
        # A service keeps its folder, with its logs.
        return (path for path in (self.root / "t").iterdir() if not path.name.startswith("tk-"))

    def _times(self, output: Path) -> dict[str, int]:
        found = {}
        for path in output.glob(CHUNKS):
            if not path.name.endswith(".partial"):
                found[str(path.relative_to(output))] = path.stat().st_mtime_ns
        return found

    def _complete(self, output: Path) -> bool:
        roots = list(output.glob("*/*.zarr/zarr.json"))
        whole = list(self.undisturbed.glob("*/*.zarr/zarr.json"))
        return len(roots) == len(whole) and all('"complete"' in path.read_text() for path in roots)

    def _same(self, output: Path) -> None:
        for path in sorted(self.undisturbed.glob("*/*.zarr/*/c/**/*")):
            if path.is_file():
                other = output / path.relative_to(self.undisturbed)
                if not other.exists() or _digest(path) != _digest(other):
                    raise Broken(f"{other} is not as in an undisturbed run")
        if partial := list(output.rglob("*.partial")):
            raise Broken(f"half-written files are left: {partial}")


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _command(one: int | Path) -> str:
    if isinstance(one, Path):
        return str(one)
    try:
        return Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return f"pid {one}"
