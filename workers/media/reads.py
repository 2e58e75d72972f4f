"""Which packets are fetched by one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Spans closer than this are fetched together: audio lies between the video packets.
GAP = 64 * 1024
FIRST_READ = 512 * 1024
FULL_READ = 4 * 1024 * 1024


def plan_reads(position: Sequence[int] | NDArray[np.int64], size: Any) -> list[tuple[int, int]]:
    """Packets `[a, b)` to fetch by one request each, in decode order.

    Neighbours at most `GAP` bytes apart go together, up to a read size that doubles from
    `FIRST_READ` to `FULL_READ`, so that the first frame comes soon and the rest at full speed.
    """
    reads: list[tuple[int, int]] = []
    limit = FIRST_READ
    a = 0
    for b in range(1, len(position) + 1):
        if b < len(position):
            end = int(position[b - 1]) + int(size[b - 1])
            near = end <= int(position[b]) <= end + GAP
            if near and int(position[b]) + int(size[b]) - int(position[a]) <= limit:
                continue
        reads.append((a, b))
        a, limit = b, min(2 * limit, FULL_READ)
    return reads
