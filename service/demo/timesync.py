"""`captures/<capture>/timesync.csv` of the example: which frame of each camera is which moment.

A row is a moment of the capture, 30 a second. Values are empty where a camera has none: before it
was switched on, where it dropped a frame, and two of three times for eye cameras.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

from service.demo.scenes import FPS
from service.demo.takes import Take, View

# Seconds of the first row by the cameras' common clock, and by Aria's own.
_GLOBAL_START, _DEVICE_START = 1_700_000_000, 4_000
# The GoPros' own files: 60 pictures a second, in units of 1/15360 s.
_RAW_FPS, _RAW_TICKS = 60, 15_360
# Every such row is a frame that the third GoPro dropped.
_DROPPED = 97
# How many rows later than the one before it each camera was switched on.
_LATER = 12
# Rows after the take's last.
_AFTER = 40


def timesync(take: Take) -> str:
    """The file of a take's capture, as CSV; the take's first frame is row `timesync_start` + 1."""
    columns = [name for view in take.views for name in _names(view)]
    file = io.StringIO()
    rows = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    rows.writeheader()
    for row in range(take.timesync_start + take.frames + 1 + _AFTER):
        cells: dict[str, Any] = {}
        for place, view in enumerate(take.views):
            if row >= _LATER * place and _there(take, view, row):
                cells |= zip(_names(view), _values(view, row, _LATER * place), strict=True)
        rows.writerow(cells)
    return file.getvalue()


def _there(take: Take, view: View, row: int) -> bool:
    dropped = view.camera == 3 and not view.is_ego and row % _DROPPED == 0
    return not dropped and (row - take.timesync_start - 1) % view.every == 0


def _names(view: View) -> Iterator[str]:
    prefix = f"{view.cam_id}_{view.stream_id}" if view.is_ego else view.cam_id
    yield f"{prefix}_{'capture_timestamp_ns' if view.is_ego else 'pts'}"
    yield f"{prefix}_frame_number"
    yield f"{prefix}_global_time"


def _values(view: View, row: int, first: int) -> Iterator[str | int]:
    # Up to 0.1 ms off the even time, as clocks are.
    off = (row * 7919 % 2001 - 1000) * 100
    if view.is_ego:
        yield _DEVICE_START * 10**9 + row * 10**9 // FPS + off
        yield (row - first) // view.every
    else:
        number = (row - first) * _RAW_FPS // FPS
        yield number * _RAW_TICKS // _RAW_FPS
        yield number
    yield f"{_GLOBAL_START + row / FPS + off * 1e-9:.6f}"
