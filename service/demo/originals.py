"""The originals that the example is cut from: one scene before four synchronised cameras, twice.

They come from the package pose2sim (BSD-3-Clause, its notice lies beside them), scaled down by
`tests/support/originals.py`. The cameras stand around the scene, so a movement is seen from four
sides; they are upright (portrait) and ran at 60 pictures a second.
"""

from collections.abc import Iterator
from pathlib import Path

import av

from service.demo.footage import RgbFrame, rgb_pixels
from takestream.licence import Licence

FOLDER = Path(__file__).parent / "cameras"
ORIGINALS = ("one_person", "two_people")
CAMERAS = (1, 2, 3, 4)
PICTURES = 100
SIZE = (540, 960)
"""Width and height in pixels."""

LICENCE = Licence(
    "BSD-3-Clause (package pose2sim, © 2022 perfanalytics)",
    "https://github.com/perfanalytics/pose2sim/blob/main/LICENSE",
)


def original(name: str, camera: int) -> Path:
    """Where the file of one camera lies.

    Args:
        name: One of `ORIGINALS`.
        camera: 1 … 4.
    """
    return FOLDER / name / f"cam{camera:02}.mp4"


def pictures(name: str, camera: int) -> Iterator[RgbFrame]:
    """All pictures of one camera, uint8 [H, W, 3]; `PICTURES` of size `SIZE`.

    Args:
        name: One of `ORIGINALS`.
        camera: 1 … 4.
    """
    with av.open(str(original(name, camera))) as container:
        for frame in container.decode(video=0):
            yield rgb_pixels(frame)


def shown(number: int) -> int:
    """Which picture frame `number` of a take shows: the original goes forth and back."""
    last = PICTURES - 1
    return last - abs(number % (2 * last) - last)
