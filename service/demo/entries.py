"""`takes.json`, `captures.json` and `participants.json` of the example, with Ego-Exo4D's fields."""

import json
import uuid
from typing import Any

from service.demo.originals import LICENCE
from service.demo.scenes import FPS
from service.demo.takes import Take

# A part of every uid. Raise it when the pictures change: an example that was made before then has
# other uids, and is replaced.
_RECIPE = 3


def is_ours(found: Any) -> bool:
    """Whether an element of some `takes.json` is of this example, or of one before it."""
    try:
        known = {_uid(found["take_name"], recipe=n) for n in range(1, _RECIPE + 1)}
        return found["take_uid"] in known
    except (TypeError, KeyError):
        return False


def _uid(*parts: str, recipe: int = _RECIPE) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(["takestream", str(recipe), *parts])))


def entry(index: int, take: Take) -> dict[str, Any]:
    """One element of ``takes.json``, with the fields that Ego-Exo4D documents."""
    capture_name = take.capture_name
    span, task = take.task_span or (None, None), take.task or (None, None)
    return {
        "root_dir": f"takes/{take.name}",
        "take_name": take.name,
        "participant_uid": 657 + index,
        "is_dropped": False,
        "objects": [],
        "best_exo": take.best_exo,
        "task_start_sec": span[0],
        "task_end_sec": span[1],
        "task_id": task[0],
        "task_name": task[1],
        "parent_task_id": take.parent_task[0],
        "parent_task_name": take.parent_task[1],
        "take_idx": index + 1,
        # As in the real data set: one frame more than its videos have.
        "duration_sec": (take.frames + 1) / FPS,
        "is_narrated": True,
        "physical_setting_uid": 97 + index,
        "timesync_start_idx": take.timesync_start,
        "timesync_end_idx": take.timesync_start + take.frames + 1,
        "capture": capture(index, take),
        "task_timing_annotation_uid": _uid(take.name, "task") if take.task_span else None,
        "university_id": take.university,
        # None of it is in the example.
        "has_trimmed_vrs": False,
        "vrs_relative_path": None,
        "vrs_all_streams_relative_path": None,
        "has_trimmed_trajectory": False,
        "trimmed_trajectory_relative_path": None,
        "has_trimmed_eye_gaze": False,
        "validated": True,
        "frame_aligned_videos": _frame_aligned(take),
        "university_name": take.university,
        "capture_uid": _uid(capture_name),
        "take_uid": _uid(take.name),
        "take_timing_uid": _uid(take.name, "timing"),
        "timesync_uid": _uid(capture_name, "timesync"),
        # Not among the fields that Ego-Exo4D documents: that footage has a licence of its own.
        "licence": LICENCE.facts(),
    }


def capture(index: int, take: Take) -> dict[str, Any]:
    """The take's capture: an element of `captures.json`, and part of that of `takes.json`."""
    return {
        "root_dir": f"captures/{take.capture_name}",
        "capture_name": take.capture_name,
        "capture_uid": _uid(take.capture_name),
        "university_name": take.university,
        "university_id": take.university,
        "physical_setting_uid": 97 + index,
        "timesync_validated": True,
        "cameras": _cameras(take),
    }


def participant(index: int, take: Take) -> dict[str, Any]:
    """An element of `participants.json`; its `metadata` is JSON in a text, as in the data set."""
    metadata = {"recording_location": take.university, "is_expert": index == 0}
    return {"participant_uid": 657 + index, "metadata": json.dumps(metadata)}


def _cameras(take: Take) -> list[dict[str, Any]]:
    cameras: dict[str, dict[str, Any]] = {}
    for view in take.views:
        cameras[view.cam_id] = {
            "cam_id": view.cam_id,
            "name": view.cam_id,
            "is_ego": view.is_ego,
            "has_walkaround": view.is_ego,
            "includes_audio": True,
            "video_artifact_uid": _uid(take.capture_name, view.cam_id),
            "device_type": "aria" if view.is_ego else "hero10",
            "device_id": None,
            "relative_path": f"videos/{view.cam_id}.{'vrs' if view.is_ego else 'mp4'}",
        }
    return list(cameras.values())


def _frame_aligned(take: Take) -> dict[str, dict[str, Any]]:
    videos: dict[str, dict[str, Any]] = {}
    for view in take.views:
        videos.setdefault(view.cam_id, {})[view.stream] = {
            "cam_id": view.cam_id,
            "stream_id": view.stream_id,
            "readable_stream_id": view.stream,
            "clip_uid": _uid(take.name, view.cam_id, view.stream),
            "relative_path": f"frame_aligned_videos/{view.file_name}",
            "is_collage": False,
        }
    # The real catalogue lists these two among the cameras; they are previews, and often null.
    for name, path in (("collage", "ego_preview.mp4"), ("best_exo", None)):
        videos[name] = {
            "0": {
                **({} if name == "collage" else {"cam_id": name}),
                "stream_id": "0",
                "readable_stream_id": "0",
                "clip_uid": _uid(take.name, name) if path else None,
                "relative_path": path,
                "is_collage": name == "collage",
            }
        }
    return videos
