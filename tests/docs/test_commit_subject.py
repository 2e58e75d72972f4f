"""The hook that looks at the subject of a commit."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty repository with our hooks, so that the hook touches no work of ours."""
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", folder], check=True)
    shutil.copy(ROOT / ".pre-commit-config.yaml", folder)
    subprocess.run(["git", "-C", folder, "add", "."], check=True)
    return folder


@pytest.mark.parametrize(
    ("subject", "good"),
    [
        ("store: derive the layout from one table", True),
        ("service/api: answer HEAD", True),
        ('Revert "store: derive the layout"', True),
        ("fixup! store: derive the layout", True),
        ("derive the layout from one table", False),
        ("store derive", False),
        ("store:no blank", False),
        (f"store: {'a' * 66}", False),
        ("body only\n\nstore: in the body", False),
    ],
)
def test_subjects_have_a_scope_and_fit_a_line(repository: Path, subject: str, good: bool) -> None:
    message = repository / "message"
    message.write_text(f"{subject}\n\nWhy: because of it.\n")
    hook = ["run", "commit-subject", "--hook-stage", "commit-msg", "--commit-msg-filename", message]
    done = subprocess.run(
        [Path(sys.executable).parent / "pre-commit", *hook],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == good, done.stdout + done.stderr
