"""Made-up stores of a take: layout, units, and filling them."""

import itertools

import numpy as np

from takestream.schema import Reason
from workers.store.layout import StoreLayout
from workers.store.objects import Objects

STREAMS = ("aria01_rgb", "aria01_slam-left", "cam01_0")
NUMBERS = itertools.count()


def make_layout(streams=STREAMS, clips=23, unit=8, dim=5, dtype="float16", **attributes):
    start = np.arange(clips, dtype=np.int64) * 16
    grid = {"window": 32, "stride": 16, "tail": "drop", "fps": 30}
    return StoreLayout(
        streams=tuple(streams),
        dim=dim,
        dtype=dtype,
        unit_clips=unit,
        start_frame=start,
        stop_frame=start + 32,
        start_time=start / 30,
        end_time=(start + 32) / 30,
        attributes={"take": {"uid": "take-1"}, "grid": grid, **attributes},
    )


def unit_of(store, stream, start, seed=0):
    """Made-up values of one unit, the same for the same arguments."""
    n = min(store.unit_clips, store.clips - start)
    rng = np.random.default_rng([seed, start, *stream.encode()])
    valid = rng.random(n) < 0.8
    return {
        "features": rng.normal(size=(n, store.dim)).astype(np.float32),
        "valid": valid,
        "frame_time": np.where(valid, (start + np.arange(n)) / 2, np.nan),
        "reason": np.where(valid, 0, int(Reason.DAMAGED_FRAME)).astype(np.uint8),
    }


def fill(store, streams=None, seed=0):
    for gap in store.missing(streams):
        for stream in gap.streams:
            store.write(stream, gap.start, **unit_of(store, stream, gap.start, seed))


def die_after(writes, patch, error=KeyboardInterrupt):
    """Interrupt whoever writes more objects than that.

    In a thread of zarr's own a KeyboardInterrupt would end its event loop: it takes another error.
    """
    count = itertools.count()

    def dying(write):
        def written(self, key, data):
            if next(count) >= writes:
                raise error
            return write(self, key, data)

        return written

    for name in ("put", "put_new"):
        patch.setattr(Objects, name, dying(getattr(Objects, name)))
