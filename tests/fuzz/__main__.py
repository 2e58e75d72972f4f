"""`make fuzz N=… SEED=…`: damaged films through the real extractor, and what has to hold of them.

Each variant runs in a child process with a budget of time and memory. A variant is a seed and a
number: `python -m tests.fuzz --only SEED/NUMBER` runs it again and prints all that is known of it.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.fuzz.films import FILMS

SECONDS = 60
MEMORY = 2 * 1024**3
# Of the clips that plain PyAV shows right, so many may be lost.
LOSS = 0.01
COUNTS = ("clips", "valid", "right", "unreported", "wrong", "shifted", "plain", "lost")
Verdicts = list[dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the variants asked for; 1 when an invariant fell."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="variants, undamaged films included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="SEED/NUMBER", help="run this variant alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict there")
    parser.add_argument("--children", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--films", type=Path, help="keep the films there, to start faster")
    args = parser.parse_args(argv)
    if args.only:
        seed, number = map(int, args.only.split("/"))
        numbers: Sequence[int] = [number]
    else:
        seed, numbers = args.seed, range(args.n)
    with tempfile.TemporaryDirectory() as folder:
        films = args.films or Path(folder)
        films.mkdir(parents=True, exist_ok=True)
        verdicts = run(seed, numbers, films, args.children)
    if args.json:
        args.json.write_text(json.dumps(verdicts, indent=1))
    if args.only:
        print(json.dumps(verdicts, indent=1))
    return report(verdicts)


def run(seed: int, numbers: Sequence[int], films: Path, children: int) -> Verdicts:
    """The verdict of each variant, in order."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        waiting.put(number)
    verdicts: Verdicts = []

    def work() -> None:
        child: _Child | None = None
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                break
            child = child or _Child(seed, films)
            verdict = child.trial(number)
            if verdict.get("ended"):
                child = None
            verdicts.append(verdict)
        if child:
            child.end()

    threads = [threading.Thread(target=work) for _ in range(min(children, len(numbers)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(verdicts, key=lambda verdict: int(verdict["variant"].partition("/")[2]))


class _Child:
    """A process that tries variants, one after another."""

    def __init__(self, seed: int, films: Path) -> None:
        self.seed = seed
        command = [sys.executable, "-m", "tests.fuzz", "--child", str(seed), str(films)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def trial(self, number: int) -> dict[str, Any]:
        """The verdict; one of its own when the process does not give any."""
        assert self.process.stdin
        assert self.process.stdout
        film = list(FILMS)[number % len(FILMS)]
        timer = threading.Timer(SECONDS, self.process.kill)
        timer.start()
        line = ""
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            pass
        timer.cancel()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        how = f"its process ended with {self.process.wait()} (killed after {SECONDS} s if -9)"
        return {
            "variant": f"{self.seed}/{number}", "film": film, "kind": "?", "ended": True,
            "falls": ["terminates"], "failed": how, "words": self._said[-5:],
            **dict.fromkeys(COUNTS, 0),
        }  # fmt: skip

    def end(self) -> None:
        """Let it end."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(SECONDS)

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self._said = [*self._said[-20:], line.rstrip()]


def peak_memory() -> int:
    """The most bytes that this process has held; `ru_maxrss` would count its parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def child(seed: int, films: Path) -> None:
    """Try the variants whose numbers come in."""
    import logging

    import av

    from tests.fuzz.trial import trial

    av.logging.set_level(av.logging.PANIC)
    logging.disable(logging.ERROR)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # encoders write to the standard output
    for line in sys.stdin:
        verdict = trial(seed, int(line), films)
        falls = verdict.falls
        if peak_memory() > MEMORY:
            falls.append("memory")
        print(json.dumps({**asdict(verdict), "falls": falls}), file=out, flush=True)
        if "memory" in falls:
            return


def report(verdicts: Verdicts) -> int:
    """Print what came of the variants, by codec; 1 when an invariant fell."""
    codecs: dict[str, Counter[str]] = {}
    fallen: dict[str, list[str]] = {}
    for verdict in verdicts:
        for codec in (verdict["film"].partition(",")[0], "all"):
            counts = codecs.setdefault(codec, Counter())
            counts["variants"] += 1
            counts.update({name: verdict[name] for name in COUNTS})
        for name in verdict["falls"]:
            fallen.setdefault(name, []).append(verdict["variant"])
    print(f"{'':8}" + "".join(f"{name:>12}" for name in ("variants", *COUNTS)))
    for codec, counts in sorted(codecs.items()):
        print(f"{codec:8}" + "".join(f"{counts[name]:12}" for name in ("variants", *COUNTS)))
    total = codecs.get("all", Counter())
    for codec, counts in sorted(codecs.items()):
        share = counts["unreported"] / max(1, counts["valid"])
        print(f"{codec}: {share:.1%} of valid clips are damaged in a way that no decoder reports")
    lost = total["lost"] / max(1, total["plain"])
    print(f"{lost:.2%} of the clips that plain PyAV shows right are lost (at most {LOSS:.0%})")
    for name, variants in sorted(fallen.items()):
        more = f" and {len(variants) - 20} more" if len(variants) > 20 else ""
        print(f"FELL: {name}: {len(variants)} variants: {', '.join(variants[:20])}{more}")
    if fallen:
        first = next(iter(fallen.values()))[0]
        print(f"again: python -m tests.fuzz --only {first}")
    elif lost <= LOSS:
        print(f"{len(verdicts)} variants: every invariant holds")
    return int(bool(fallen) or lost > LOSS)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
