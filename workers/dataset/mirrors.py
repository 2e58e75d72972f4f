"""Partial copies of a release near some machines, and which of them this one reads."""

import fnmatch
import posixpath
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from cachetools import LRUCache, TTLCache

from takestream.errors import StorageError
from takestream.storage import S3Options, join
from workers.dataset.base import Place, list_files
from workers.dataset.take import Stream

# What the downloader leaves of a file whose download was broken off.
_BROKEN_OFF = re.compile(r"(?P<file>.+)\.[A-Za-z0-9_]{8}")
# A mirror that cannot be read is left alone for so many seconds.
_AWAY_SECONDS = 600.0


@dataclass(frozen=True)
class Machine:
    """The machine that a process runs on.

    Attributes:
        host: its name.
        labels: of the Ray node that it is.
    """

    host: str = field(default_factory=socket.gethostname)
    labels: Mapping[str, str] = field(default_factory=dict)

    def meets(self, pattern: str) -> bool:
        """Whether it is meant by a pattern of host names, or by `LABEL=PATTERN`."""
        label, is_label, value = pattern.partition("=")
        if not is_label:
            return fnmatch.fnmatchcase(self.host, pattern)
        return label in self.labels and fnmatch.fnmatchcase(self.labels[label], value)


# What a process knows of its machine, and of the copies that it could not use: by the copy's URI,
# or by the mirror's, why not.
_here = Machine()
_unusable: LRUCache[str, str] = LRUCache(10_000)
_away: TTLCache[str, str] = TTLCache(100, _AWAY_SECONDS)
_lock = threading.Lock()


def on_machine(machine: Machine) -> None:
    """Say which machine this process is on; without it only the name of its host is known."""
    global _here
    _here = machine


def distrust(place: Place, why: str) -> None:
    """Have this process read a mirror's copy no more.

    Args:
        place: of the copy.
        why: in words.
    """
    with _lock:
        _unusable[place.uri] = why


class Mirrors:
    """The mirrors of a release, nearest first.

    Args:
        places: a path or URI by the machines that have it, as `JobSpec.mirrors`.
        reach: how to reach a URI.
    """

    def __init__(self, places: Mapping[str, str], reach: Callable[[str], S3Options]) -> None:
        self._places, self._reach = dict(places), reach

    def __bool__(self) -> bool:
        return bool(self._places)

    def here(self) -> list[str]:
        """Those for this machine."""
        found = (place for pattern, place in self._places.items() if _here.meets(pattern))
        return list(dict.fromkeys(found))

    def nearest(self, stream: Stream, own: Place) -> Place:
        """The first of this machine's mirrors that has a stream's object whole, or `own`.

        Whole is what has the size that the release lists. What is there and cannot be read instead
        is named in the note of the place that is.
        """
        said: list[str] = []
        for mirror in self.here() if stream.path else ():
            copy, why = self._copy(mirror, stream)
            if copy is not None:
                return replace(copy, note=_said(said, copy))
            said += [why] if why else []
        return replace(own, note=_said(said, own))

    def absent(self) -> Iterator[str]:
        """Of this machine's mirrors, those where nothing is, in sentences."""
        for mirror in self.here():
            try:
                there = list_files(mirror, self._reach(mirror), folders=True)
            except StorageError as error:
                yield f"{_here.host}: the mirror {mirror} cannot be read: {error}"
                continue
            if not there:
                yield f"{_here.host}: nothing is at the mirror {mirror}"

    def _copy(self, mirror: str, stream: Stream) -> tuple[Place | None, str]:
        """A mirror's whole copy of a stream's object; or none, and why it cannot be read."""
        uri, s3 = join(mirror, stream.path), self._reach(mirror)
        with _lock:
            if why := _away.get(mirror) or _unusable.get(uri):
                return None, why
        folder, name = posixpath.split(stream.path)
        try:
            files = list_files(join(mirror, folder), s3)
        except StorageError as error:
            why = f"the mirror {mirror} cannot be read ({error})"
            with _lock:
                _away[mirror] = why
            return None, why
        if name not in files:
            broken = (match["file"] for match in map(_BROKEN_OFF.fullmatch, files) if match)
            return None, "the mirror has a broken-off download of it" if name in broken else ""
        if stream.size is None:
            return None, (
                "the manifest gives no size, so it is not known whether the mirror's file is whole"
            )
        if files[name] != stream.size:
            return None, f"the mirror's file has {files[name]} of {stream.size} bytes"
        return Place(uri, s3, mirror, "" if "://" in mirror else _here.host), ""


def _said(why: list[str], place: Place) -> str:
    return f"{'; '.join(why)}; read from {place.name}" if why else ""
