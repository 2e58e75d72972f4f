"""The example data set: a small one in Ego-Exo4D's exact layout, made from real footage.

Two takes. In each, four GoPros are the four synchronised cameras of an original
(:mod:`service.demo.originals`); the Aria glasses that the originals do not have show parts of the
same cameras' pictures. It also has what the real data set has and simple readers trip over: a
capital `Aria` beside `aria01`, cameras named `gp01`, SLAM pictures upright and stretched, eye
cameras with black frames between their pictures, streams with and without sound, entries in
``frame_aligned_videos`` that are no cameras, nulls, a stream that is a frame shorter than the
others, indexes at the front and at the end of files, a `timesync.csv` with gaps, a split that names
a take that is not there, rejected annotations, flags as texts.

On every picture of the first take its own frame number is burned in; see
:func:`service.demo.footage.read_frame_number`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.demo.annotated import annotation_files
from service.demo.entries import capture, entry, is_ours, participant
from service.demo.scenes import encode_take
from service.demo.takes import TAKES, video_paths
from service.demo.timesync import timesync


def make_example(directory: Path) -> Path:
    """Make the example data set in a folder, unless it is there already, and return the folder.

    About 6 MB and ten seconds of work on two cores. The files are made in a temporary folder beside
    it and moved in when all of them are whole, ``takes.json`` last: a folder with that file is
    finished, and one that an interrupted run left is completed by the next.

    Args:
        directory: Where ``takes.json`` and ``takes/`` go; made if absent.

    Raises:
        FileExistsError: The folder holds another data set.
        OSError: The folder cannot be written.
    """
    directory = Path(directory).absolute()
    entries = [entry(index, take) for index, take in enumerate(TAKES)]
    uids = {one["take_name"]: one["take_uid"] for one in entries}
    text = _json(entries)
    if _is_finished(directory, text):
        _write_around(directory, uids)
        return directory
    _refuse_other_data(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # Beside it and not in it, so that nobody who lists the data set sees unfinished files.
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
        for take in TAKES:
            encode_take(take, Path(scratch))
        catalogue = directory / "takes.json"
        if catalogue.exists():  # of this example: an earlier one had other files
            for folder in ("takes", "captures", "annotations"):
                shutil.rmtree(directory / folder, ignore_errors=True)
            catalogue.unlink()
        for path in video_paths():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(scratch, path), directory / path)
        _write_around(directory, uids)
        Path(scratch, "takes.json").write_text(text)
        os.replace(Path(scratch, "takes.json"), catalogue)
    return directory


def _write_around(directory: Path, uids: Mapping[str, str]) -> None:
    """Write what lies around the takes, where it is not there already."""
    texts = {
        "captures.json": _json([capture(*numbered) for numbered in enumerate(TAKES)]),
        "participants.json": _json([participant(*numbered) for numbered in enumerate(TAKES)]),
    }
    for take in TAKES:
        texts[f"captures/{take.capture_name}/timesync.csv"] = timesync(take)
    for name, value in annotation_files(uids).items():
        texts[f"annotations/{name}.json"] = _json(value)
    for name, text in texts.items():
        path = directory / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _is_finished(directory: Path, catalogue: str) -> bool:
    try:
        if (directory / "takes.json").read_text() != catalogue:
            return False
        return all((directory / path).stat().st_size > 0 for path in video_paths())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _refuse_other_data(directory: Path) -> None:
    catalogue = directory / "takes.json"
    if not catalogue.exists():
        return
    try:
        found = json.loads(catalogue.read_text())
    except ValueError:
        found = None
    if not (isinstance(found, list) and found and all(map(is_ours, found))):
        raise FileExistsError(
            f"{directory} holds another data set (see its takes.json): "
            "choose another folder for the example"
        )
