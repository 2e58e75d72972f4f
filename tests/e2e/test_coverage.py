"""`make coverage` counts the lines that run in Ray's workers."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from workers.run.extract import UnitExtractor
from workers.run.worker import Worker

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


def test_lines_of_a_unit_are_counted(
    make_video: Callable[..., Path],
    make_dataset: Callable[[Mapping[str, Mapping[str, Path]]], Path],
    tmp_path: Path,
) -> None:
    dataset = make_dataset({"one": {"cam01_0": make_video(frames=40)}})
    path = [str(ROOT / "tests" / "support" / "coverage"), str(ROOT)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "COVERAGE_FILE": str(tmp_path / "data"),
    }

    def coverage(*arguments: object) -> None:
        subprocess.run(
            [sys.executable, "-m", "coverage", *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=250,
        )

    job = ("extract", "--dataset", dataset, "--output", tmp_path / "features")
    coverage("run", "-m", "takestream", *job)
    coverage("combine", "-q")
    coverage("json", "-q", "-o", tmp_path / "report.json")
    files = json.loads((tmp_path / "report.json").read_text())["files"]
    worker = Worker.__ray_metadata__.modified_class  # type: ignore[attr-defined]
    for method in (UnitExtractor.extract, UnitExtractor._parts, inspect.unwrap(worker.run)):
        name = str(Path(inspect.getsourcefile(method) or "").relative_to(ROOT))
        lines, first = inspect.getsourcelines(method)
        ran = set(files[name]["executed_lines"])
        body = range(first + 1, first + len(lines))
        assert ran & set(body), f"{name}: {method.__qualname__}"
