"""The wheel alone, with nothing but what it declares: no service, no torch, no pickle."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.stores import make_store

ROOT = Path(__file__).parents[2]
ABSENT = ("torch", "ray", "av", "pydantic", "pyarrow", "service", "workers", "configs", "models")

SCRIPT = """
import http.server, importlib.util, io, json, sys, threading
site, store, *absent = sys.argv[1:]
sys.path.insert(0, site)

import takestream
import takestream.schema
heavy = {"xarray", "zarr", "fsspec", "s3fs", "httpx", "numpy"} & set(sys.modules)
assert not heavy, f"import takestream brings in {heavy}"
assert takestream.__file__.startswith(site), takestream.__file__
for name in absent:
    assert importlib.util.find_spec(name) is None, f"{name} can be imported"

ds = takestream.open(store)
assert dict(ds.sizes) == {"clip": 3, "stream": 2, "feature": 4} and ds.features.values.all()

# Without anything that reads Parquet the stores themselves are read.
output = store.rsplit("/", 2)[0]
with open(store.rsplit("/", 1)[0] + "/catalogue.parquet", "wb") as unread:
    unread.write(b"PAR1")
table = takestream.ls(output)
assert (list(table.status), list(table.store)) == (["complete"], [store])
assert list(table.valid_clips) == [6]
assert list(takestream.open(output).children) == list(table.take_name)

import takestream.training.windows, s3fs
try:
    takestream.Windows(store)
except ModuleNotFoundError as error:
    assert "install torch" in str(error)
else:
    raise AssertionError("Windows without torch")

import numpy as np
file = io.BytesIO()
arrays = {name: values.values for name, values in ds.variables.items() if name != "stream"}
np.savez(file, stream=ds.stream.values.tolist(), attributes=json.dumps({"take": {}}), **arrays)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-npz")
        self.end_headers()
        self.wfile.write(file.getvalue())
    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with takestream.Client(f"http://127.0.0.1:{server.server_port}") as client:
    assert client.features("uid-1").features.equals(ds.features.load().drop_attrs())
loaded = {name.partition(".")[0] for name in sys.modules} & set(absent)
assert not loaded, loaded
print("ok")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (path,) = folder.glob("*.whl")
    return path


def closure(requirements: Iterable[str]) -> set[str]:
    """The distributions that these requirements bring, by their names here."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, of_extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {e for n, e in found if n == name}:
            found.add((name, extra))
            waiting += [(Requirement(text), extra) for text in metadata.requires(name) or []]
    return {name for name, _ in found}


def link_only(names: set[str], site: Path) -> None:
    """A folder with these distributions of this environment, by links, and no others."""
    owners: dict[str, set[str]] = {}
    for found in metadata.distributions():
        lines = (found.read_text("RECORD") or "").splitlines()
        for top in {line.partition("/")[0] for line in lines if "/" in line}:
            owners.setdefault(top, set()).add(canonicalize_name(found.name))
    for name in names:
        found = metadata.distribution(name)
        lines = (found.read_text("RECORD") or "").splitlines()
        files = {line.rsplit(",", 2)[0] for line in lines}
        shared = {top for top, who in owners.items() if not who <= names}
        # Whole folders where they are ours alone, else file by file.
        for path in {f if f.partition("/")[0] in shared else f.partition("/")[0] for f in files}:
            target = site / path
            if path.partition("/")[0] not in ("..", "__pycache__") and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(Path(str(found.locate_file(path))))


def test_the_wheel_needs_nothing_else(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = archive.namelist()
    (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    assert {name.partition("/")[0] for name in names} == {"takestream", info}
    (about,) = metadata.distributions(path=[str(site)])
    needed = [text for text in about.requires or [] if "extra ==" not in text]
    assert {Requirement(text).name for text in needed} == {
        "fsspec", "httpx", "numpy", "s3fs", "xarray", "zarr",
    }  # fmt: skip
    link_only(closure(needed), site)
    store = make_store(tmp_path, "encoder-0123456789", "uid-1", "cmu_bike01_2")
    # -I -S: neither this environment's packages nor this folder can be imported.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, str(site), store, *ABSENT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def interpreter(version: str) -> Path:
    """A Python of that version: on the path, or among pyenv's. Skips the test without one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}*/bin/python3")]
    for path in filter(None, found):
        # pyenv puts a program of that name on the path that only says how to choose one.
        if not subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode:
            return Path(path)
    pytest.skip(f"no Python {version} here")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_wheel_on_newer_interpreters(version: str, wheel: Path, tmp_path: Path) -> None:
    found = interpreter(version)
    environment = tmp_path / "environment"
    subprocess.run([found, "-m", "venv", environment], check=True, timeout=120)
    inside = environment / "bin" / "python"
    # The versions of the lock where there are packages of them for this interpreter.
    install = ["-m", "pip", "install", "-q", "-c", ROOT / "requirements.lock", wheel]
    subprocess.run([inside, *install], check=True, timeout=600)
    (site,) = environment.glob("lib/python*/site-packages")
    store = make_store(tmp_path, "encoder-0123456789", "uid-1", "cmu_bike01_2")
    done = subprocess.run(
        [inside, "-I", "-W", "error:::takestream", "-c", SCRIPT, site, store, *ABSENT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
