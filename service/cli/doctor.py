"""`doctor`: what is here and whether it works, to paste into a bug report."""

from argparse import Namespace
from collections import Counter
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from service.report.checks import checks_of
from service.report.console import print_json, result_console
from takestream.storage import S3Options

STYLES = {"ok": "green", "warning": "yellow", "fault": "red"}


def doctor(found: Namespace) -> int:
    """Look at this machine, and at the URIs given; 1 when something would stop a job."""
    s3 = S3Options(found.s3_profile, found.endpoint_url, anon=bool(found.anon))
    checks = list(checks_of(found.uris, found.output, s3, start_ray=not found.no_ray))
    stops = [check for check in checks if check.status == "fault"]
    if found.json:
        print_json({"ok": not stops, "checks": [asdict(check) for check in checks]})
        return 1 if stops else 0
    console = result_console()
    # A pipe gets a line a check, a terminal what does not fit below the words.
    table = Table.grid(padding=(0, 1, 0, 0))
    for check in checks:
        cells = Text(f"{check.name:<10}"), Text(f"{check.status:<7}", STYLES[check.status])
        if console.is_terminal:
            table.add_row(*cells, Text(check.words))
        else:
            console.print(Text(" ").join([*cells, Text(check.words)]), highlight=False)
    if console.is_terminal:
        console.print(table)
    count = Counter(check.status for check in checks)
    if stops:
        console.print(f"{count['fault']} of {len(checks)} checks found what stops a job")
    elif count["warning"]:
        console.print(f"a job can run here; {count['warning']} of {len(checks)} checks warn")
    else:
        console.print("a job can run here")
    return 1 if stops else 0
