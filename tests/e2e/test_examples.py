"""What `examples/` holds runs, on stores that a job of the service wrote over S3."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
import s3fs
from nbclient import NotebookClient
from PIL import Image

import takestream
from service.demo.s3server import ObjectStore
from tests.support.serving import service

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


@dataclass
class Made:
    """A service, the output it serves, and what its first client printed."""

    url: str
    output: str
    environment: dict[str, str]
    said: str


def run_example(environment: dict[str, str], name: str, *arguments: object) -> str:
    """What the script printed."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *map(str, arguments)],
        env={**environment, "MPLBACKEND": "Agg", "PYTHONWARNINGS": "error:::__main__"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(
    s3: ObjectStore, example: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """All takes of the example data set, extracted for the example that asks a service for it."""
    dataset, output = s3.make_bucket("examples"), f"{s3.make_bucket('examples-out')}/features"
    files = s3fs.S3FileSystem(**s3.storage_options())
    files.put(f"{example}/", f"{dataset}/egoexo/", recursive=True)
    environment = s3.environment(os.environ)
    log = tmp_path_factory.mktemp("examples") / "log"
    place = ("--dataset", f"{dataset}/egoexo", "--output", output)
    with service(log, environment, *place) as serving:
        said = run_example(environment, "ask_the_service.py", serving.url, "--extract")
        yield Made(serving.url, output, environment, said)


def test_ask_the_service(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ": succeeded, " in made.said
    assert "take beta_duet01_2" in made.said
    assert "'feature': 1280" in made.said
    assert made.said.count("like second 1 of aria01_rgb:") >= 2
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    ds = takestream.open(made.output, take="alpha_balance01_1")
    assert ds.attrs["status"] == "complete"


def test_read_and_plot(made: Made, tmp_path: Path) -> None:
    picture = tmp_path / "similarity.png"
    said = run_example(
        made.environment, "read_and_plot.py", made.output,
        "--take", "beta_duet01_2", "--picture", picture,
    )  # fmt: skip
    assert "take beta_duet01_2" in said
    with Image.open(picture) as drawn:
        assert len(drawn.convert("RGB").getcolors(10**6)) > 50


def test_the_first_lines_for_a_notebook(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the README has them."""
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (lines,) = [block for block in blocks if "takestream.plot(" in block]
    assert "takestream.ls(" in lines
    assert lines.count('"demo/features"') == 2
    mpl.use("Agg")
    exec(lines.replace("demo/features", made.output), {})
    assert len(plt.get_fignums()) >= 1
    plt.close("all")


def test_train(made: Made) -> None:
    said = run_example(
        made.environment, "train.py", made.output, "--length", 4, "--epochs", 40, "--batch", 2
    )
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said.splitlines()[1:]]
    assert len(losses) == 40
    assert losses[-1] < 0.5 * losses[0]


def test_the_notebook(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "examples" / "explore.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without its results"
    for name, value in {**made.environment, "TAKESTREAM_OUTPUT": made.output}.items():
        monkeypatch.setenv(name, value)
    # The kernel of this interpreter, whatever kernels the user has.
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": path.parent}})
    client.execute()
    results = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert sum("image/png" in out.get("data", {}) for out in results) == 2
    assert "'features': torch.Size([4, 6, 1280])" in str(results[-1]["data"])
