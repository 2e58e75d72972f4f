"""`takestream sync`: how the cameras of takes stand beside each other."""

import sys
from argparse import Namespace

from rich.text import Text

from service.cli.flags import dataset_job
from service.report.console import print_json, result_console
from service.report.sync import SIGN
from service.report.synctable import print_take, summary, sync_facts, sync_rows, write_sync
from takestream.errors import TakestreamError
from workers.dataset.layouts import dataset_of
from workers.dataset.selection import select, selection_notes
from workers.sync.dataset import Measured, Question, measure_takes


def sync(found: Namespace) -> int:
    """Measure the synchronisation of takes; 1 when one could not be measured."""
    job = dataset_job(found, "sync")
    dataset = dataset_of(job)
    everything = dataset.takes()
    takes = select(everything, job.select)
    for note in (*dataset.notes(), *selection_notes(everything, job.select)):
        print(f"note: {note}", file=sys.stderr)
    question = Question(job, found.method)
    console = result_console()
    measured: list[Measured] = []
    for one in measure_takes(question, takes, found.processes):
        if one.sync is None and one.kind.fatal:
            raise TakestreamError(one.error, kind=one.kind)
        measured.append(one)
        if not found.json:
            print_take(one, console)
    written = write_sync(sync_rows(measured), found.output, job.s3) if found.output else []
    if found.json:
        print_json([sync_facts(one) for one in measured])
    else:
        console.print(Text(summary(measured)), highlight=False)
        console.print(Text(SIGN, style="dim"), highlight=False)
        for uri in written:
            print(f"table: {uri}")
    return 1 if any(one.sync is None for one in measured) else 0
