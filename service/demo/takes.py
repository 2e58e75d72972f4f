"""The takes of the example: which streams they have, and which part of which camera each shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

Size = tuple[int, int]
"""Width and height in pixels."""

Crop = tuple[float, float, float, float]
"""Left, top, width and height as parts of the whole picture."""

_WHOLE: Crop = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class View:
    """One stream of a take: what it is called and what it sees.

    Attributes:
        cam_id, stream, stream_id: As `takes.json` has them.
        camera: Whose pictures it shows, 1 … 4.
        crop: Which part of them.
        full, small: Sizes of its two files. Not of the crop's proportions: stretched.
        gray: Without colours.
        missing_frames: How many it is shorter than the take.
        every: Only one picture of so many is a picture, the others are black.
        faststart: The file's index is at its front.
        colors: With which its pictures are tagged.
        sound: Its file has some.
    """

    cam_id: str
    stream: str
    stream_id: str
    camera: int
    full: Size
    small: Size
    crop: Crop = _WHOLE
    gray: bool = False
    missing_frames: int = 0
    every: int = 1
    faststart: bool = False
    colors: Literal["bt709"] | None = None
    sound: bool = False

    @property
    def file_name(self) -> str:
        suffix = "" if self.stream == "0" else f"_{self.stream_id}"
        return f"{self.cam_id}{suffix}.mp4"

    @property
    def is_ego(self) -> bool:
        return self.cam_id.lower().startswith("aria")


@dataclass(frozen=True)
class Take:
    """One take: which original it is cut from, and what the data set's files say about it.

    Attributes:
        name: Of the take.
        original: One of `originals.ORIGINALS`.
        frames: How many its streams have.
        numbered: Its pictures carry their number.
        views: Its streams.
        university: Who made it.
        task: Its number and name; None where the data set has null.
        parent_task: Number and name of the task above.
        task_span: Seconds from when to when the task is done.
        best_exo: The camera that sees most.
        timesync_start: Row of the capture's `timesync.csv` before its first frame.
    """

    name: str
    original: str
    frames: int
    numbered: bool
    views: tuple[View, ...]
    university: str
    task: tuple[int, str] | None
    parent_task: tuple[int, str]
    task_span: tuple[float, float] | None
    best_exo: str | None
    timesync_start: int

    @property
    def capture_name(self) -> str:
        return self.name.rpartition("_")[0]


def video_path(take: Take, view: View, *, small: bool) -> str:
    """Where a file of a stream lies, from the root of the data set."""
    folder = f"takes/{take.name}/frame_aligned_videos"
    return f"{folder}/{'downscaled/448/' if small else ''}{view.file_name}"


def video_paths() -> Iterator[str]:
    """The path of every video file, from the root of the data set."""
    for take in TAKES:
        for view in take.views:
            yield video_path(take, view, small=False)
            yield video_path(take, view, small=True)


_rgb = partial(View, stream="rgb", stream_id="214-1", full=(540, 540), small=(448, 448), sound=True)
_slam = partial(View, stream="slam-left", stream_id="1201-1", gray=True)
# Both eyes beside each other, ten pictures a second among thirty.
_eyes = partial(
    View, stream="et", stream_id="211-1", full=(640, 240), small=(1194, 448), gray=True, every=3
)


def _gopro(cam_id: str, camera: int, **odd: Any) -> View:
    return View(
        cam_id,
        "0",
        "0",
        camera,
        full=(540, 960),
        small=(448, 796),
        colors="bt709",
        sound=True,
        **odd,
    )


TAKES = (
    Take(
        name="alpha_balance01_1",
        original="one_person",
        frames=199,
        numbered=True,
        views=(
            _rgb("Aria", camera=2, crop=(0.15, 0.1, 0.8, 0.45)),
            _slam("Aria", camera=3, crop=(0.1, 0.1, 0.9, 0.675), full=(480, 640), small=(448, 598)),
            _gopro("cam01", 1, faststart=True),
            _gopro("cam02", 2),
            _gopro("cam03", 3),
            _gopro("cam04", 4),
        ),
        university="alpha",
        task=(9001, "Keep One's Balance"),
        parent_task=(9000, "Dance"),
        task_span=(0.28, 5.9),
        best_exo="cam01",
        timesync_start=372,
    ),
    Take(
        name="beta_duet01_2",
        original="two_people",
        frames=187,
        numbered=False,
        views=(
            _rgb("aria01", camera=3, crop=(0.0, 0.15, 0.8, 0.45)),
            _slam(
                "aria01", camera=4, crop=(0.1, 0.1, 0.9, 0.675), full=(640, 480), small=(598, 448)
            ),
            _eyes("aria01", camera=1, crop=(0.2, 0.15, 0.5, 0.105)),
            _gopro("gp01", 1, faststart=True),
            _gopro("gp02", 2, missing_frames=1),
            _gopro("gp03", 3),
            _gopro("gp04", 4),
        ),
        university="beta",
        task=None,
        parent_task=(9100, "Dancing for Two"),
        task_span=None,
        best_exo=None,
        timesync_start=214,
    ),
)
