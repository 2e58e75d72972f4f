"""A release's `manifest.json`: which object is which file, part by part.

Shape and filter rule: the downloader of facebookresearch/Ego4d (`ego4d/egoexo/download`). A part of
40,000 files is read entry by entry, so that one that is wrong costs itself, and little memory.
"""

import posixpath
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from configs.schema import Resolution
from takestream.errors import CredentialsError, StorageDenied
from takestream.storage import S3Options, join
from workers.dataset.jsonlist import raw_entries
from workers.dataset.take import DatasetError
from workers.dataset.words import clean
from workers.media.source import Source

MANIFEST = "manifest.json"
PARTS: dict[Resolution, str] = {"full": "takes", "448": "downscaled_takes/448"}
# Parts that every release has; a mirror has no manifest at all.
_USUAL_PARTS = (*PARTS.values(), "metadata")
_SOURCE = re.compile(r"s3a?://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]+)/(?P<key>[^/].*)", re.DOTALL)
_EXAMPLES = 3
# Bytes; S3 has no larger objects (50 TB).
_LARGEST = 50 * 10**12


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a part.

    Attributes:
        source: URI of its object; None where the manifest gives none that can be used.
        size: in bytes; None where the manifest does not say.
        views: `ego`, `exo`; None where the manifest does not say.
        note: what is odd about the entry, in plain words.
        path: where its mirrors have it, if not at its path among the manifest's files.
    """

    source: str | None
    size: int | None
    views: tuple[str, ...] | None = None
    note: str = ""
    path: str = ""


# Splits and benchmarks.
_Groups = tuple[tuple[str, ...] | None, tuple[str, ...] | None]


@dataclass
class Manifest:
    """What the manifest of a part says.

    Attributes:
        part: the part's name.
        files: by path below the download folder, as `path_key` has it.
        groups: by uid, splits and benchmarks of its files; None means "of any".
        odd: sentences about entries that are not as documented.
    """

    part: str
    files: dict[str, ManifestFile] = field(default_factory=dict)
    groups: dict[str, _Groups] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)


class _Entry(msgspec.Struct):
    uid: Any = None
    paths: list[msgspec.Raw] | None = None
    splits: Any = None
    benchmarks: Any = None


class _Path(msgspec.Struct):
    source_path: Any = None
    relative_path: Any = None
    size: Any = None
    views: Any = None


def find_manifest(
    root: str, resolution: Resolution, s3: S3Options, *, needed: bool = False
) -> Manifest | None:
    """The manifest of the videos' part at a release's root; None for a mirror, which has none.

    Args:
        root: of a release, or of a mirror.
        resolution: which part.
        s3: how to reach it.
        needed: whether it must be a release.

    Raises:
        DatasetError: the root is a release's and the part has no manifest, or one that is no list.
        StorageError: the storage cannot be read.
    """
    part = PARTS[resolution]
    others = [join(root, one, MANIFEST) for one in _USUAL_PARTS if one != part]
    # Asked together: each answer takes as long as the way there and back.
    with ThreadPoolExecutor(len(others)) as pool:
        there = [pool.submit(_exists, uri, s3) for uri in others]
        data = _read(join(root, part, MANIFEST), s3, needed)
        if data is not None:
            return read_manifest(data, part, join(root, part, MANIFEST))
    if needed or any(one.result() for one in there):
        raise DatasetError(
            f"{join(root, part, MANIFEST)}: there is none, so the release has no part {part};"
            f" try --resolution {'448' if resolution == 'full' else 'full'}"
        )
    return None


def read_manifest(data: bytes, part: str, uri: str) -> Manifest:
    """The manifest in `data`; what is wrong with an entry of it costs that entry alone.

    Args:
        data: JSON.
        part: the part's name.
        uri: for the messages.

    Raises:
        DatasetError: it is not a JSON list.
    """
    try:
        entries = raw_entries(data, "entries")
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{uri}: not a manifest, a JSON list of entries ({error})") from error
    manifest = Manifest(part)
    unusable: list[str] = []
    doubles: list[str] = []
    entry_of = msgspec.json.Decoder(_Entry)
    for number, raw in enumerate(entries):
        try:
            entry = entry_of.decode(raw)
        except (msgspec.MsgspecError, RecursionError) as error:
            unusable.append(f"entry {number} ({error})")
            continue
        if isinstance(entry.uid, str):
            said = _words(entry.splits), _words(entry.benchmarks)
            before = manifest.groups.get(entry.uid)
            manifest.groups[entry.uid] = said if before is None else _joined(before, said)
        for path in entry.paths or ():
            if fault := _add(manifest, path, doubles):
                unusable.append(f"a path of uid {entry.uid!r} ({fault})")
    say(manifest, "entries cannot be used", unusable)
    say(manifest, "paths stand there twice with different objects; the first is taken", doubles)
    return manifest


def path_key(path: str) -> str:
    """A path in the form by which `takes.json` and a manifest are compared.

    `a//b`, `./a/b` and the two Unicode forms of a letter are one path to whoever wrote the lists,
    and one file to most disks.
    """
    return unicodedata.normalize("NFC", posixpath.normpath(path).lstrip("/"))


def _joined(one: _Groups, other: _Groups) -> _Groups:
    """Of two entries of the same uid: in any of them, or in none that is known."""

    def both(a: tuple[str, ...] | None, b: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if a is None or b is None else tuple(dict.fromkeys((*a, *b)))

    return both(one[0], other[0]), both(one[1], other[1])


_PATH = msgspec.json.Decoder(_Path)


def _add(manifest: Manifest, raw: msgspec.Raw, doubles: list[str]) -> str | None:
    """Take one path in; why not, if it cannot be used."""
    try:
        path = _PATH.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        return str(error)
    relative = path.relative_path
    if not isinstance(relative, str) or not relative.strip("/"):
        return f"relative_path is {relative!r}"
    plain, relative = posixpath.normpath(relative).lstrip("/"), path_key(relative)
    if relative == ".." or relative.startswith("../"):
        return f"relative_path {relative!r} leaves the download folder"
    size, note = path.size, ""
    if size is not None and (type(size) is not int or not 0 <= size <= _LARGEST):
        size, note = None, f"the manifest gives its size as {size!r}"
    source = path.source_path
    match = _SOURCE.fullmatch(source) if isinstance(source, str) and "::" not in source else None
    if match is None:
        said = f"the manifest gives {source!r} as its object, which is no s3://bucket/key"
        found = ManifestFile(None, size, None, said)
    else:
        source = f"s3://{match['bucket']}/{match['key']}"
        written = "" if plain == relative else plain
        found = ManifestFile(source, size, _words(path.views), note, written)
    known = manifest.files.get(relative)
    if known is None or (known.source is None and found.source is not None):
        manifest.files[relative] = found
    elif found.source is not None and known.source != found.source:
        doubles.append(relative)
        both = f"{known.source} and {found.source}"
        said = f"the manifest gives it two objects, {both}; the first is used"
        manifest.files[relative] = replace(known, note=said)
    elif found.source is not None and found.size != known.size:
        said = f"the manifest lists it twice, with {known.size} and with {found.size} bytes"
        manifest.files[relative] = replace(known, size=None, note=said)
    return None


def _words(value: Any) -> tuple[str, ...] | None:
    """A list of words; None for null, which every filter lets pass. An empty list is not null."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence):
        return None
    return tuple(word for word in value if isinstance(word, str))


def say(manifest: Manifest, what: str, where: Sequence[str]) -> None:
    """Add a sentence about what is odd, with the first few of where."""
    if where:
        shown = "; ".join(where[:_EXAMPLES]) + ("; …" if len(where) > _EXAMPLES else "")
        said = f"manifest of part {manifest.part}: {len(where)} {what}: {shown}"
        manifest.odd.append(clean(said))


def _exists(uri: str, s3: S3Options) -> bool:
    try:
        Source(uri, s3).identity()
    except FileNotFoundError:
        return False
    except CredentialsError:
        raise
    except StorageDenied:
        return False  # so S3 answers for what is absent, to keys that may not list
    return True


def _read(uri: str, s3: S3Options, needed: bool) -> bytes | None:
    try:
        return Source(uri, s3).whole()
    except FileNotFoundError:
        return None
    except StorageDenied as error:
        if needed or isinstance(error, CredentialsError):
            raise
        return None
