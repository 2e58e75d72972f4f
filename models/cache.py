"""One copy per machine of files that lie elsewhere."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from fsspec import AbstractFileSystem

# What the filesystems of fsspec call the identity of an object's content, best first.
_IDENTITY = ("ETag", "etag", "md5", "md5Hash", "content_md5", "mtime", "LastModified", "created")


def cache_root() -> Path:
    """`$TAKESTREAM_CACHE`, else `takestream` in `$XDG_CACHE_HOME` or `~/.cache`."""
    if own := os.environ.get("TAKESTREAM_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "takestream"


def cached_copy(uri: str, fs: AbstractFileSystem, files: Mapping[str, str]) -> Path:
    """A local folder with `files` (name → path in `fs`), downloaded unless it is there already.

    The folder is keyed by `uri` and each file's size and ETag (or what stands for it), so changed
    objects are fetched anew. Processes that ask at once wait for one download. A folder appears
    whole or not at all.
    Raises OSError as `fs` does, also when fewer bytes arrive than the object has.
    """
    infos = {name: fs.info(path) for name, path in files.items()}
    key = _key(uri, infos)
    folder = cache_root() / "weights" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _download(fs, files, infos, folder)
    return folder


def _key(uri: str, infos: Mapping[str, Mapping[str, Any]]) -> str:
    facts = {
        name: [info["size"], next((str(info[key]) for key in _IDENTITY if info.get(key)), "")]
        for name, info in infos.items()
    }
    return hashlib.sha256(json.dumps([uri, facts], sort_keys=True).encode()).hexdigest()[:40]


def _download(
    fs: AbstractFileSystem,
    files: Mapping[str, str],
    infos: Mapping[str, Mapping[str, Any]],
    folder: Path,
) -> None:
    parts = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        for name, path in files.items():
            fs.get_file(path, str(parts / name))
            arrived = (parts / name).stat().st_size
            if arrived != infos[name]["size"]:
                raise OSError(f"{path}: {arrived} of {infos[name]['size']} bytes arrived")
        parts.rename(folder)
    except BaseException:
        shutil.rmtree(parts, ignore_errors=True)
        raise
