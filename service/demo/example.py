"""The example data set: a small one in Ego-Exo4D's exact layout, made from real footage.

Two takes. In each, four GoPros are the four synchronised cameras of an original
(:mod:`service.demo.originals`); the Aria glasses that the originals do not have show parts of the
same cameras' pictures. It also has what the real data set has and simple readers trip over: a
capital `Aria` beside `aria01`, cameras named `gp01`, SLAM pictures upright and stretched, eye
cameras with black frames between their pictures, streams with and without sound, entries in
``frame_aligned_videos`` that are no cameras, nulls, a stream that is a frame shorter than the
others, indexes at the front and at the end of files.

On every picture of the first take its own frame number is burned in; see
:func:`service.demo.footage.read_frame_number`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from service.demo.annotated import write_annotations
from service.demo.entries import entry, is_ours
from service.demo.scenes import encode_take
from service.demo.takes import TAKES, video_paths


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
    text = json.dumps(entries, indent=2) + "\n"
    if _is_finished(directory, text):
        write_annotations(directory, uids)
        return directory
    _refuse_other_data(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # Beside it and not in it, so that nobody who lists the data set sees unfinished files.
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
        for take in TAKES:
            encode_take(take, Path(scratch))
        catalogue = directory / "takes.json"
        if catalogue.exists():  # of this example: an earlier one had other files
            shutil.rmtree(directory / "takes", ignore_errors=True)
            catalogue.unlink()
        for path in video_paths():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(scratch, path), directory / path)
        write_annotations(directory, uids)
        Path(scratch, "takes.json").write_text(text)
        os.replace(Path(scratch, "takes.json"), catalogue)
    return directory


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
