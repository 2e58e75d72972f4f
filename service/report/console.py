"""Where results are printed."""

import json
import sys
from typing import Any

from rich.console import Console


def result_console(*, to_stderr: bool = False) -> Console:
    """The console of a command's result: the terminal, or wide plain text for a pipe."""
    file = sys.stderr if to_stderr else sys.stdout
    if file.isatty():
        return Console(file=file)
    # Without a terminal there is no width to fit into, and cut words help no script.
    return Console(file=file, width=200, soft_wrap=True)


def print_json(value: Any) -> None:
    """`value` on stdout as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
