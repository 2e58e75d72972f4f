"""`make torture N=20 SEED=1`: a job struck N times, at random and reproducibly.

Each blow takes about half a minute on two cores; `SECONDS` ends it earlier. `--services` also
strikes services with a job. One blow again: `--blow "KILL worker at 0.50"`.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.brightness import video
from tests.torture.run import Blow, Broken, Torture

TAKES, CAMERAS, FRAMES = ("a", "b"), ("cam01_0", "cam02_0"), 160


def main() -> int:
    """The exit code: how many did not hold, at most 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("n", nargs="?", type=int, default=20)
    parser.add_argument("seed", nargs="?", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--services", action="store_true")
    parser.add_argument("--blow", help='one alone, such as "KILL worker at 0.50"')
    asked = parser.parse_args()
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    chance = random.Random(seed)
    blows = [Blow.any(chance, asked.services) for _ in range(asked.n)]
    if asked.blow:
        how, target, _, moment = asked.blow.split()
        blows = [Blow(target, how, float(moment))]
    print(f"seed {seed}", flush=True)
    held: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    began = time.monotonic()
    # A short path: Ray's sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="tt", dir="/tmp") as folder:
        torture = Torture(_dataset(Path(folder)), Path(folder))
        print(f"undisturbed: {torture.chunks} chunks, {time.monotonic() - began:.0f} s", flush=True)
        for number, blow in enumerate(blows):
            if time.monotonic() - began > asked.seconds:
                print(f"the time is over after {number} of {len(blows)}")
                break
            kind, since = f"{blow.how} {blow.target}", time.monotonic()
            try:
                words = torture.strike(blow)
                held[kind] += 1
            except Broken as error:
                broken[kind] += 1
                words = f"BROKEN: {error}"
            print(f"{number}: {blow}: {words} ({time.monotonic() - since:.0f} s)", flush=True)
    for kind in sorted(held | broken):
        print(f"{kind}: {held[kind]} of {held[kind] + broken[kind]} held")
    print(f"seed {seed}: {held.total()} of {held.total() + broken.total()} held")
    return min(100, broken.total())


def _dataset(root: Path) -> Path:
    folder = root / "data"
    entries = []
    for number, take in enumerate(TAKES):
        videos = {}
        for camera in CAMERAS:
            relative = f"frame_aligned_videos/{camera}.mp4"
            video(folder / "takes" / take / relative, 20 + 40 * number, FRAMES)
            videos[camera[:5]] = {"0": {"relative_path": relative}}
        entries.append({"take_uid": f"uid-{take}", "take_name": take,
                        "frame_aligned_videos": videos})  # fmt: skip
    (folder / "takes.json").write_text(json.dumps(entries))
    return folder


if __name__ == "__main__":
    sys.exit(main())
