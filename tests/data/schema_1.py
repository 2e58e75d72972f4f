"""Writes the stores in `tests/data/schema-1`: one partial, one complete.

They were written by commit 059d0d3, the last one before the store's arrays became a table. The
classes are arguments, so that code of any age can be given; the stores of the present code must
equal those files byte for byte.
"""

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "schema-1" / "tiny-0123456789"
STREAMS = ("aria01_rgb", "cam01_0")
CLIPS, UNIT, CHUNK, DIM = 40, 16, 8, 32768
# The unit that the partial store lacks.
LACKING = ("cam01_0", 16)


def layout(layout_class: Any, streams: tuple[str, ...] = STREAMS) -> Any:
    """The layout of both stores: 3 units of 16 clips, 5 chunks of features per stream."""
    start = np.arange(CLIPS, dtype=np.int64) * 16
    start[-1] -= 5
    return layout_class(
        streams=streams,
        dim=DIM,
        dtype="float16",
        unit_clips=UNIT,
        start_frame=start,
        stop_frame=start + 32,
        start_time=start / 30.0,
        end_time=(start + 32) / 30.0,
        attributes={
            "take": {
                "take_uid": "uid-1",
                "take_name": "cmu_bike01_2",
                "task_name": "Fix a Flat Tire",
                "university_name": "cmu",
                "capture_name": "cmu_bike01",
            },
            "grid": {
                "fps": 30.0,
                "window": 32,
                "stride": 16,
                "tail": "backpad",
                "fps_fraction": "30",
                "take_fps_fraction": "30",
                "frames": 651,
                "clips": CLIPS,
                "padded": False,
            },
            "encoder": {"name": "tiny", "dim": DIM, "encoder_id": "tiny-0123456789"},
            "provenance": {
                "streams": {name: _facts(name) for name in streams},
                "resolution": "448",
                "rotate": {},
                "versions": {"takestream": "0.1.0", "zarr": "3.1.6"},
                "git_commit": "059d0d3",
            },
            "problems": {"cam01_0": ["its clock is 0.7 frames late"]},
        },
    )


def _facts(stream: str) -> dict[str, Any]:
    return {
        "cam_id": stream.partition("_")[0],
        "is_ego": stream.startswith("aria"),
        "uri": f"s3://mirror/takes/cmu_bike01_2/{stream}.mp4",
        "size": 1000 + len(stream),
        "etag": f"etag-{stream}",
        "frames": 651,
        "rate": "30",
        "codec": "h264",
        "width": 448,
        "height": 448,
    }


def unit(stream: str, start: int) -> dict[str, Any]:
    """What is written for one unit: every third clip past the end, vectors of one number each."""
    clips = np.arange(start, min(start + UNIT, CLIPS))
    valid = clips % 3 != 2
    values = clips / 8 + len(stream)
    return {
        "features": np.repeat(values[:, None], DIM, axis=1).astype(np.float32),
        "valid": valid,
        "frame_time": np.where(valid, clips * 16 / 30, np.nan),
        "reason": np.where(valid, 0, 4).astype(np.uint8),
    }


def write(folder: Path, layout_class: Any, store_class: Any) -> None:
    """Write both stores into `folder`."""
    for name, lacking in (("partial", LACKING), ("complete", None)):
        store = store_class.create(f"{folder}/{name}.zarr", layout(layout_class))
        for stream in STREAMS:
            for start in range(0, CLIPS, UNIT):
                if (stream, start) != lacking:
                    store.write(stream, start, **unit(stream, start))
        store.finish()
