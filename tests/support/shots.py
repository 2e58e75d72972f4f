"""The shots of the film in TransNet V2's wheel, as a person sees them: where they end, and where.

Of every place where the network says that a shot ends, or where pictures change much, the frames
on both sides were looked at; and of every shot its middle.
"""

from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tests.support import transnet

# The last frame of each shot that the network finds (more likely than not) and a person sees.
FOUND = [
    1, 49, 60, 185, 198, 218, 235, 281, 300, 370, 434, 455, 572, 612, 664, 694, 723, 760, 776, 799,
    829, 864, 907, 942, 960, 989, 1012, 1057, 1091, 1107, 1200, 1278, 1339, 1388, 1426, 1484, 1518,
    1607, 1669, 1700, 1727, 1814, 1863, 1905, 1930, 1957, 1992, 2005, 2059, 2153, 2183, 2201, 2235,
    2251, 2286, 2326, 2348, 2392, 2413, 2451, 2534, 2566, 2605, 2752, 2768, 2818, 2868, 2915, 2995,
    3017, 3076, 3147, 3169, 3210, 3254, 3356, 3382, 3453, 3504, 3528, 3599, 3619, 3638, 3677, 3766,
    3830, 3989, 4033, 4142, 4228, 4291, 4382, 4412, 4441, 4461, 4474, 4515, 4566, 4598, 4666, 4738,
    4768, 4826, 4880, 4928, 4981, 5020, 5079,
]  # fmt: skip
# Of these it is not sure; a person sees them all the same.
UNSURE = [
    16, 23, 102, 131, 260, 1177, 1553, 2039, 2113, 2501, 2660, 2684, 2708, 2954, 2970, 3308, 3863,
    4310, 4321, 4337, 4366, 4719,
]  # fmt: skip
FRAMES, RATE = 5301, 25
# The last frames are black.
LAST = 5280
# Where a shot was filmed, by its number; close-ups that show no place are left out.
PLACES = {
    "a white studio": (
        1, 2, 5, 6, 7, 11, 12, 34, 35, 36, 41, 42, 52, 55, 56, 62, 64, 69, 70, 73, 75, 76, 94, 96,
        121, 122, 125, 127, 129,
    ),
    "arches at night": (
        8, 9, 10, 17, 26, 27, 28, *range(43, 49), *range(57, 62), 78, 79, 86, *range(97, 117), 123,
        126, 128, 130,
    ),
    "outside by day": (
        *range(13, 17), *range(18, 26), *range(29, 33), 77, 80, 81, 82, 84, 85, *range(87, 93),
    ),
    "a bar": (
        33, *range(37, 41), 49, 50, 51, 53, 54, 63, *range(65, 69), 71, 72, 93, 95,
        *range(117, 121), 124,
    ),
}  # fmt: skip


def film() -> Iterator[Any]:
    """Its frames, decoded by PyAV; skips the test where the wheel cannot be had."""
    _, path = transnet.files()
    with av.open(str(path)) as container:
        yield from container.decode(video=0)


def middles() -> list[tuple[int, str, NDArray[np.uint8]]]:
    """The number, the place and the middle frame of each shot that shows a place."""
    ends = [*sorted(FOUND + UNSURE), LAST]
    starts = [0, *(end + 1 for end in ends)]
    places = {number: place for place, numbers in PLACES.items() for number in numbers}
    wanted = {(starts[number] + ends[number]) // 2: number for number in places}
    return [
        (wanted[at], places[wanted[at]], frame.to_ndarray(format="rgb24"))
        for at, frame in enumerate(film())
        if at in wanted
    ]
