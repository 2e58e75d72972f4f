"""`takestream sync`: how the cameras of takes stand beside each other."""

from argparse import Namespace

from rich.text import Text

from configs.load import parse
from configs.schema import Selection
from service.cli.flags import overrides
from service.report.console import print_json, result_console
from service.report.sync import SIGN, print_take, summary, sync_facts, sync_rows, write_sync
from takestream.errors import TakestreamError
from takestream.storage import S3Options
from workers.dataset.layouts import open_dataset
from workers.dataset.selection import select
from workers.sync.dataset import Measured, Question, measure_takes


class NotMeasured(TakestreamError):
    """No take can be measured as things are; the error's kind says why."""


def sync(found: Namespace) -> int:
    """Measure the synchronisation of takes; 1 when one could not be measured."""
    selection = parse(Selection, overrides(found).get("select", {}), "filters")
    s3 = S3Options(found.s3_profile, found.endpoint_url)
    everything = open_dataset(found.dataset, selection.resolution, s3).takes()
    takes = select(everything, selection)
    question = Question(found.dataset, selection.resolution, s3, found.method)
    console = result_console()
    measured: list[Measured] = []
    for one in measure_takes(question, takes, found.processes):
        if one.sync is None and one.kind.fatal:
            error = NotMeasured(one.error)
            error.kind = one.kind
            raise error
        measured.append(one)
        if not found.json:
            print_take(one, console)
    written = write_sync(sync_rows(measured), found.output, s3) if found.output else []
    if found.json:
        print_json([sync_facts(one) for one in measured])
    else:
        console.print(Text(summary(measured)), highlight=False)
        console.print(Text(SIGN, style="dim"), highlight=False)
        for uri in written:
            print(f"table: {uri}")
    return 1 if any(one.sync is None for one in measured) else 0
