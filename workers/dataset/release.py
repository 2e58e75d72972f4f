"""Ego-Exo4D's release as it lies on S3: videos in one bucket per university, found by manifests."""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from configs.faults import did_you_mean
from takestream.errors import CredentialsError, StorageDenied, StorageNotFound
from takestream.storage import S3Options, join, storage_of
from workers.dataset.base import list_files
from workers.dataset.manifests import Manifest, ManifestFile, say
from workers.dataset.take import DatasetError, Stream, Take
from workers.media.source import Source

OFFICIAL = {"v2": "s3://ego4d-consortium-sharing/egoexo-public/v2"}
SCHEME = "egoexo://"
# What the downloader leaves of a file whose download was broken off.
_BROKEN_OFF = re.compile(r"(?P<file>.+)\.[A-Za-z0-9_]{8}")
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


def placed(
    takes: Sequence[Take], root: str, manifest: Manifest, mirror: "Mirror | None" = None
) -> list[Take]:
    """The takes with each stream's object and size from its entry of the manifest.

    A stream without a usable entry has no object; its `note` says why. What is odd about the
    manifest as a whole is added to its `odd`.

    Args:
        takes: as `takes.json` has them, with URIs below `root`.
        root: of the release.
        manifest: of the videos' part.
        mirror: a partial copy, whose whole files are read instead.
    """
    below = len(root.rstrip("/")) + 1
    used: set[str] = set()
    found = []
    for take in takes:
        local = mirror.files(take, below) if mirror else {}
        streams = []
        for stream in take.streams:
            if stream.uri is None:
                streams.append(stream)
                continue
            path = stream.uri[below:]
            used.add(path)
            streams.append(_placed(stream, manifest.files.get(path), manifest.part, path, local))
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
    local: Mapping[str, tuple[str, int]],
) -> Stream:
    if entry is None:
        return replace(stream, uri=None, note=f"the manifest of part {part} has no {path}")
    if entry.source is None:
        return replace(stream, uri=None, note=entry.note)
    if entry.size == 0:
        said = "the manifest gives it 0 bytes: there is no such video"
        return replace(stream, uri=None, size=0, note=said)
    note, uri = entry.note, entry.source
    copy = local.get(path)
    if copy is not None:
        uri, said = _chosen(copy, entry, path)
        note = "; ".join(words for words in (note, said) if words)
    return replace(stream, uri=uri, size=entry.size, note=note)


def _chosen(copy: tuple[str, int], entry: ManifestFile, path: str) -> tuple[str, str]:
    """The URI to read, of a mirror's file and the release's object, and what to say about it."""
    assert entry.source is not None
    uri, size = copy
    bucket = storage_of(entry.source)
    if size < 0:
        return entry.source, f"the mirror has a broken-off download of it; read from {bucket}"
    if entry.size is None:
        said = "the manifest gives no size, so it is not known whether the mirror's file is whole"
        return entry.source, f"{said}; read from {bucket}"
    if size != entry.size:
        said = f"the mirror's file has {size} of {entry.size} bytes"
        return entry.source, f"{said}; read from {bucket}"
    return uri, ""


class Mirror:
    """A folder that the `egoexo` downloader wrote, of which any part may be missing.

    Args:
        root: its URI.
        s3: how to reach it.
    """

    def __init__(self, root: str, s3: S3Options) -> None:
        self._root, self._s3 = root, s3
        # By folder, whether it is there: most takes of a partial mirror are not.
        self._folders: dict[str, frozenset[str]] = {}

    def files(self, take: Take, below: int) -> dict[str, tuple[str, int]]:
        """By path, URI and size of what is there of a take's videos; -1 for a broken-off download.

        Args:
            take: with URIs below the release's root.
            below: length of that root, with its slash.

        Raises:
            StorageError: the mirror cannot be read.
        """
        folders = {posixpath.dirname(s.uri[below:]) for s in take.streams if s.uri}
        found: dict[str, tuple[str, int]] = {}
        for folder in folders:
            first, _, rest = folder.partition("/")
            if rest and rest.partition("/")[0] not in self._names(first):
                continue
            for name, size in list_files(join(self._root, folder), self._s3).items():
                path = posixpath.join(folder, name)
                found[path] = join(self._root, path), size
                if match := _BROKEN_OFF.fullmatch(name):
                    found.setdefault(posixpath.join(folder, match["file"]), ("", -1))
        return found

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._folders:
            names = list_files(join(self._root, folder), self._s3, folders=True)
            self._folders[folder] = frozenset(names)
        return self._folders[folder]


def measured(
    streams: Iterable[Stream], s3_of: Callable[[str], S3Options]
) -> Iterator[tuple[str, int | None]]:
    """Sizes of objects of which the manifest gives none, by one HEAD each; None if not there.

    Raises:
        CredentialsError: the keys are not accepted.
        StorageUnavailable: a bucket does not answer.
    """
    uris = sorted({s.uri for s in streams if s.uri})

    def size(uri: str) -> int | None:
        try:
            return Source(uri, s3_of(uri)).identity().size
        except CredentialsError:
            raise
        except (StorageDenied, StorageNotFound):
            return None

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        yield from zip(uris, pool.map(size, uris), strict=True)
