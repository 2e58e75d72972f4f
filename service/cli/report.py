"""`takestream report`: how a run went, again."""

from argparse import Namespace
from pathlib import Path

from service.cli.outputs import storage_of
from service.report.console import print_json
from service.report.run import evaluations_of, find_report, html_of
from service.report.table import print_rows

_STAGES = ("stage", "seconds")
_UNITS = ("take", "clips", "worker", "seconds", "slowest stage")


def report(found: Namespace) -> int:
    """Show the report of a run, or write it as a page."""
    uri, facts = find_report(found.where, storage_of(found))
    if found.html:
        path = Path(found.html)
        page = html_of(facts, evaluations_of(uri, storage_of(found)))
        path.write_text(page, encoding="utf-8")
        print(path)
        return 0
    if found.json:
        print_json(facts)
        return 0
    takes, clips, history = facts["takes"], facts["clips"], facts.get("history") or {}
    print(uri)
    print(
        f"{takes['complete']} of {takes['asked']} takes complete, {clips['written']} clips written,"
        f" {len(facts['failures'])} failures, {facts['seconds']:.1f} s"
    )
    stages = history.get("stages") or {}
    print_rows(_STAGES, [(name, f"{seconds:.1f}") for name, seconds in stages.items()])
    rows = [
        (
            str(unit["take"]),
            " ".join(f"{first}-{stop - 1}" for first, stop in unit["clips"]),
            str(unit["worker"]),
            f"{unit['seconds']:.1f}",
            str(max(unit["stages"], key=unit["stages"].__getitem__)),
        )
        for unit in history.get("slowest") or ()
    ]
    print_rows(_UNITS, rows)
    for failure in facts["failures"]:
        print(f"{failure['take']} {failure['stream'] or ''}: {failure['reason']}")
    return 0
