"""`takestream facts`: what stores carry of the data set's words, and bringing it up to date."""

import sys
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from service.jobs.facts import FactsRefreshed, refresh_output_facts
from service.report.console import print_json
from service.report.table import print_rows
from service.report.versions import chosen_rows
from takestream.catalogue import folders_of
from takestream.facts import COLUMNS
from takestream.storage import S3Options, absolute

_SPARE = (
    "duration_sec", "capture_uid", "physical_setting_uid", "take_uid", "is_narrated",
    "timesync_validated", "validated", "task_id", "parent_task_id", "best_exo", "capture",
    "benchmarks", "task_start_sec", "task_end_sec", "university", "parent_task",
)  # fmt: skip


def facts(found: Namespace) -> int:
    """List what the stores of an output say of their takes; with `--refresh`, renew it first."""
    s3 = S3Options(found.s3_profile, found.endpoint_url, anon=bool(found.anon))
    output = absolute(found.output)
    if found.refresh:
        refreshed = refresh_output_facts(
            output, s3, encoder=found.encoder,
            dataset=None if found.dataset is None else absolute(found.dataset),
        )  # fmt: skip
        return _refreshed(refreshed, as_json=found.json)
    by_uid: dict[str, dict[str, Any]] = {}
    for folder in folders_of(output, found.encoder, s3):
        for row in chosen_rows(folder.rows(s3), found.where):
            by_uid.setdefault(row["take_uid"], {name: row[name] for name in COLUMNS})
    rows = list(by_uid.values())
    if found.form == "json":
        print_json(rows)
        return 0
    # The name first: it is what one looks for.
    names = ["take_name", *(name for name in COLUMNS if name != "take_name")]
    cells = [tuple(_cell(row[name]) for name in names) for row in rows]
    print_rows(names, cells, form=found.form, spare=_SPARE)
    return 0


def _refreshed(done: list[FactsRefreshed], *, as_json: bool) -> int:
    failed = [uri for one in done for uri in one.unreadable]
    if as_json:
        print_json([asdict(one) for one in done])
        return 1 if failed else 0
    for one in done:
        print(
            f"{one.encoder_id}: {len(one.changed)} stores say what {one.dataset} says now,"
            f" {one.same} said it already"
        )
        if one.unknown:
            some = ", ".join(one.unknown[:3])
            print(f"  {len(one.unknown)} are of takes that it does not have ({some} …)")
        for uri, why in one.unreadable.items():
            print(f"takestream: {uri}: {why}", file=sys.stderr)
    if not done:
        print("there are no stores")
    return 1 if failed else 0


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
