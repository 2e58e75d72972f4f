"""Where results are printed."""

import json
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

import orjson
from rich.console import Console

_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def result_console(*, to_stderr: bool = False) -> Console:
    """The console of a command's result: the terminal, or wide plain text for a pipe."""
    file = sys.stderr if to_stderr else sys.stdout
    if file.isatty():
        return Console(file=file)
    # Without a terminal there is no width to fit into, and cut words help no script.
    return Console(file=file, width=200, soft_wrap=True)


def print_json(value: Any) -> None:
    """`value` on stdout as JSON."""
    print(_dumped(value))


def print_json_list(values: Iterable[Any]) -> None:
    """The list of the values on stdout as JSON, one after the other: it may be long."""
    between = "[\n"
    for value in values:
        sys.stdout.write(between + textwrap.indent(_dumped(value), "  "))
        between = ",\n"
    print("[]" if between == "[\n" else "\n]")


def _dumped(value: Any) -> str:
    try:
        return orjson.dumps(value, option=_OPTIONS).decode()
    except (TypeError, ValueError):  # half a character, or more than 64 bits
        return json.dumps(value, indent=2, ensure_ascii=False)
