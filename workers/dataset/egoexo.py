"""`takes.json` into takes and streams, by the data set's own words.

Layout and fields: https://docs.ego-exo4d-data.org/data/metadata and …/data/takes.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from configs.schema import Resolution
from takestream.errors import StorageError
from takestream.licence import Licence
from takestream.storage import S3Options, join
from workers.dataset.base import Place, object_sizes
from workers.dataset.captures import cameras_of, with_captures
from workers.dataset.jsonlist import json_entries
from workers.dataset.manifests import find_manifest
from workers.dataset.mirrors import Mirrors
from workers.dataset.regions import Reach
from workers.dataset.release import SCHEME, measured, placed, release_root
from workers.dataset.splits import with_splits
from workers.dataset.take import DatasetError, Stream, Take
from workers.dataset.words import (
    clean,
    flag,
    flaw_of,
    is_plain_name,
    missing,
    number,
    other_forms,
    seconds,
    table,
    text,
    uid_of,
)  # fmt: skip
from workers.media.source import ObjectIdentity, Source

LICENCE = Licence("Ego-Exo4D license agreement", "https://ego4ddataset.com/egoexo-license/")
# Entries of `frame_aligned_videos` that are made from cameras and are none.
NOT_CAMERAS = frozenset({"collage", "best_exo"})
# Of the entries that are left out.
_NAMED = 5


class EgoExo:
    """A data set of Ego-Exo4D: the release itself, or what the `egoexo` downloader wrote of it.

    Both have `takes.json` at their root. A release also has manifests, which say where each video
    is; a mirror has none, and its videos lie where `takes.json` says.

    Args:
        uri: the root, or `egoexo://v2` for the official release.
        resolution: `full`, or `448` for the downscaled videos.
        s3: how to reach it.
        mirrors: of a release, partial copies whose whole files are read instead, by the machines
            that have them; see `JobSpec`.
        buckets: how to reach some buckets, by patterns of their names.
        annotated: splits or benchmarks are asked for, so something has to say which they are.
    """

    def __init__(
        self,
        uri: str,
        resolution: Resolution = "full",
        s3: S3Options | None = None,
        *,
        mirrors: Mapping[str, str] | None = None,
        buckets: Mapping[str, S3Options] | None = None,
        annotated: bool = False,
    ) -> None:
        self._official = uri.startswith(SCHEME)
        self._uri, self._resolution = release_root(uri), resolution
        self._annotated = annotated
        self._reach = Reach(self._uri, s3 or S3Options(), buckets or {})
        self._mirrors = Mirrors(mirrors or {}, self._reach)
        self._notes: tuple[str, ...] = ()

    def identity(self) -> ObjectIdentity:
        """As `Dataset.identity` says."""
        return Source(join(self._uri, "takes.json"), self._reach(self._uri)).identity()

    def takes(self) -> list[Take]:
        """As `Dataset.takes` says."""
        s3 = self._reach(self._uri)
        manifest = find_manifest(self._uri, self._resolution, s3, needed=self._official)
        odd: list[str] = []
        takes = read_takes(self._uri, self._resolution, s3, odd)
        if manifest is not None:
            takes = placed(takes, self._uri, manifest)
            odd += manifest.odd
        elif self._mirrors:
            raise DatasetError(
                f"{self._uri}: it has no manifests, so it is no release that a mirror could be"
                " laid over; leave mirrors out"
            )
        released = manifest is not None
        files = [partial(with_captures, root=self._uri, s3=s3)]
        splits = partial(with_splits, root=self._uri, s3=s3, released=released)
        if self._annotated:
            takes = splits(takes, needed=True)
        else:
            files.append(partial(splits, needed=False))
        for read in files:
            try:
                takes = read(takes)
            except (ValueError, StorageError) as error:
                odd.append(f"{error}; what it says of takes is left out")
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

    def nearest(self, stream: Stream) -> Place:
        """As `Dataset.nearest` says: of a release its mirrors' whole files come first."""
        return self._mirrors.nearest(stream, Place(*self.where(stream)))


def read_takes(
    dataset: str,
    resolution: Resolution = "full",
    s3: S3Options | None = None,
    odd: list[str] | None = None,
) -> list[Take]:
    """All takes of the data set at `dataset`, in the order of its `takes.json`.

    An entry that cannot be used is left out, alone.

    Args:
        dataset: URI of the folder.
        resolution: `full`, or `448` for the downscaled videos.
        s3: how to reach it.
        odd: gets a sentence for each entry that was left out.

    Raises:
        DatasetError: `takes.json` is absent, no list, or none of its entries can be used.
        StorageError: the storage cannot be read.
    """
    uri = join(dataset, "takes.json")
    try:
        data = Source(uri, s3).whole()
    except FileNotFoundError:
        raise DatasetError(
            f"{uri}: no such object; --dataset is the folder that holds takes.json. The downloader"
            " writes it with --parts metadata, and not where --uids chooses takes alone"
        ) from None
    takes: dict[str, Take] = {}
    twice: set[str] = set()
    faults: list[str] = []
    try:
        for place, entry in enumerate(json_entries(data, "takes")):
            try:
                take = _take(dataset, entry, resolution)
            except ValueError as error:
                faults.append(f"{uri}: entry {place} is left out: {error}")
                continue
            if takes.setdefault(take.uid, take) != take:
                twice.add(take.uid)
    except ValueError as error:
        raise DatasetError(f"{uri}: {error}") from error
    for uid in sorted(twice):
        faults.append(
            f"{uri}: take_uid {uid} stands there more than once, with other facts each time; it is"
            " left out"
        )
        del takes[uid]
    if faults and not takes:
        raise DatasetError(f"{faults[0]} ({len(faults)} entries, none can be used)")
    if odd is not None:
        few, more = faults[:_NAMED], len(faults) - _NAMED
        odd += [*few, *([f"{uri}: {more} more entries are left out"] if more > 0 else [])]
    return list(takes.values())


