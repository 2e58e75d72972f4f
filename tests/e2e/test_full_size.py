"""Commands over a data set of the release's size: 5,035 takes, 40,280 videos, 40 MB of JSON."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.release import StandIn

ARIA = {"rgb": "a_214-1", "slam-left": "a_1201-1", "slam-right": "a_1201-2", "et": "a_211-1"}
CAMERAS = {"aria01": ARIA, **{f"cam0{n}": {"0": f"cam0{n}"} for n in range(1, 5)}}
# Seconds of CPU and MB of memory that a command may take.
SECONDS, MEGABYTES = 6.0, 250
MEASURED = """
import re, resource, sys
from pathlib import Path
from takestream.__main__ import main
try:
    main()
except SystemExit as end:
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss, which begins with what the process had that started this one.
    most = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
    print("used", used.ru_utime + used.ru_stime, int(most[1]) // 1024, file=sys.stderr)
    sys.exit(end.code)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    release = StandIn()
    for number in range(5035):
        release.add(f"university_task{number:04}_1", f"ego4d-{number % 12}", CAMERAS)
        # About as long as the real ones.
        release.takes[-1]["objects"] = ["0123456789abcdef" * 2] * 60
    return release.write(tmp_path_factory.mktemp("release"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("takes", "{}"), "5035 takes, 35245 streams, 35.2 MB"),
        (("takes", "{}", "--resolution", "448", "--json"), '"size":'),
        (("plan", "--dataset", "{}", "--output", "{}/out"), "35.24 MB (33.61 MiB) to read"),
    ],
)
def test_it_takes_little(root: str, command: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *(word.format(root) for word in command)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert said in done.stdout + done.stderr
    used = re.search(r"^used ([\d.]+) (\d+)$", done.stderr, re.MULTILINE)
    assert used is not None
    assert float(used[1]) <= SECONDS
    assert int(used[2]) <= MEGABYTES
