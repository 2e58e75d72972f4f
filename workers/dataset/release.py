"""Ego-Exo4D's release as it lies on S3: videos in one bucket per university, found by manifests."""

import logging
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from configs.faults import did_you_mean
from takestream.errors import (
    CredentialsError,
    StorageDenied,
    StorageNotFound,
    StorageUnavailable,
)
from takestream.storage import S3Options, storage_of
from workers.dataset.manifests import Manifest, ManifestFile, path_key, say
from workers.dataset.take import DatasetError, Stream, Take
from workers.dataset.words import clean
from workers.media.source import Source

log = logging.getLogger(__name__)

OFFICIAL = {"v2": "s3://ego4d-consortium-sharing/egoexo-public/v2"}
SCHEME = "egoexo://"
# Made from the cameras' videos.
_NO_CAMERAS = frozenset({"ego_preview.mp4", "collage.mp4"})
_AT_A_TIME = 32


def release_root(uri: str) -> str:
    """The root that a data set's URI names; `egoexo://v2` is the official release's.

    Raises:
        DatasetError: there is no release of that name.
    """
    if not uri.startswith(SCHEME):
        return uri
    name = uri.removeprefix(SCHEME).strip("/")
    if name not in OFFICIAL:
        raise DatasetError(f"{uri}: there is no such release{did_you_mean(name, OFFICIAL)}")
    return OFFICIAL[name]


def placed(takes: Sequence[Take], root: str, manifest: Manifest) -> list[Take]:
    """The takes with each stream's object and size from its entry of the manifest.

    A stream without a usable entry has no object; its `note` says why. What is odd about the
    manifest as a whole is added to its `odd`.

    Args:
        takes: as `takes.json` has them, with URIs below `root`.
        root: of the release.
        manifest: of the videos' part.
    """
    below = len(root.rstrip("/")) + 1
    used: set[str] = set()
    found = []
    for take in takes:
        streams = []
        for stream in take.streams:
            if stream.uri is None:
                streams.append(stream)
                continue
            path = stream.uri[below:]
            key = path_key(path)
            used.add(key)
            streams.append(_placed(stream, manifest.files.get(key), manifest.part, path))
        splits, benchmarks = manifest.groups.get(take.uid, (None, None))
        found.append(replace(take, streams=tuple(streams), splits=splits, benchmarks=benchmarks))
    known = {take.uid for take in takes}
    strange = sorted(manifest.groups.keys() - known)
    say(manifest, "uids are of takes that takes.json does not know, and are left out", strange)
    folders = {posixpath.dirname(path) for path in used}
    videos = sorted(
        path
        for path in manifest.files.keys() - used
        if path.endswith(".mp4")
        and posixpath.dirname(path) in folders
        and posixpath.basename(path) not in _NO_CAMERAS
    )
    say(manifest, "videos are of no camera in takes.json, and are left out", videos)
    return found


def _placed(
    stream: Stream,
    entry: ManifestFile | None,
    part: str,
    path: str,
) -> Stream:
    if entry is None:
        return _noted(stream, f"the manifest of part {part} has no {path}", uri=None)
    if entry.source is None:
        return _noted(stream, entry.note, uri=None)
    if entry.size == 0:
        said = "the manifest gives it 0 bytes: there is no such video"
        return _noted(stream, said, uri=None, size=0)
    there = entry.path or path
    return _noted(stream, clean(entry.note), uri=entry.source, size=entry.size, path=there)


def _noted(stream: Stream, note: str, **changes: Any) -> Stream:
    """A stream with changes, and what else is odd about it. The URI's other forms were a guess."""
    notes = "; ".join(words for words in (stream.note, note) if words)
    return replace(stream, note=notes, others=(), **changes)


def measured(
    streams: Iterable[Stream], s3_of: Callable[[str], S3Options]
) -> Iterator[tuple[str, int | None]]:
    """Sizes of objects of which the manifest gives none, by one HEAD each; None if not there.

    None, too, where a bucket refuses or does not answer; the latter is named, and not asked for its
    other objects.

    Raises:
        CredentialsError: the keys are not accepted.
    """
    uris = sorted({s.uri for s in streams if s.uri})
    silent: dict[str, StorageUnavailable] = {}

    def size(uri: str) -> int | None:
        if storage_of(uri) in silent:
            return None
        try:
            return Source(uri, s3_of(uri)).identity().size
        except CredentialsError:
            raise
        except (StorageDenied, StorageNotFound):
            return None
        except StorageUnavailable as error:
            silent[storage_of(uri)] = error
            return None

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        yield from zip(uris, pool.map(size, uris), strict=True)
    for storage, error in silent.items():
        log.warning("%s does not answer, so sizes are not known there: %s", storage, error)
