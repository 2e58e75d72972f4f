"""The report of a run as one HTML file that needs no network; its facts are those of the JSON."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from rich.filesize import decimal

from service.evaluate.results import kept
from takestream.errors import StorageError, StorageNotFound
from takestream.storage import S3Options, absolute, join
from workers.run.history import STAGES
from workers.store.objects import Objects

REPORTS = "reports"
"""The folder of the reports, beside the stores of an encoder."""

_WORDS = {
    "read": "waiting for bytes", "decode": "decoding", "convert": "converting",
    "encode": "encoding", "write": "writing",
}  # fmt: skip
# Rows of the tables and of the timeline; the JSON has all.
_MOST_ROWS, _MOST_WORKERS = 200, 64
_LEFT, _WIDTH = 260.0, 740.0
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z\.json")


def html_of(facts: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page of a report.

    Args:
        facts: As `service.report.summary.report_facts` gives them; reports of earlier versions,
            which lack `history`, have no timeline.
        evaluations: As `service.evaluate.results.kept` gives them.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("service.report", ""), autoescape=True, trim_blocks=True
    )
    history: Mapping[str, Any] = facts.get("history") or {}
    rows, span = _rows(history.get("workers") or {})
    troubles = list(_troubles(facts))
    what = ", ".join(facts["encoder_ids"])
    settings = {"job": facts["job"], "versions": facts["versions"], "code": facts["git_commit"]}
    return environment.get_template("run.html.j2").render(
        title=f"{facts['takes']['complete']} of {facts['takes']['asked']} takes with {what}",
        facts=facts,
        stages=STAGES,
        cards=list(_cards(facts)),
        rows=rows[:_MOST_WORKERS],
        more_workers=max(0, len(rows) - _MOST_WORKERS),
        span=_duration(span),
        shares=_shares(history.get("stages") or {}),
        slowest=[_slow(unit) for unit in history.get("slowest") or ()],
        troubles=troubles[:_MOST_ROWS],
        more_troubles=max(0, len(troubles) - _MOST_ROWS),
        evaluations=evaluations,
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
    )


def find_report(where: str, s3: S3Options) -> tuple[str, dict[str, Any]]:
    """A report, or the newest of an output.

    Args:
        where: URI of a report, of an encoder's folder, or of an output.
        s3: How to reach it.

    Returns:
        Its URI and its facts.

    Raises:
        StorageNotFound: there is none.
        StorageError: it cannot be read, or is no report.
    """
    where = absolute(where)
    uri = where if where.endswith(".json") else _newest(where, s3)
    folder, _, name = uri.rpartition("/")
    data = Objects(folder, s3).get(name)
    if data is None:
        raise StorageNotFound(f"there is no report at {uri}")
    try:
        facts = json.loads(data)
        if not isinstance(facts, dict) or "report_version" not in facts:
            raise ValueError("it says of itself no version")
    except ValueError as error:
        raise StorageError(f"{uri} is no report of a run: {error}") from None
    return uri, facts


def evaluations_of(uri: str, s3: S3Options) -> list[dict[str, Any]]:
    """The evaluations beside the stores that a report is of.

    Args:
        uri: Of the report.
        s3: How to reach it.

    Raises:
        StorageError: The storage fails.
    """
    return kept(uri.rpartition(f"/{REPORTS}/")[0], s3)


def _newest(where: str, s3: S3Options) -> str:
    folders = [where, *(join(where, name) for name in Objects(where, s3).folders())]
    found = [
        join(folder, REPORTS, name)
        for folder in folders
        for name in Objects(join(folder, REPORTS), s3).listing()
        if _NAME.fullmatch(name)
    ]
    if not found:
        raise StorageNotFound(f"there is no report of a run at {where}: expected OUTPUT")
    return max(found, key=lambda uri: uri.rpartition("/")[2])


def _cards(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    clips, takes, units = facts["clips"], facts["takes"], facts["units"]
    yield "Time", _duration(facts["seconds"])
    yield "Takes complete", f"{takes['complete']:,} of {takes['asked']:,}"
    yield "Clips written", f"{clips['written']:,}"
    if clips["found"]:
        yield "Clips found done", f"{clips['found']:,}"
    yield "Clips invalid", f"{clips['invalid']:,}"
    yield "Units", f"{units['done']:,} done, {units['failed']:,} failed"
    yield "Rate", f"{facts['rates']['clips_per_s']:,.1f} clips/s"
    yield "Read", f"{decimal(facts['bytes_read'])} in {facts['requests']:,} requests"
    yield "Tried again", f"{facts['retries']:,} requests"
    yield "Written", decimal(facts["bytes_written"])
    bill = facts.get("bill") or {}
    if bill:
        yield "Worker hours", _beside(bill["worker_hours"], bill.get("expected_hours"))
    if bill.get("gpu_hours"):
        yield "GPU hours", f"{bill['gpu_hours']:.3f}"
    if bill.get("cost") is not None:
        yield "Cost", _beside(bill["cost"], bill.get("expected_cost"))


def _beside(spent: float, expected: Sequence[float] | None) -> str:
    words = f"{spent:.3f}"
    return words if not expected else f"{words}; planned {expected[0]:.3f} to {expected[2]:.3f}"


def _rows(workers: Mapping[str, Any]) -> tuple[list[dict[str, Any]], float]:
    stretches = [one for some in workers.values() for one in some]
    if not stretches:
        return [], 0.0
    start, stop = min(one[0] for one in stretches), max(one[1] for one in stretches)
    span = max(stop - start, 1e-3)
    return [
        {
            "name": name,
            "bars": [
                {
                    "x": round(_LEFT + _WIDTH * (began - start) / span, 2),
                    "width": round(max(0.8, _WIDTH * (ended - began) / span - 0.4), 2),
                    "failed": failed,
                    "title": f"{_duration(began - start)} to {_duration(ended - start)}:"
                    f" {units} units, {failed} failed",
                }
                for began, ended, units, failed in some
            ],
        }
        for name, some in workers.items()
    ], span


def _shares(stages: Mapping[str, float]) -> list[dict[str, Any]]:
    whole = sum(stages.values())
    if whole <= 0:
        return []
    return [
        {
            "name": name,
            "words": _WORDS[name],
            "seconds": f"{stages[name]:,.1f}",
            "share": round(100 * stages[name] / whole, 2),
            "percent": f"{100 * stages[name] / whole:.0f}",
        }
        for name in STAGES
        if name in stages
    ]


def _slow(unit: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **unit,
        "clips": ", ".join(f"{first} to {stop - 1}" for first, stop in unit["clips"]),
        "streams": ", ".join(unit["streams"]),
        "seconds": f"{unit['seconds']:.1f}",
        "mb": f"{unit['bytes_read'] / 1e6:.1f}",
    }


def _troubles(facts: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for one in facts["failures"]:
        yield {name: one.get(name) or "" for name in ("take", "stream", "kind", "reason")}
    for machine in facts.get("machines_left_out") or ():
        yield {"take": "", "stream": "", "kind": "machine left out", "reason": machine}
    for note in facts.get("machine_notes") or ():
        yield {"take": "", "stream": "", "kind": "machine", "reason": note}
    for take, streams in facts["problems"].items():
        for stream, lines in streams.items():
            for line in lines:
                yield {"take": take, "stream": stream, "kind": "problem", "reason": line}


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
