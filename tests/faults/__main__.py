"""`make faults N=20 SEED=1`: jobs with up to four random faults of their storage at once."""

import argparse
import os
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from service.demo.s3server import ObjectStore
from tests.support.fault_kinds import KINDS, LIST, Kind
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.faulty_job import FaultyJob, media_apart, short_silences

PATHS = {
    "GET": [r"\.mp4$", r"takes/a/.*\.mp4$", r"cam02_0\.mp4$", r"\.zarr/", r"zarr\.json$"],
    "PUT": [r"", r"/c/\d", r"features/c/", r"zarr\.json$", r"claims/", r"uid-b\.zarr/.*/c/\d+/1"],
    LIST: [r"[?&]list-type=2"],
}
LONGEST = 180.0


def main() -> int:
    """The exit code: how many jobs did not hold, at most 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("n", nargs="?", type=int, default=20)
    parser.add_argument("seed", nargs="?", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    asked = parser.parse_args()
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    met: Counter[str] = Counter()
    ends: Counter[int] = Counter()
    broken = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ObjectStore(Path(folder) / "s3") as server:
        environment = server.environment(os.environ)
        del environment["AWS_ENDPOINT_URL"]
        os.environ.clear()
        os.environ.update(environment)
        short_silences(_put)
        media_apart(_put)
        job = FaultyJob(Path(folder), server)
        job.undisturbed  # noqa: B018 - made before anything fails
        with fault_proxy(server.endpoint_url) as proxy:
            for number in range(asked.n):
                if time.monotonic() - began > asked.seconds:
                    break
                chance = random.Random(f"{seed}-{number}")
                words = _set(proxy, job, chance)
                output = f"out-{number}"
                try:
                    outcome = job.run(proxy.endpoint_url, output)
                    met.update(k for k, fault in zip(words, proxy.faults, strict=True) if fault.met)
                    job.assert_bounded_and_true(outcome, output, LONGEST)
                    proxy.heal()
                    job.assert_healed(proxy.endpoint_url, output)
                    ends[outcome.exit_code] += 1
                except AssertionError:
                    broken += 1
                    print(f"{number}: BROKEN under {words}", flush=True)
                    traceback.print_exc()
                proxy.heal()
    tried = ends.total() + broken
    print("faults met: " + ", ".join(f"{kind} {n}" for kind, n in sorted(met.items())))
    print("exit codes: " + ", ".join(f"{code}: {n}" for code, n in sorted(ends.items())))
    print(f"seed {seed}: {ends.total()} of {tried} held ({time.monotonic() - began:.0f} s)")
    return min(100, broken)


def _set(proxy: FaultProxy, job: FaultyJob, chance: random.Random) -> list[str]:
    """Let some faults happen; their names."""
    words = []
    for _ in range(chance.randint(1, 4)):
        kind: Kind = chance.choice(KINDS)
        path = chance.choice(PATHS[kind.of])
        times = chance.choice([1, 2, 5, None])
        after = chance.choice([0, 1, 3, 10])
        method = "GET" if kind.of == LIST else kind.of
        proxy.fault(kind.make(job.direct), method=method, path=path, times=times, after=after)
        words.append(re.sub(r"\s+", " ", f"{kind.of} {kind.name}"))
    return words


def _put(place: Any, name: str, value: Any) -> None:
    if isinstance(place, dict):
        place[name] = value
    else:
        setattr(place, name, value)


if __name__ == "__main__":
    sys.exit(main())
