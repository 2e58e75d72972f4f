"""How a run ended: as facts for a script, as a file beside the stores, as a few lines to read."""

import json
import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from rich.console import Console
from rich.filesize import decimal
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from service.report.ending import failures_of, why_not_ok
from service.report.estimate import bill_lines
from service.report.progress import rates
from service.report.run import REPORTS, html_of
from takestream.errors import ErrorKind, StorageError
from takestream.storage import join
from workers.run.provenance import versions
from workers.run.recipe import Recipe
from workers.run.report import Report
from workers.store.objects import PROBE_PATIENCE, Objects

log = logging.getLogger(__name__)

REPORT_VERSION = 1

# Of problems and of failures each, in the summary.
_MOST_ROWS = 20
# What a run of less cost is nobody's concern.
LEAST_HOURS = 0.005
# So many streams with the same trouble are named one by one, more as one line.
_NAMED = 3


class _Trouble(NamedTuple):
    """Something wrong with a take, or with a stream of it, in plain words."""

    take: str
    stream: str | None
    words: str

    @property
    def kind(self) -> str:
        """The words without their numbers: the same for the same kind of trouble."""
        return re.sub(r"\d+(?:\.\d+)?", "#", self.words)

    @property
    def where(self) -> str:
        return self.take if self.stream is None else f"{self.take} {self.stream}"


def report_facts(recipe: Recipe, report: Report) -> dict[str, Any]:
    """Everything about a run that a script may want, JSON-able; the keys are always the same.

    Clips are counted per stream: a take of 10 clips and 4 streams has 40. `clips.total` is of the
    takes that were prepared, `clips.found` of them were in the stores already.
    """
    progress = report.progress
    counts = progress.counts
    return {
        "report_version": REPORT_VERSION,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "ok": report.ok,
        "encoder_ids": list(recipe.encoder_ids),
        "encoder_id": recipe.target.encoder_id,
        "dataset": recipe.job.dataset,
        "output": recipe.job.output,
        "stores": list(report.stores),
        "takes": {
            "asked": progress.takes,
            "prepared": progress.takes_prepared,
            "complete": progress.takes_done,
            "untouched": report.untouched,
        },
        "units": {
            "planned": progress.units,
            "done": progress.units_done,
            "failed": progress.units_failed,
        },
        "clips": {
            "total": progress.clips,
            "found": progress.clips_skipped,
            "written": progress.clips_done,
            "invalid": progress.clips_invalid,
            "failed": progress.clips_failed,
        },
        "streams": {"asked": report.losses.streams, "lost": report.losses.by_take},
        "bytes_read": int(counts.get("bytes_read", 0)),
        "bytes_written": int(counts.get("bytes_written", 0)),
        "requests": int(counts.get("requests", 0)),
        "retries": int(counts.get("retries", 0)),
        "frames_decoded": int(counts.get("frames_decoded", 0)),
        "seconds": round(progress.seconds, 3),
        "bill": None if report.bill is None else report.bill.facts(),
        "rates": {name: round(value, 3) for name, value in rates(progress).items()},
        "counts": dict(counts),
        "problems": {
            take: {stream: list(lines) for stream, lines in streams.items()}
            for take, streams in report.problems.items()
        },
        "failures": failures_of(report),
        "machines_left_out": list(report.left_out),
        "read_from": report.places.objects,
        "machine_notes": list(report.places.notes),
        "history": report.history.facts(),
        "job": recipe.job.model_dump(mode="json"),
        "git_commit": recipe.git_commit,
        "versions": versions(),
    }


def write_report(recipe: Recipe, report: Report) -> str | None:
    """Write the facts to `<output>/<encoder_id>/reports/<UTC time>.json`, for each encoder.

    Beside it, as `.html`, the same as a page.

    Returns:
        The URI of the first; None, and a warning in the log, when one cannot be written: the
        features are what the run was for.
    """
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    facts = report_facts(recipe, report)
    data = {
        f"{name}.json": json.dumps(facts, indent=2).encode(),
        f"{name}.html": html_of(facts).encode(),
    }
    away = any(failure.kind is ErrorKind.OUTAGE for failure in report.failures)
    try:
        folders = [
            Objects(
                join(recipe.job.output, encoder_id, REPORTS),
                recipe.output_s3,
                patience=PROBE_PATIENCE if away else None,
            )
            for encoder_id in recipe.encoder_ids
        ]
        for folder in folders:
            folder.put_many(data)
    except StorageError as error:
        log.warning("the report of this run was not written: %s", error)
        return None
    return join(folders[0].uri, f"{name}.json")


