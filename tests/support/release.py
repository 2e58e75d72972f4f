"""A stand-in for Ego-Exo4D's release: manifests at its root, videos in a bucket per university."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PART_448 = "downscaled_takes/448"
# By camera, the streams and the files' names of an ordinary take.
CAMERAS: dict[str, dict[str, str]] = {
    "aria01": {"rgb": "aria01_214-1", "slam-left": "aria01_1201-1", "et": "aria01_211-1"},
    "cam01": {"0": "cam01"},
    "gp02": {"0": "gp02"},
}


@dataclass
class StandIn:
    """What the release says, to be changed before it is written.

    Attributes:
        takes, captures: as in `takes.json` and `captures.json`.
        manifests: by part.
        splits: as in `annotations/splits.json`; None for no such file.
    """

    takes: list[dict[str, Any]] = field(default_factory=list)
    captures: list[dict[str, Any]] = field(default_factory=list)
    manifests: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"takes": [], PART_448: []}
    )
    splits: dict[str, Any] | None = None

    def add(
        self,
        name: str,
        bucket: str,
        cameras: Mapping[str, Mapping[str, str]] = CAMERAS,
        size: Callable[[str], int | None] = lambda path: 1000,
        **fields: Any,
    ) -> dict[str, Any]:
        """A take whose videos lie in `bucket`; its entry in `takes.json`."""
        number = len(self.takes)
        uid, capture = f"uid-{name}", f"capture-{number // 2}"
        videos: dict[str, Any] = {}
        paths: dict[str, list[dict[str, Any]]] = {"takes": [], PART_448: []}
        for cam_id, streams in cameras.items():
            for stream, file in streams.items():
                videos.setdefault(cam_id, {})[stream] = {
                    "cam_id": cam_id, "stream_id": stream, "readable_stream_id": stream,
                    "relative_path": f"frame_aligned_videos/{file}.mp4", "is_collage": False,
                }  # fmt: skip
                ego = cam_id.lower().startswith("aria")
                for part, folder in (("takes", ""), (PART_448, "downscaled/448/")):
                    path = f"takes/{name}/frame_aligned_videos/{folder}{file}.mp4"
                    paths[part].append({
                        "source_path": f"s3://{bucket}/k/{number}/{part}/{len(paths[part])}",
                        "relative_path": path,
                        "views": [["ego" if ego else "exo"], None][part == PART_448],
                        "universities": None, "file_type": None, "checksum": None,
                        "size": size(path),
                    })  # fmt: skip
        entry = {
            "take_uid": uid, "take_name": name, "root_dir": f"takes/{name}",
            "capture_uid": capture, "duration_sec": 4.0, "task_name": "Making Tea",
            "parent_task_name": "Cooking", "university_name": bucket, "best_exo": "cam01",
            "is_narrated": True, "validated": True, "frame_aligned_videos": videos,
            "capture": {
                "capture_uid": capture, "capture_name": f"name of {capture}",
                "cameras": [
                    {"cam_id": cam, "is_ego": cam.lower().startswith("aria")} for cam in cameras
                ],
            },
            **fields,
        }  # fmt: skip
        self.takes.append(entry)
        self.captures.append(entry["capture"])
        for part, listed in paths.items():
            self.manifests[part].append(
                {"uid": uid, "paths": listed, "splits": ["train"], "benchmarks": ["keystep"]}
            )
        return entry

    def paths(self, part: str = "takes") -> list[dict[str, Any]]:
        """All paths of a part's manifest, to be changed in place."""
        return [path for entry in self.manifests[part] for path in entry["paths"]]

    def objects(self) -> dict[str, bytes]:
        """The files at the release's root."""
        files: dict[str, Any] = {"takes.json": self.takes, "captures.json": self.captures}
        for part, entries in self.manifests.items():
            files[f"{part}/manifest.json"] = entries
        if self.splits is not None:
            files["annotations/splits.json"] = self.splits
        return {name: json.dumps(value).encode() for name, value in files.items()}

    def write(self, root: Path) -> str:
        """Write the root's files into a folder; its path."""
        for name, data in self.objects().items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(root)


def full_size() -> StandIn:
    """As many takes and videos as the release has: 5,035 and 40,280, 40 MB of JSON."""
    aria = {"rgb": "a_214-1", "slam-left": "a_1201-1", "slam-right": "a_1201-2", "et": "a_211-1"}
    cameras = {"aria01": aria, **{f"cam0{n}": {"0": f"cam0{n}"} for n in range(1, 5)}}
    release = StandIn()
    for number in range(5035):
        release.add(f"university_task{number:04}_1", f"ego4d-{number % 12}", cameras)
        # About as long as the real ones.
        release.takes[-1]["objects"] = ["0123456789abcdef" * 2] * 60
    return release
