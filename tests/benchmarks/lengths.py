"""Takes as many and as long as those of Ego-Exo4D: made up, but their sums are the data set's."""

import numpy as np

from workers.dataset.take import Stream, Take

# What the data set says of itself: takes, hours of takes, hours of video.
TAKES, TAKE_HOURS, VIDEO_HOURS = 5035, 221.0, 1286.0
# Its takes last up to 42 minutes. How they are spread is not published: assumed are log-normal
# lengths, with about half of the takes under 90 s.
SHORTEST, LONGEST, SIGMA = 8.0, 42 * 60.0, 1.1
# One worn camera and some that stand around.
FEWEST, MOST = 4, 7


def release_takes(seed: int = 0) -> list[Take]:
    """Takes without videos, in no particular order of length."""
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(0, SIGMA, TAKES)
    for _ in range(50):  # what is cut off at the longest, the others get
        lengths *= TAKE_HOURS * 3600 / lengths.sum()
        lengths = lengths.clip(SHORTEST, LONGEST)
    return [
        Take(f"uid-{n}", f"take {n}", None, None, None, float(seconds), _streams(int(count)))
        for n, (seconds, count) in enumerate(zip(lengths, _cameras(lengths, rng), strict=True))
    ]


def _cameras(
    lengths: "np.ndarray[tuple[int], np.dtype[np.float64]]", rng: np.random.Generator
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Cameras of each take, so that all videos together are as long as the data set's."""
    counts = rng.integers(FEWEST, MOST + 1, TAKES)
    for take in rng.permutation(TAKES).tolist() * 3:
        missing = VIDEO_HOURS * 3600 - float(lengths @ counts)
        if abs(missing) < SHORTEST:
            break
        step = 1 if missing > 0 else -1
        if lengths[take] <= 2 * abs(missing) and FEWEST <= counts[take] + step <= MOST:
            counts[take] += step
    return counts


def _streams(count: int) -> tuple[Stream, ...]:
    cameras = [("aria01", "rgb"), *((f"cam{n:02}", "0") for n in range(1, count))]
    return tuple(
        Stream(f"{camera}_{name}", camera, name, None, name == "rgb") for camera, name in cameras
    )