def print_summary(
    recipe: Recipe,
    report: Report,
    console: Console,
    where: str | None = None,
    *,
    next_steps: bool = True,
) -> None:
    """Print what was done, what was found done, what is wrong with which streams, what is next.

    where: the URI of the report, as `write_report` gives it.
    next_steps: end with what to do next with the stores.
    """

    def say(words: str, style: str = "") -> None:
        console.print(Padding(Text(words, style), (0, 0, 0, 2), expand=False), highlight=False)

    def head(words: str, style: str = "bold") -> None:
        console.print(Text(words, style), highlight=False)

    def listed(troubles: Sequence[_Trouble], style: str) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(max_width=36, overflow="fold")
        table.add_column(overflow="fold", style=style)
        rows, more = _rows(troubles)
        for subject, words in rows:
            table.add_row(Text(subject), Text(words))
        console.print(Padding(table, (0, 0, 0, 2), expand=False), highlight=False)
        if more:
            say(f"… and {more:,} more" + (" in the report" if where else ""))

    head(_headline(report), "bold" if report.ok else "bold red")
    if lost := report.losses.words:
        say(lost, "red" if report.losses.strict else "yellow")
    for words in _numbers(recipe, report):
        say(words)
    # Not wrapped, as what is below "Next": URIs and commands are there to be copied.
    folders = [join(recipe.job.output, name) for name in recipe.encoder_ids]
    places = [*(("stores", folder) for folder in folders), ("report", where)]
    for name, place in places:
        if place:
            console.print(Text(f"  {name}: {place}"), highlight=False, soft_wrap=True)
    problems = [
        _Trouble(take, stream, words)
        for take, streams in report.problems.items()
        for stream, lines in streams.items()
        for words in lines
    ]
    if problems:
        head(f"\nProblems with {_extent(problems)}, kept in the stores' attributes")
        listed(problems, "yellow")
    fatal = [failure.reason for failure in report.failures if failure.fatal]
    if fatal:
        head("\nWhy it stopped")
        # Every worker fails in the same words.
        say(fatal[0], "red")
    failures = [_Trouble(f.take, f.stream, f.reason) for f in report.failures if not f.fatal]
    if failures:
        head("\nFailures")
        listed(failures, "red")
    elif not report.ok and not fatal:
        head("\nFailures")
        say(why_not_ok(report) or "", "red")
    if not next_steps:
        return
    head("\nNext")
    for words in _next(recipe, report):
        console.print(Text(f"  {words}"), highlight=False, soft_wrap=True)


def _headline(report: Report) -> str:
    progress = report.progress
    now = progress.takes_done - report.untouched
    of = f"{progress.takes_done} of {_count(progress.takes, 'take')}"
    if any(failure.fatal for failure in report.failures):
        return f"The run stopped early; {of} complete"
    if report.untouched == progress.takes:
        return f"Nothing to do: {_count(progress.takes, 'take')} complete already"
    found = f" ({now} now, {report.untouched} before)" if report.untouched else ""
    return f"{of} complete{found}"


