"""The shape of the checkout: imports flow one way, and no file is long."""

import subprocess
import sys
from pathlib import Path

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
# Longer than that for now; each leaves this list when it is split.
TOO_LONG = {
    "tests/e2e/test_page.py",
    "tests/service/jobs/test_manager.py",
    "tests/takestream/client/test_client.py",
    "tests/takestream/training/test_windows.py",
    "tests/workers/media/test_decode.py",
    "tests/workers/store/test_takestore.py",
}


def test_no_python_file_is_long() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    files = [name for name in listed if (ROOT / name).is_file()]
    assert len(files) > 100
    found = {name for name in files if len((ROOT / name).read_text().splitlines()) > LONGEST}
    assert found - TOO_LONG == set()
