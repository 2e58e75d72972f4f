"""`captures.json`: what a session of filming says of its takes, where `takes.json` does not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from takestream.storage import S3Options, join
from workers.dataset.jsonlist import json_entries
from workers.dataset.take import Camera, DatasetError, Take
from workers.dataset.words import flag, table, text, uid_of
from workers.media.source import Source

CAPTURES = "captures.json"


def cameras_of(capture: Mapping[str, Any]) -> tuple[Camera, ...]:
    """The cameras that a capture lists, each once; entries that are none are left out."""
    listed = capture.get("cameras")
    found: dict[str, Camera] = {}
    for entry in listed if isinstance(listed, list) else ():
        cam_id = text(table(entry).get("cam_id"))
        if cam_id is not None:
            worn, device = flag(entry.get("is_ego")), text(entry.get("device_type"))
            found.setdefault(cam_id, Camera(cam_id, worn, device))
    return tuple(found.values())


def with_captures(takes: Sequence[Take], root: str, s3: S3Options) -> list[Take]:
    """The takes with what `captures.json` says of their captures; what they have stays.

    It is read only where a take names a capture and lacks one of these facts.

    Args:
        takes: of the data set.
        root: the data set's URI.
        s3: how to reach it.

    Raises:
        DatasetError: the file is no JSON list.
        StorageError: the storage cannot be read.
    """
    if not any(take.capture_uid and _lacks(take) for take in takes):
        return list(takes)
    captures = dict(_read(join(root, CAPTURES), s3))
    return [_filled(take, captures.get(take.capture_uid or "")) for take in takes]


def _lacks(take: Take) -> bool:
    return not take.capture or not take.cameras or take.timesync_validated is None


def _filled(take: Take, capture: Mapping[str, Any] | None) -> Take:
    if capture is None or not _lacks(take):
        return take
    synced = take.timesync_validated
    return replace(
        take,
        capture=take.capture or text(capture.get("capture_name")),
        cameras=take.cameras or cameras_of(capture),
        timesync_validated=flag(capture.get("timesync_validated")) if synced is None else synced,
        university=take.university or text(capture.get("university_name")),
        physical_setting_uid=take.physical_setting_uid
        or uid_of(capture.get("physical_setting_uid")),
    )


def _read(uri: str, s3: S3Options) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        data = Source(uri, s3).whole()
    except FileNotFoundError:
        return
    try:
        for entry in json_entries(data, "captures"):
            capture = uid_of(table(entry).get("capture_uid"))
            if capture is not None:
                yield capture, entry
    except ValueError as error:
        raise DatasetError(f"{uri}: {error}") from error
