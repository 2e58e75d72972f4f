"""`takes.json` into takes and streams, by the data set's own words.

Layout and fields: https://docs.ego-exo4d-data.org/data/metadata and …/data/takes.
"""

import fnmatch
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from configs.load import did_you_mean
from configs.schema import Resolution, Selection
from takestream.storage import S3Options, join, open_filesystem
from workers.source import Source, translated

# Entries of `frame_aligned_videos` that are made from cameras and are none.
NOT_CAMERAS = frozenset({"collage", "best_exo"})


class DatasetError(ValueError):
    """The data set or the selection cannot be used; the message says why and what to do next."""


@dataclass(frozen=True)
class Stream:
    """One camera image stream of a take.

    key: `<cam_id>_<stream>`, as the official features name it.
    uri: its video object, or none when the data set lists the stream without a file.
    is_ego: from `capture.cameras`; by the camera's name where the capture does not say.
    """

    key: str
    cam_id: str
    name: str
    uri: str | None
    is_ego: bool


@dataclass(frozen=True)
class Take:
    """One activity seen by several cameras. Every word but uid and name may be missing (None)."""

    uid: str
    name: str
    task: str | None
    university: str | None
    capture: str | None
    duration: float | None
    streams: tuple[Stream, ...]

    def only(self, keys: Iterable[str]) -> "Take":
        """This take with just the streams in `keys`."""
        kept = set(keys)
        return replace(self, streams=tuple(s for s in self.streams if s.key in kept))


def read_takes(
    dataset: str, resolution: Resolution = "full", s3: S3Options | None = None
) -> list[Take]:
    """All takes of the data set at `dataset`, in the order of its `takes.json`.

    Raises DatasetError when `takes.json` is absent, unreadable or not a list of takes.
    """
    uri = join(dataset, "takes.json")
    try:
        source = Source(uri, s3)
        size = source.identity().size
        entries = json.loads(source.read(0, size) if size else b"")
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{uri}: not valid JSON ({error})") from error
    except (ValueError, ImportError) as error:
        raise DatasetError(f"{uri}: {error}") from error
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


def select(takes: Sequence[Take], selection: Selection) -> list[Take]:
    """The takes and streams that `selection` asks for, in the data set's order.

    Takes in which no stream is left are left out. Raises DatasetError for a uid, name, task,
    university or stream that the data set does not have, with the nearest that it has.
    """
    _known("uid", selection.uids, {take.uid for take in takes})
    _known("take name", selection.take_names, {take.name for take in takes})
    _known("task", selection.tasks, {take.task for take in takes if take.task})
    _known("university", selection.universities, {t.university for t in takes if t.university})
    _known("stream", selection.streams, {s.key for take in takes for s in take.streams})
    chosen = []
    for take in takes:
        wanted = (
            (not selection.uids or take.uid in selection.uids)
            and (not selection.take_names or take.name in selection.take_names)
            and (not selection.tasks or _matches(take.task, selection.tasks))
            and (not selection.universities or _matches(take.university, selection.universities))
        )
        keys = [s.key for s in take.streams if _stream_wanted(s, selection)]
        if wanted and keys:
            chosen.append(take.only(keys))
    return chosen


def object_sizes(takes: Sequence[Take], s3: S3Options | None = None) -> dict[str, int | None]:
    """Size in bytes of every stream's object by URI, None where it is absent.

    One listing for each folder. Raises SourceError when the store cannot be reached.
    """
    uris = [s.uri for take in takes for s in take.streams if s.uri]
    folders = sorted({posixpath.dirname(uri) for uri in uris})

    def listing(folder: str) -> dict[str, int]:
        fs, path = open_filesystem(folder, s3)
        try:
            with translated(folder):
                found = fs.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        return {
            join(folder, posixpath.basename(entry["name"])): int(entry["size"])
            for entry in found
            if entry["type"] == "file"
        }

    with ThreadPoolExecutor(32) as pool:
        sizes = {uri: size for part in pool.map(listing, folders) for uri, size in part.items()}
    return {uri: sizes.get(uri) for uri in uris}


def _take(
    dataset: str, entry: Mapping[str, Any], resolution: Resolution, index: int, uri: str
) -> Take:
    uid = entry.get("take_uid")
    if not isinstance(uid, str) or not _plain_name(uid):
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


def _plain_name(uid: str) -> bool:
    return bool(uid) and uid not in (".", "..") and not set(uid) & set("/\\\0")


def _stream_wanted(stream: Stream, selection: Selection) -> bool:
    view = "ego" if stream.is_ego else "exo"
    by_view = not selection.views or view in selection.views
    return by_view and (not selection.streams or _matches(stream.key, selection.streams))


def _matches(value: str | None, patterns: Iterable[str]) -> bool:
    return value is not None and any(fnmatch.fnmatchcase(value, p) or value == p for p in patterns)


def _known(what: str, asked: Iterable[str], there: set[str]) -> None:
    exact = what in ("uid", "take name")
    for word in asked:
        if word not in there and (exact or not fnmatch.filter(there, word)):
            near = did_you_mean(word, there) if len(there) < 100 else ""
            near = near or did_you_mean(word, there).split("; valid names")[0]
            raise DatasetError(f"the data set has no {what} '{word}'{near}")
