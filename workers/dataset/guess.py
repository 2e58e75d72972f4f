"""A table of cameras proposed from folders of videos: one folder a take, one file a camera."""

import csv
import io
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from takestream.storage import S3Options, absolute, join, open_filesystem, translated
from workers.dataset.take import DatasetError
from workers.dataset.words import clean, flaw_of

VIDEOS = (".mp4", ".mov", ".m4v")
# Other endings of videos, which takestream cannot read: said rather than passed over.
_OTHER_VIDEOS = (".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".wmv", ".ts", ".insv", ".lrv")
_EGO = re.compile(r"(?<![a-z])(aria|ego|head|glasses|fpv|pov|hololens)(?![a-z])")
# Of a take's or camera's name, with room for what is put behind it.
_NAME_BYTES = 200
COLUMNS = ("take", "camera", "uri", "ego")


@dataclass(frozen=True)
class Guess:
    """A proposed table.

    Attributes:
        rows: take, camera, URI and whether the camera is worn, in order.
        notes: what somebody should look at, in sentences.
    """

    rows: tuple[tuple[str, str, str, bool], ...]
    notes: tuple[str, ...]

    def csv(self) -> str:
        """The table as a CSV file's text."""
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow(COLUMNS)
        for take, camera, uri, ego in self.rows:
            out.writerow((take, camera, uri, "true" if ego else "false"))
        return text.getvalue()


def guess_table(root: str, s3: S3Options | None = None) -> Guess:
    """Propose a table of cameras for the videos below a folder.

    The folder that holds a take's files is the take, a file's name its camera. Where every folder
    of a level holds a single video and there are several beside each other, the folder is the
    camera and the one above it the take. Videos that lie in `root` itself are one take.

    Args:
        root: path or URI of the folder.
        s3: how to reach it.

    Raises:
        DatasetError: there is no video, or the folder is Ego-Exo4D's.
        StorageError: the storage cannot be read.
    """
    root = absolute(root)
    with translated(root, "list", s3):
        fs, path = open_filesystem(root, s3)
        found = sorted(str(name) for name in fs.find(path))
    below = [name[len(path.rstrip("/")) + 1 :] for name in found]
    if "takes.json" in below:
        raise DatasetError(f"{root}: it holds takes.json, so it is a data set: --dataset {root}")
    hidden = [name for name in below if any(part.startswith(".") for part in name.split("/"))]
    seen = [n for n in below if n.lower().endswith(VIDEOS) and n not in set(hidden)]
    # A table of cameras cannot name those.
    videos = [n for n in seen if flaw_of(n) is None]
    odd = len(seen) - len(videos)
    others = [name for name in below if name.lower().endswith(_OTHER_VIDEOS)]
    if not videos:
        more = f"; {len(others)} of {_ending(others)} cannot be read" if others else ""
        more += f"; {odd} have paths that cannot be listed" if odd else ""
        if not fs.isdir(path):
            raise DatasetError(f"{root}: there is no such folder")
        raise DatasetError(f"{root}: there is no {' or '.join(VIDEOS)} file below it{more}")
    named = _named(videos, posixpath.basename(root) or "take")
    rows = tuple(
        (take, camera, join(root, name), bool(_EGO.search(camera.lower())))
        for name, (take, camera) in named.items()
    )
    notes = list(_notes(rows, others))
    if odd:
        notes.append(
            f"{odd} videos are left out: their paths hold what a table cannot; rename them"
        )
    return Guess(tuple(sorted(rows)), tuple(notes))


def _named(videos: Sequence[str], root: str) -> dict[str, tuple[str, str]]:
    """By video, its take and its camera."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in videos:
        by_folder[posixpath.dirname(name)].append(name)
    beside = Counter(posixpath.dirname(folder) for folder in by_folder if folder)
    found = {}
    for folder, files in by_folder.items():
        above = posixpath.dirname(folder)
        # takes/a/left/video.mp4, takes/a/right/video.mp4: the folders are the cameras.
        cameras = bool(above) and beside[above] > 1 and _single(by_folder, above)
        for name in files:
            stem = posixpath.splitext(posixpath.basename(name))[0]
            take = above if cameras else folder
            camera = posixpath.basename(folder) if cameras else stem
            found[name] = (_plain(take) or _plain(root) or "take", _plain(camera) or "camera")
    taken = Counter(found.values())
    # left.mp4 beside left.mov: then the ending tells them apart, and a number a_b/c from a/b/c.
    apart: dict[tuple[str, str], str] = {}
    for name, (take, camera) in found.items():
        if taken[take, camera] > 1:
            camera += f"-{posixpath.splitext(name)[1].lstrip('.').lower()}"
        forms = (camera, *(f"{camera}-{number}" for number in range(2, len(found) + 2)))
        apart[next((take, form) for form in forms if (take, form) not in apart)] = name
    return {name: pair for pair, name in apart.items()}


def _plain(name: str) -> str:
    """A name with which a folder can be made, as near as can be."""
    kept = clean(name).replace("/", "_").replace("\\", "_").replace("\ufffd", "_").strip()
    short = kept.encode()[:_NAME_BYTES].decode(errors="ignore").strip()
    return "" if short in (".", "..") else short


def _single(by_folder: Mapping[str, Sequence[str]], above: str) -> bool:
    return all(
        len(files) == 1
        for folder, files in by_folder.items()
        if folder and posixpath.dirname(folder) == above
    )


def _notes(rows: Iterable[tuple[str, str, str, bool]], others: Sequence[str]) -> Iterable[str]:
    takes: dict[str, list[str]] = defaultdict(list)
    for take, camera, _, _ in rows:
        takes[take].append(camera)
    sizes = Counter(map(len, takes.values()))
    said = ", ".join(f"{count} of {n} cameras" for n, count in sorted(sizes.items()))
    yield f"{len(takes)} takes: {said}"
    cameras = Counter(camera for names in takes.values() for camera in names)
    if len(takes) > 1 and len(cameras) > 1 and max(cameras.values()) == 1:
        yield "no camera is in two takes: are the files' names the cameras' names?"
    if others:
        yield f"{len(others)} videos cannot be read ({_ending(others)}); turn them into mp4 first"
    yield "that the cameras of a take begin together is assumed: add start_offset where they do not"


def _ending(names: Sequence[str]) -> str:
    return ", ".join(sorted({posixpath.splitext(name)[1].lower() for name in names}))