def _numbers(recipe: Recipe, report: Report) -> Iterator[str]:
    progress = report.progress
    counts = progress.counts
    clips = []
    if progress.clips_done:
        bad = f" ({progress.clips_invalid:,} of them invalid)" if progress.clips_invalid else ""
        clips.append(f"{progress.clips_done:,} written{bad}")
    if progress.clips_skipped:
        clips.append(f"{progress.clips_skipped:,} found in the stores")
    if progress.clips_failed:
        clips.append(f"{progress.clips_failed:,} given up")
    if clips:
        yield f"clips, counted for each stream: {', '.join(clips)}"
    read, written = int(counts.get("bytes_read", 0)), int(counts.get("bytes_written", 0))
    if read or written:
        requests = f" in {_count(int(counts.get('requests', 0)), 'request')}"
        retries = int(counts.get("retries", 0))
        again = f", {retries:,} of them tried again" if retries else ""
        yield f"{decimal(read)} read{requests}{again}; {decimal(written)} written"
    if on_gpu := int(counts.get("frames_converted_gpu", 0)):
        decoded, nvdec = (
            int(counts.get(name, 0)) for name in ("frames_decoded", "frames_decoded_gpu")
        )
        yield (
            f"{_count(on_gpu, 'picture')} made on the GPU;"
            f" NVDEC decoded {nvdec:,} of {_count(decoded, 'frame')}"
        )
    if halved := int(counts.get("out_of_memory", 0)):
        yield f"out of GPU memory {_count(halved, 'time')}: batches were halved"
    if lost := int(counts.get("workers_lost", 0)):
        yield f"{_count(lost, 'worker')} died or hung and had to be replaced"
    for machine in report.left_out:
        yield f"machine left out: {machine}"
    if recipe.job.mirrors and (places := report.places.objects):
        yield "read from " + ", ".join(
            f"{place} ({_count(n, 'object')})" for place, n in places.items()
        )
    yield from report.places.notes
    if progress.clips_done:
        speed = rates(progress)
        yield (
            f"{_duration(progress.seconds)}: {speed['clips_per_s']:.1f} clips/s,"
            f" {speed['frames_per_s']:,.0f} frames/s, {speed['mb_per_s']:.1f} MB/s read"
        )
    else:
        yield _duration(progress.seconds)
    if report.bill is not None and report.bill.worker_hours >= LEAST_HOURS:
        yield from bill_lines(report.bill)


def _next(recipe: Recipe, report: Report) -> Iterator[str]:
    # Only what it takes to reach the store; how long we wait for it is our own concern.
    s3_options = recipe.output_s3
    reach = {"profile": s3_options.profile, "endpoint_url": s3_options.endpoint_url}
    if not recipe.job.output.startswith(("s3://", "s3a://")):
        reach = {}
    s3 = {name: value for name, value in reach.items() if value}
    if report.failures or report.progress.units_failed:
        fatal = any(failure.fatal for failure in report.failures)
        first = "Set that right, then run" if fatal else "Run"
        yield f"{first} the same command again: it does only what is missing."
    if report.stores:
        store = report.stores[0]
        flags = {"profile": "--s3-profile", "endpoint_url": "--endpoint-url"}
        named = [word for key, value in s3.items() for word in (flags[key], value)]
        yield shlex.join(["takestream", "inspect", store, *named])
        options = f", storage_options={s3!r}" if s3 else ""
        yield f"python: xarray.open_zarr({store!r}{options})"


def _rows(troubles: Sequence[_Trouble]) -> tuple[list[tuple[str, str]], int]:
    """Who has which trouble: a row for each when few have it, one row for all when many do.

    Also how many troubles did not get a row.
    """
    kinds: dict[str, list[_Trouble]] = {}
    for trouble in troubles:
        kinds.setdefault(trouble.kind, []).append(trouble)
    rows: list[tuple[str, str]] = []
    covered = 0
    for alike in sorted(kinds.values(), key=len, reverse=True):
        if len(alike) > _NAMED:
            found = [(_extent(alike), f"e.g. {alike[0].where}: {alike[0].words}")]
        else:
            found = [(one.where, one.words) for one in alike]
        if len(rows) + len(found) > _MOST_ROWS:
            break
        rows += found
        covered += len(alike)
    return rows, len(troubles) - covered


def _extent(troubles: Iterable[_Trouble]) -> str:
    """How many streams of how many takes."""
    where = {(trouble.take, trouble.stream) for trouble in troubles}
    takes = _count(len({take for take, _ in where}), "take")
    return (
        takes if all(s is None for _, s in where) else f"{_count(len(where), 'stream')} of {takes}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))
