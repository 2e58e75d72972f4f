"""The command line as a process: signals, and streams that fail."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.children import with_default_signals

CHECKOUT = Path(__file__).parents[3]

WAITS = """
import signal, sys, time
from service.cli.process import take_signals
take_signals()
try:
    print("up", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

# A command that prints its result when its work is done, as `extract` and `takes` do.
PRINTS = """
import sys
import service.cli.main as main
from service.report.console import print_json, result_console
def run(argv):
    for n in range(3000):
        print_json({"n": n})
        result_console().print("rich", n)
        print("progress", file=sys.stderr)
    open(argv[1], "w").write("done")
    return 0
main.run = run
main.main(sys.argv[1:])
"""


def child(script: str, before: Callable[[], None], *words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=CHECKOUT, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, preexec_fn=before,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ignoring(*numbers: signal.Signals) -> Callable[[], None]:
    def before() -> None:
        with_default_signals()
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return before


@pytest.mark.parametrize(
    ("number", "ignored", "interrupts"),
    [
        (signal.SIGINT, (), True),
        (signal.SIGTERM, (), True),
        (signal.SIGHUP, (), True),
        (signal.SIGINT, (signal.SIGINT,), False),  # behind & in a script
        (signal.SIGHUP, (signal.SIGHUP,), False),  # under nohup
        (signal.SIGTERM, (signal.SIGINT, signal.SIGHUP, signal.SIGTERM), True),
        (signal.SIGHUP, (signal.SIGINT,), True),
    ],
)
def test_signals_interrupt_unless_the_parent_ignored_them(
    number: signal.Signals, ignored: tuple[signal.Signals, ...], interrupts: bool
) -> None:
    process = child(WAITS, ignoring(*ignored))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    if interrupts:
        assert process.communicate(timeout=20) == ("interrupted\n", "")
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()
        process.communicate()


@pytest.mark.parametrize("command", ["extract", "takes"])
@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("{} > /dev/null", 0),
        ("{{ {}; echo $? >&3; }} 3>code | head -1", 0),
        ("{{ {}; echo $? >&3; }} 3>code 2>&1 | head -1", 0),
        ("{} >&-", 0),
        ("{} >&- 2>&-", 0),
        ("{} > /dev/full 2>err", None),
        ("{} > /dev/full 2>/dev/full", None),
    ],
)
def test_what_happens_to_stdout_is_not_the_job_s_fault(
    command: str, shell: str, code: int | None, tmp_path: Path
) -> None:
    script, done = tmp_path / "script.py", tmp_path / "done"
    script.write_text(PRINTS)
    words = f"{sys.executable} {script} {command} {done}"
    finished = subprocess.run(
        ["/bin/sh", "-c", shell.format(words)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.read_text() == "done"
    noted = tmp_path / "code"
    found = int(noted.read_text()) if noted.exists() else finished.returncode
    # What a job did is in its stores; of the others the output was the result.
    assert found == (code if code is not None else 0 if command == "extract" else 1)
    assert "Traceback" not in finished.stderr
    if (err := tmp_path / "err").exists():
        assert err.read_text().endswith(
            "takestream: stdout: No space left on device; output is missing\n"
        )
