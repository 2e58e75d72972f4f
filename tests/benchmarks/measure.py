"""What the benchmarks share: the take, the clock, the lines they print."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from service.demo.footage import encode_video

STREAMS, FRAMES, SIZE, CRF = 4, 900, (448, 796), 10


def make_take(folder: Path, streams: int = STREAMS) -> list[Path]:
    """A data set of one take; its videos."""
    rng = np.random.default_rng(0)
    base = np.kron(rng.integers(0, 255, (56, 100, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    grain = rng.integers(0, 8, (8, *SIZE, 1), dtype=np.uint8)
    videos = []
    for stream in range(streams):
        path = folder / "takes" / "bench" / f"cam{stream:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures = (
            np.roll(base, (2 * n, n + stream), axis=(1, 0))[: SIZE[0], : SIZE[1]] ^ grain[n % 8]
            for n in range(FRAMES)
        )
        # As many bits as the data set's own 448 px videos have, about 330 kB a second.
        encode_video(path, pictures, audio=True, faststart=bool(stream % 2), crf=CRF)
        videos.append(path)
    entry = {
        "take_uid": "bench",
        "take_name": "bench",
        "root_dir": "takes/bench",
        "frame_aligned_videos": {p.stem: {"0": {"relative_path": p.name}} for p in videos},
    }
    (folder / "takes.json").write_text(json.dumps([entry]))
    return videos


def in_threads(work: Sequence[Callable[[], None]]) -> None:
    """Run all at once."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(what: str, ratio: float, goal: str) -> None:
    """One line of the result."""
    print(f"{what:<78} {ratio:7.3f}   goal {goal}", flush=True)