def _take(dataset: str, entry: Any, resolution: Resolution) -> Take:
    """Raises ValueError for an entry that is no take."""
    if isinstance(entry, ValueError):
        raise entry
    if not isinstance(entry, dict):
        raise ValueError(f"a take is a JSON object, found {_shown(entry)}")
    uid = entry.get("take_uid")
    if not isinstance(uid, str) or not is_plain_name(uid):
        raise ValueError(f"it has no usable take_uid (found {_shown(uid)})")
    name = text(entry.get("take_name")) or uid
    capture = table(entry.get("capture"))
    streams: dict[str, Stream] = {}
    for stream in _streams(dataset, entry, resolution, uid):
        first = streams.setdefault(stream.key, stream)
        if first is not stream:
            said = (
                f"stream {stream.name} of camera {stream.cam_id} has the same key; it is left out"
            )
            note = "; ".join(words for words in (first.note, said) if words)
            streams[stream.key] = replace(first, note=note)
    return Take(
        uid=uid,
        name=name,
        task=text(entry.get("task_name")) or text(entry.get("parent_task_name")),
        university=text(entry.get("university_name")),
        capture=text(capture.get("capture_name")),
        duration=seconds(entry.get("duration_sec")),
        streams=tuple(streams.values()),
        capture_uid=text(entry.get("capture_uid")) or text(capture.get("capture_uid")),
        parent_task=text(entry.get("parent_task_name")),
        best_exo=text(entry.get("best_exo")),
        narrated=flag(entry.get("is_narrated")),
        validated=flag(entry.get("validated")),
        timesync_validated=flag(capture.get("timesync_validated")),
        participant_uid=uid_of(entry.get("participant_uid")),
        physical_setting_uid=uid_of(entry.get("physical_setting_uid")),
        task_id=number(entry.get("task_id")),
        parent_task_id=number(entry.get("parent_task_id")),
        task_start=seconds(entry.get("task_start_sec")),
        task_end=seconds(entry.get("task_end_sec")),
        cameras=cameras_of(capture),
        licence=Licence.of(entry.get("licence")),
    )


def _streams(
    dataset: str, entry: Mapping[str, Any], resolution: Resolution, uid: str
) -> Iterator[Stream]:
    worn = {camera.cam_id: camera.is_ego for camera in cameras_of(table(entry.get("capture")))}
    name, root_dir = entry.get("take_name"), entry.get("root_dir")
    if not isinstance(root_dir, str) or not root_dir:
        root_dir = join("takes", name if isinstance(name, str) and name else uid)
    videos = entry.get("frame_aligned_videos")
    if not isinstance(videos, dict) and not missing(videos):
        raise ValueError(f"take {uid}: frame_aligned_videos is {_shown(videos)}, no table")
    for cam_id, by_name in table(videos).items():
        if cam_id in NOT_CAMERAS:
            continue
        for stream, video in table(by_name).items():
            facts = table(video)
            if flag(facts.get("is_collage")):
                continue
            ego = worn.get(clean(cam_id))
            others: tuple[str, ...] = ()
            if not isinstance(video, dict) and not missing(video):
                where, note = None, f"takes.json has {_shown(video)} for it, no table"
            else:
                relative = facts.get("relative_path")
                where, others, note = _video_uri(dataset, root_dir, relative, resolution)
            yield Stream(
                key=clean(f"{cam_id}_{stream}"),
                cam_id=clean(cam_id),
                name=clean(stream),
                uri=where,
                others=others,
                is_ego=cam_id.lower().startswith("aria") if ego is None else ego,
                camera_kind=camera_kind(cam_id, stream),
                note=note,
            )


def camera_kind(cam_id: str, name: str) -> str:
    """What sort of picture a stream holds, by the data set's names; `other` for none of them."""
    if name == "rgb" or name == "et":
        return name
    if name.startswith("slam"):
        return "slam"
    return "gopro" if cam_id.lower().startswith(("cam", "gp", "gopro")) else "other"


def _video_uri(
    dataset: str, root_dir: str, relative: Any, resolution: Resolution
) -> tuple[str | None, tuple[str, ...], str]:
    """The URI of a stream's video, where else it may lie; or None, and why there is none."""
    if not isinstance(relative, str) or not relative:
        odd = "" if missing(relative) or not relative else f"its path is {_shown(relative)}"
        return None, (), odd
    if resolution == "448":
        folder, name = posixpath.split(relative)
        relative = posixpath.join(folder, "downscaled", "448", name)
    path = posixpath.join(root_dir, relative)
    if flaw := flaw_of(path):
        return None, (), f"its path {_shown(path)} {flaw}, so it is not read"
    normal = posixpath.normpath(path)
    others = tuple(join(dataset, other) for other in other_forms(path, normal))
    return join(dataset, normal), others, ""


def _shown(value: Any) -> str:
    """A value of the data set's, for a message."""
    return ascii(value)[:80]
