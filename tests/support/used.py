"""What a command takes, in a process of its own."""

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CHILD = """
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


@dataclass(frozen=True)
class Used:
    """What a command of takestream took.

    Attributes:
        wall, cpu: seconds.
        mib: the most memory.
        said: both outputs.
    """

    wall: float
    cpu: float
    mib: int
    said: str


def used(*command: str) -> Used:
    """Run a command of takestream. Raises CalledProcessError when it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *command],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    wall = time.perf_counter() - began
    found = re.search(r"^used ([\d.]+) (\d+)$", done.stderr, re.MULTILINE)
    assert found is not None, done.stderr
    return Used(wall, float(found[1]), int(found[2]), done.stdout + done.stderr)
