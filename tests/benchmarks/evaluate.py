"""`takestream evaluate` on a made-up output of full size: seconds, CPU, and memory at its peak.

    python -m tests.benchmarks.evaluate --takes 5035 --streams 6 --dim 1280

Takes have three labelled segments each. The stores are copies of one with other features.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from tests.support.feature_stores import ENCODER_ID, facts_of, feature_store

CLIPS, CLASSES, SEGMENTS = 12, 50, 3


def make(output: Path, takes: int, streams: int, dim: int) -> Path:
    """Write the stores, and a CSV of their segments; the path of that."""
    random = np.random.default_rng(0)
    names = ["aria01_rgb", *(f"cam{number:02}_0" for number in range(1, streams))]
    means = random.normal(size=(CLASSES, dim)).astype(np.float32)
    first = output / ENCODER_ID / "t0.zarr"
    feature_store(str(output), facts_of("t0"), np.zeros((CLIPS, streams, dim)), names)
    lines = ["take,start,end,label"]
    for number in range(takes):
        uid, store = f"t{number}", output / ENCODER_ID / f"t{number}.zarr"
        if number:
            shutil.copytree(first, store)
        root = json.loads((store / "zarr.json").read_text())
        facts = facts_of(uid, participant_uid=f"p{number % 740}", parent_task_name=str(number % 8))
        root["attributes"]["take"] = facts
        (store / "zarr.json").write_text(json.dumps(root))
        features = random.normal(size=(CLIPS, streams, dim)).astype(np.float32)
        each = CLIPS // SEGMENTS
        for place in range(SEGMENTS):
            label = int(random.integers(CLASSES))
            features[place * each : (place + 1) * each] += means[label] * 0.1
            lines.append(f"{uid},{place * each},{(place + 1) * each},{label}")
        zarr.open_array(store / "features", mode="r+")[:] = features
    labels = output / "segments.csv"
    labels.write_text("\n".join(lines))
    return labels


def main() -> None:
    """Make the output, judge it in a process of its own, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--takes", type=int, default=5035)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--keep", type=Path, help="where the output is, or is made and kept")
    found = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        output = found.keep or Path(scratch)
        labels = output / "segments.csv"
        if not labels.exists():
            make(output, found.takes, found.streams, found.dim)
        command = ["evaluate", str(output / ENCODER_ID), "--labels", str(labels)]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "takestream", *command], capture_output=True, text=True
        )
        wall = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout or done.stderr)
    print(
        f"{found.takes} takes x {found.streams} streams x {found.dim}, {SEGMENTS} segments each:"
        f" {wall:.0f} s, {used.ru_utime + used.ru_stime:.0f} s CPU,"
        f" {used.ru_maxrss / 2**20:.2f} GiB (goal: 180 s, 2 GiB)"
    )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
