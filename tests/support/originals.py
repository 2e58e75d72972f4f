"""Makes the originals that the example data set is cut from, out of the package that has them.

    python -m tests.support.originals

The four cameras of two demonstrations of pose2sim (BSD-3-Clause): every picture, smaller. What it
writes is kept in `service/demo/cameras`, so nobody needs that package to see the example.
"""

from collections.abc import Iterator
from pathlib import Path

import av

from service.demo.footage import RgbFrame, encode_video, rgb_pixels
from service.demo.originals import CAMERAS, FOLDER, ORIGINALS, SIZE
from tests.support.packages import unpacked

REQUIREMENT = "pose2sim==0.10.49"
SHA256 = "403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1"
# Where the package has each original.
PACKAGED = {"one_person": "Demo_SinglePerson", "two_people": "Demo_MultiPerson"}


def packaged() -> dict[str, Path]:
    """The package's own files by the names of ours; skips the test where it cannot be had."""
    members = {
        f"{name}/cam{camera:02}.mp4": f"Pose2Sim/{PACKAGED[name]}/videos/cam{camera:02}.mp4"
        for name in ORIGINALS
        for camera in CAMERAS
    }
    folder = unpacked(REQUIREMENT, SHA256, *members.values())
    return {ours: folder / theirs for ours, theirs in members.items()}


def smaller(path: Path) -> Iterator[RgbFrame]:
    """All pictures of a file at the size of the originals; uint8 [H, W, 3]."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield rgb_pixels(frame.reformat(*SIZE, "rgb24", interpolation="AREA"))


def main() -> None:
    """Write all originals anew."""
    for name, path in packaged().items():
        encode_video(
            FOLDER / name, smaller(path), fps=60, colors="bt709", audio=False,
            crf=25, preset="veryslow", threads=1,
        )  # fmt: skip


if __name__ == "__main__":
    main()
