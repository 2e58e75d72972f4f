"""`takes.json` into takes and streams, by the data set's own words.

Layout and fields: https://docs.ego-exo4d-data.org/data/metadata and …/data/takes.
"""

import json
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from configs.schema import Resolution
from takestream.storage import S3Options, join
from workers.dataset.base import object_sizes
from workers.dataset.take import DatasetError, Stream, Take, is_plain_name
from workers.media.source import ObjectIdentity, Source

# Entries of `frame_aligned_videos` that are made from cameras and are none.
NOT_CAMERAS = frozenset({"collage", "best_exo"})


class EgoExo:
    """A data set in the layout that the `egoexo` downloader writes: `takes.json` at its root.

    Args:
        uri: the root.
        resolution: `full`, or `448` for the downscaled videos.
        s3: how to reach it.
    """

    def __init__(
        self, uri: str, resolution: Resolution = "full", s3: S3Options | None = None
    ) -> None:
        self._uri, self._resolution, self._s3 = uri, resolution, s3 or S3Options()

    def identity(self) -> ObjectIdentity:
        """As `Dataset.identity` says."""
        return Source(join(self._uri, "takes.json"), self._s3).identity()

    def takes(self) -> list[Take]:
        """As `Dataset.takes` says."""
        return read_takes(self._uri, self._resolution, self._s3)

    def sizes(self, takes: Sequence[Take]) -> dict[str, int | None]:
        """As `Dataset.sizes` says: one listing for each folder."""
        return object_sizes(takes, self._s3)

    def where(self, stream: Stream) -> tuple[str, S3Options]:
        """As `Dataset.where` says."""
        assert stream.uri is not None
        return stream.uri, self._s3


def read_takes(
    dataset: str, resolution: Resolution = "full", s3: S3Options | None = None
) -> list[Take]:
    """All takes of the data set at `dataset`, in the order of its `takes.json`.

    Raises DatasetError when `takes.json` is absent or not a list of takes, StorageError when the
    storage cannot be read.
    """
    uri = join(dataset, "takes.json")
    try:
        source = Source(uri, s3)
        size = source.identity().size
        entries = json.loads(source.read(0, size) if size else b"")
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{uri}: not valid JSON ({error})") from error
    except FileNotFoundError:
        raise DatasetError(
            f"{uri}: no such object; --dataset is the folder that holds takes.json"
        ) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetError(f"{uri}: expected a JSON list of takes")
    takes = [_take(dataset, entry, resolution, i, uri) for i, entry in enumerate(entries)]
    doubles = [uid for uid, count in Counter(take.uid for take in takes).items() if count > 1]
    if doubles:
        raise DatasetError(f"{uri}: take_uid {min(doubles)} stands there more than once")
    return takes


def _take(
    dataset: str, entry: Mapping[str, Any], resolution: Resolution, index: int, uri: str
) -> Take:
    uid = entry.get("take_uid")
    if not isinstance(uid, str) or not is_plain_name(uid):
        raise DatasetError(f"{uri}: take {index} has no usable take_uid (found {uid!r})")
    try:
        return _documented_take(dataset, entry, resolution, uid)
    except (AttributeError, TypeError) as error:
        raise DatasetError(f"{uri}: take {uid} is not as documented ({error})") from error


def _documented_take(
    dataset: str, entry: Mapping[str, Any], resolution: Resolution, uid: str
) -> Take:
    capture = entry.get("capture") or {}
    cameras = {
        camera.get("cam_id"): camera.get("is_ego")
        for camera in capture.get("cameras") or ()
        if isinstance(camera, dict)
    }
    videos = entry.get("frame_aligned_videos") or {}
    root_dir = entry.get("root_dir") or join("takes", str(entry.get("take_name") or uid))
    streams = []
    for cam_id, by_name in videos.items():
        if cam_id in NOT_CAMERAS:
            continue
        for name, video in (by_name or {}).items():
            video = video or {}
            if video.get("is_collage"):
                continue
            relative = video.get("relative_path")
            ego = cameras.get(cam_id)
            streams.append(
                Stream(
                    key=f"{cam_id}_{name}",
                    cam_id=cam_id,
                    name=name,
                    uri=_video_uri(dataset, root_dir, relative, resolution, uid),
                    # Some releases write the flag as text.
                    is_ego=(
                        cam_id.lower().startswith("aria")
                        if ego is None
                        else str(ego).lower() == "true"
                    ),
                )
            )
    duration = entry.get("duration_sec")
    return Take(
        uid=uid,
        name=str(entry.get("take_name") or uid),
        task=_text(entry.get("task_name")) or _text(entry.get("parent_task_name")),
        university=_text(entry.get("university_name")),
        capture=_text(capture.get("capture_name")),
        duration=float(duration) if isinstance(duration, int | float) and duration >= 0 else None,
        streams=tuple(streams),
    )


def _video_uri(
    dataset: str, root_dir: str, relative: str | None, resolution: Resolution, uid: str
) -> str | None:
    if not relative:
        return None
    if resolution == "448":
        folder, name = posixpath.split(relative)
        relative = posixpath.join(folder, "downscaled", "448", name)
    path = posixpath.join(root_dir, relative)
    # takes.json may come from anywhere: it must not reach outside its own data set.
    # (`::` makes fsspec open several storages on top of each other.)
    if posixpath.isabs(path) or ".." in path.split("/") or "://" in path or "::" in path:
        raise DatasetError(f"take {uid}: the path {path!r} leaves the data set")
    return join(dataset, posixpath.normpath(path))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
