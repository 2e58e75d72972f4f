"""Which of the listed packets can be where the index says: no byte belongs to two of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.media.places import rising

# No camera makes a packet of this size.
ABSURD = 128 * 1024 * 1024


def consistent(
    position: NDArray[np.int64], size: NDArray[np.int64], key: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which packets overlap no other, or are the ones to believe of those that do.

    Packets that an edit list shows again are listed again, a group at a time; of any other two
    that share bytes, the one out of the order of the rest is wrong.

    Args:
        position: int64 [packets] in bytes, in decode order.
        size: int64 [packets] in bytes.
        key: bool [packets].

    Returns:
        bool [packets].
    """
    good = np.ones(len(position), dtype=bool)
    if (position[:-1] + size[:-1] <= position[1:]).all():
        return good
    seen: dict[tuple[int, int], int] = {}
    again = -1
    for number, span in enumerate(zip(position.tolist(), size.tolist(), strict=True)):
        before = seen.setdefault(span, number)
        if before == number:
            again = -1
        elif key[number] or before == again + 1:
            again = before
        else:
            good[number] = False
            again = -1
    once = np.array(sorted(seen.values()), dtype=np.int64)
    in_place = np.argsort(position[once], kind="stable")
    begin, end = position[once][in_place], (position + size)[once][in_place]
    reach = np.maximum.accumulate(end)
    shared = np.zeros(len(once), dtype=bool)
    shared[1:] |= begin[1:] < reach[:-1]
    shared[:-1] |= begin[1:] < end[:-1]
    if not shared.any():
        return good
    ordered = np.zeros(len(once), dtype=bool)
    ordered[rising(position[once], np.ones(len(once), dtype=bool))] = True
    wrong = np.zeros(len(once), dtype=bool)
    wrong[in_place[shared]] = True
    good[once[wrong & ~ordered]] = False
    return good
