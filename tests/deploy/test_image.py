"""The image: linted, and where `buildah` is, built on Debian and its demo run as its own user.

Builds take minutes and several GB. `TAKESTREAM_BUILD` holds more arguments of `buildah build`, such
as `--volume` and `--build-arg` for a mirror of the packages.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/image/Containerfile"
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
    "hadolint"
)
MIRROR = "http://deb.debian.org/debian"


def ran(*words: object, seconds: float = 300) -> str:
    run = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=seconds
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint (requirements.txt here)")
def test_the_file_is_sound() -> None:
    assert ran(HADOLINT, FILE) == ""


def test_it_holds_what_runs_and_no_more() -> None:
    copied = {
        words[1]
        for line in FILE.read_text().splitlines()
        if (words := line.split())[:1] == ["COPY"] and not words[1].startswith("--")
    }
    assert {"takestream", "configs", "models", "workers", "service"} <= copied
    assert copied <= {path.name for path in ROOT.iterdir()}
    assert not copied & {"tests", "docs", ".git", "."}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    shutil.which("buildah") is None or shutil.which("debootstrap") is None or os.getuid() != 0,
    reason="needs buildah and debootstrap, as root",
)
def test_it_is_built_and_its_demo_runs(tmp_path: Path) -> None:
    buildah = ["buildah", "--storage-driver", "vfs", "--root", tmp_path / "store",
               "--runroot", tmp_path / "run"]  # fmt: skip
    packages = "--include=python3,python3-venv,ca-certificates"
    ran(
        "debootstrap",
        "--variant=minbase",
        packages,
        "bookworm",
        tmp_path / "base",
        MIRROR,
        seconds=900,
    )
    base = ran(*buildah, "from", "scratch").strip()
    ran(*buildah, "copy", base, tmp_path / "base", "/")
    ran(*buildah, "commit", base, "localhost/base")
    shutil.rmtree(tmp_path / "base")
    ran(
        *buildah, "build", "--isolation", "chroot", "--network", "host", "--format", "docker",
        "--build-arg", "BASE=localhost/base", "--build-arg", "TORCH_INDEX=",
        *shlex.split(os.environ.get("TAKESTREAM_BUILD", "")),
        "-t", "takestream", "-f", FILE, ROOT, seconds=2400,
    )  # fmt: skip
    made = ran(*buildah, "from", "takestream").strip()

    def inside(*words: str, seconds: float = 300) -> str:
        # What Kubernetes gives a pod that may write to two places alone.
        return ran(*buildah, "run", "--isolation", "chroot", made, "--", *words, seconds=seconds)

    assert inside("id", "-u").strip() == "1000"
    assert "takestream" in inside("takestream", "--version")
    sbom = json.loads(inside("cat", "/usr/share/takestream/sbom.cdx.json"))
    assert {"torch", "ray", "av", "zarr"} <= {one["name"] for one in sbom["components"]}
    assert "complete" in inside("takestream", "demo", "--dir", "/tmp/demo", seconds=600)
