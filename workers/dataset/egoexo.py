"""`takes.json` into takes and streams, by the data set's own words.

Layout and fields: https://docs.ego-exo4d-data.org/data/metadata and …/data/takes.
"""

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from configs.schema import Resolution
from takestream.storage import S3Options, join
from workers.dataset.base import object_sizes
from workers.dataset.jsonlist import json_entries
from workers.dataset.manifests import find_manifest
from workers.dataset.regions import Reach
from workers.dataset.release import SCHEME, Mirror, measured, placed, release_root
from workers.dataset.splits import with_splits
from workers.dataset.take import DatasetError, Stream, Take, is_plain_name
from workers.media.source import ObjectIdentity, Source

# Entries of `frame_aligned_videos` that are made from cameras and are none.
NOT_CAMERAS = frozenset({"collage", "best_exo"})


class EgoExo:
    """A data set of Ego-Exo4D: the release itself, or what the `egoexo` downloader wrote of it.

    Both have `takes.json` at their root. A release also has manifests, which say where each video
    is; a mirror has none, and its videos lie where `takes.json` says.

    Args:
        uri: the root, or `egoexo://v2` for the official release.
        resolution: `full`, or `448` for the downscaled videos.
        s3: how to reach it.
        mirror: of a release, a partial copy whose whole files are read instead.
        buckets: how to reach some buckets, by patterns of their names.
        annotated: read `annotations/splits.json` too.
    """

    def __init__(
        self,
        uri: str,
        resolution: Resolution = "full",
        s3: S3Options | None = None,
        *,
        mirror: str | None = None,
        buckets: Mapping[str, S3Options] | None = None,
        annotated: bool = False,
    ) -> None:
        self._official = uri.startswith(SCHEME)
        self._uri, self._resolution = release_root(uri), resolution
        self._mirror, self._annotated = mirror, annotated
        self._reach = Reach(self._uri, s3 or S3Options(), buckets or {})
        self._notes: tuple[str, ...] = ()

    def identity(self) -> ObjectIdentity:
        """As `Dataset.identity` says."""
        return Source(join(self._uri, "takes.json"), self._reach(self._uri)).identity()

    def takes(self) -> list[Take]:
        """As `Dataset.takes` says."""
        s3 = self._reach(self._uri)
        manifest = find_manifest(self._uri, self._resolution, s3, needed=self._official)
        takes = read_takes(self._uri, self._resolution, s3)
        odd: list[str] = []
        if manifest is not None:
            mirror = Mirror(self._mirror, self._reach(self._mirror)) if self._mirror else None
            takes = placed(takes, self._uri, manifest, mirror)
            odd = manifest.odd
        elif self._mirror:
            raise DatasetError(
                f"{self._uri}: it has no manifests, so it is no release that a mirror could be"
                " laid over; leave --mirror out"
            )
        if self._annotated:
            takes = with_splits(takes, self._uri, s3, released=manifest is not None)
        self._notes = tuple(odd)
        return takes

    def notes(self) -> tuple[str, ...]:
        """As `Dataset.notes` says."""
        return self._notes

    def sizes(self, takes: Sequence[Take]) -> dict[str, int | None]:
        """As `Dataset.sizes` says: of a release from its manifest, else one listing per folder."""
        streams = [stream for take in takes for stream in take.streams if stream.uri]
        known = {str(s.uri): s.size for s in streams if s.size is not None}
        if known or any(not str(s.uri).startswith(self._uri) for s in streams):
            unknown = [stream for stream in streams if stream.size is None]
            return {**known, **dict(measured(unknown, self._reach))}
        return object_sizes(takes, self._reach(self._uri))

    def where(self, stream: Stream) -> tuple[str, S3Options]:
        """As `Dataset.where` says."""
        assert stream.uri is not None
        return stream.uri, self._reach(stream.uri)


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
        data = source.read(0, size) if size else b""
    except FileNotFoundError:
        raise DatasetError(
            f"{uri}: no such object; --dataset is the folder that holds takes.json. The downloader"
            " writes it with --parts metadata, and not where --uids chooses takes alone"
        ) from None
    takes = []
    try:
        for number, entry in enumerate(json_entries(data, "takes")):
            if not isinstance(entry, dict):
                raise DatasetError(f"{uri}: expected a JSON list of takes; entry {number} is none")
            takes.append(_take(dataset, entry, resolution, number, uri))
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{uri}: {error}") from error
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
                    camera_kind=camera_kind(cam_id, name),
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
        capture_uid=_text(entry.get("capture_uid")) or _text(capture.get("capture_uid")),
        parent_task=_text(entry.get("parent_task_name")),
        best_exo=_text(entry.get("best_exo")),
        narrated=_flag(entry.get("is_narrated")),
        validated=_flag(entry.get("validated")),
    )


def camera_kind(cam_id: str, name: str) -> str:
    """What sort of picture a stream holds, by the data set's names; `other` for none of them."""
    if name == "rgb" or name == "et":
        return name
    if name.startswith("slam"):
        return "slam"
    return "gopro" if cam_id.lower().startswith(("cam", "gp", "gopro")) else "other"


def _flag(value: Any) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())


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
