"""Every program that `make bench` names runs on today's code, with as little work as it takes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LITTLE = {
    "": "",
    "stages": "--frames 64 --rounds 1",
    "remote": "--frames 400 --rounds 1",
    "runtimes": "--rounds 1 --only efficientnet_lite",
    "reference": "--frames 80",
    "memory": "--minutes 0.2 --streams 2",
    "service": "--asked 5 --more 20",
    "evaluate": "--takes 40 --streams 2 --dim 32",
    "windows": "",
    "startup": "--rounds 1",
    "dispatch": "--takes 20 --workers 1",
    "simulate": "--gpus 1 256",
}


def programs() -> list[str]:
    """Names of the programs in the recipe of `make bench`."""
    recipe = (ROOT / "Makefile").read_text().partition("\nbench: ")[2].partition("\n\n")[0]
    return re.findall(r"-m tests\.benchmarks\.?(\w*)", recipe)


@pytest.mark.slow
@pytest.mark.parametrize("program", dict.fromkeys(programs()))
def test_it_runs(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{program}".rstrip("."), *LITTLE[program].split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d", done.stdout)


def test_the_table_above_names_all_of_them_and_no_other() -> None:
    assert set(programs()) == set(LITTLE)


def test_the_simulation_writes_what_it_prints(tmp_path: Path) -> None:
    where = tmp_path / "found.json"
    command = ["-m", "tests.benchmarks.simulate", "--gpus", "4", "--takes", "300", "--price", "2"]
    done = subprocess.run(
        [sys.executable, *command, "--json", str(where)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    runs = json.loads(where.read_text())["runs"]
    real = next(run for run in runs if run["order"] == "longest first")
    assert (real["gpus"], real["workers"]) == (4, 12)
    assert real["cost"] == pytest.approx(2 * 4 * real["makespan"] / 3600)
    assert f"{real['ratio']:.3f}" in done.stdout
