"""The shape of the checkout: imports flow one way, no file is long, no warning is ours."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_imports_flow_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


LONGEST = 400


def test_no_python_file_is_long() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    files = [name for name in listed if (ROOT / name).is_file()]
    assert len(files) > 100
    found = {name for name in files if len((ROOT / name).read_text().splitlines()) > LONGEST}
    assert found == set()


@pytest.mark.parametrize(
    ("module", "ours"),
    [("workers.media.decode", True), ("takestream", True), ("workersome", False), ("ray", False)],
)
def test_a_warning_that_our_code_causes_is_an_error(module: str, ours: bool) -> None:
    def cause() -> None:
        warnings.warn_explicit("old", DeprecationWarning, "x.py", 1, module=module, registry={})

    if ours:
        with pytest.raises(DeprecationWarning):
            cause()
    else:
        with warnings.catch_warnings(record=True):
            cause()
