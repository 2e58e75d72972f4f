"""What each command of the command line does; every function returns the exit code."""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from configs.load import SettingsError, encoder_presets, load_job, parse
from configs.schema import EncoderChoice, Selection, ServeSpec
from models.weights import is_here
from service.cli.flags import dataset_job, flags_of, overrides
from service.cli.jobs import jobs, logs, perform, stop, submit
from service.cli.plan import narrowed, plan
from service.cli.serve_flags import limits
from service.cli.verify import damage_line
from service.jobs.choose import choose
from service.jobs.driver import run_here
from service.jobs.mend import set_aside_damage
from service.report.console import print_json, print_json_list, result_console
from service.report.inspect import describe_store, print_store
from service.report.licences import NON_COMMERCIAL, is_non_commercial
from service.report.listing import (
    ENCODERS,
    TAKES,
    encoder_row,
    take_facts,
    take_row,
)
from service.report.progress import progress_display
from service.report.summary import print_summary, report_facts
from service.report.table import print_rows
from takestream.facts import fits
from takestream.storage import S3Options
from workers.dataset.guess import COLUMNS, guess_table
from workers.dataset.layouts import dataset_of
from workers.dataset.selection import select, selection_notes

__all__ = [
    "demo", "encoders", "extract", "inspect", "jobs", "logs", "perform", "plan", "serve",
    "serve_demo", "stop", "submit", "takes",
]  # fmt: skip


def takes(found: Namespace) -> int:
    """List takes and streams with sizes; what is missing is marked."""
    if found.guess:
        return _guess(found)
    job = dataset_job(found, "takes")
    selection = job.select
    dataset = dataset_of(job)
    everything = dataset.takes()
    chosen = [take for take in select(everything, selection) if fits(take.facts(), found.where)]
    sizes = dataset.sizes(chosen)
    for note in (*dataset.notes(), *selection_notes(everything, selection)):
        print(f"note: {note}", file=sys.stderr)
    if found.form == "json":
        print_json_list(take_facts(take, sizes) for take in chosen)
        return 0
    rows = [take_row(take, sizes) for take in chosen]
    print_rows(TAKES, rows, form=found.form, spare=("take_uid", "streams", "university", "task"))
    if found.form == "csv":
        return 0
    # In a pipe the rows are all that stdout holds.
    console = result_console(to_stderr=not sys.stdout.isatty())
    total = sum(size or 0 for size in sizes.values())
    streams = sum(len(take.streams) for take in chosen)
    console.print(f"{len(chosen)} takes, {streams} streams, {total / 1e6:.1f} MB")
    if empty := [take.name for take in everything if not take.streams]:
        console.print(f"without any camera stream in takes.json: {', '.join(empty)}")
    _hint_resolution(selection, sizes)
    return 0


def _guess(found: Namespace) -> int:
    """Print a proposed table of cameras; what to look at goes to stderr."""
    guess = guess_table(found.dataset, _s3(found))
    for note in guess.notes:
        print(f"note: {note}", file=sys.stderr)
    if found.json:
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in guess.rows])
    else:
        print(guess.csv(), end="")
    return 0


def extract(found: Namespace) -> int:
    """Run a job."""
    chosen = choose(load_job(found.job, overrides(found), flags_of(found)))
    chosen = replace(chosen, takes=narrowed(found, chosen.recipe, chosen.takes))
    if not chosen.takes:
        print("nothing to do: no take has changed")
        return 0
    if found.check:
        for report in set_aside_damage(chosen):
            print(f"takestream: {damage_line(report)}", file=sys.stderr)
    with progress_display(quiet=found.json) as show:
        finished = run_here(chosen, show)
    if found.json:
        facts = report_facts(chosen.recipe, finished.report)
        print_json({**facts, "report": finished.where})
    else:
        print_summary(chosen.recipe, finished.report, result_console(), finished.where)
    return finished.end.exit_code


def encoders(found: Namespace) -> int:
    """List the presets; which one is the default, and which have their weights here.

    Raises:
        SettingsError: `--record` or `--weights` without `--check`.
    """
    if found.check is not None:
        from service.cli.check import check_encoders  # torch takes seconds to import

        return check_encoders(found)
    if found.record or found.weights:
        raise SettingsError("--record and --weights are for a check: give --check NAME too")
    presets = encoder_presets()
    default = EncoderChoice().preset
    here = {name: is_here(spec.weights) for name, spec in presets.items()}
    if found.form == "json":
        print_json(
            [
                {
                    **spec.model_dump(mode="json"),
                    "default": name == default,
                    "here": here[name],
                    "non_commercial": is_non_commercial(spec),
                }
                for name, spec in presets.items()
            ]
        )
        return 0
    rows = [
        encoder_row(spec, default=name == default, here=here[name])
        for name, spec in presets.items()
    ]
    print_rows(ENCODERS, rows, form=found.form, spare=("weights", "licence", "input"))
    if found.form == "table":
        named = [f"{name} ({s.licence})" for name, s in presets.items() if is_non_commercial(s)]
        console = result_console(to_stderr=True)
        for words in (
            f"{NON_COMMERCIAL}: {', '.join(named)}",
            "here: its weights are on this machine, so it works offline",
        ):
            console.print(words, highlight=False)
    return 0


def inspect(found: Namespace) -> int:
    """Describe a store, and draw it when asked to."""
    facts = describe_store(found.store, _s3(found))
    if found.picture:
        from service.report.drawing import draw_store

        draw_store(found.store, Path(found.picture), _s3(found))
    if found.rrd:
        from service.report.viewer import save_for_viewer

        save_for_viewer(found.store, Path(found.rrd), _s3(found))
    if found.json:
        print_json(facts)
    else:
        print_store(facts, result_console())
        if found.picture:
            print(f"picture: {found.picture}")
        if found.rrd:
            print(f"for Rerun: {found.rrd}")
    return 0


def serve(found: Namespace) -> int:
    """Serve until interrupted."""
    from service.serve import SERVE_FLAGS, run_service  # Ray Serve takes seconds to import

    job = load_job(found.job, overrides(found), flags_of(found))
    given = {name: getattr(found, name) for name in SERVE_FLAGS}
    settings = {name: value for name, value in given.items() if value is not None}
    settings |= {"job": job.model_dump(mode="json"), **limits(found.limits)}
    spec = parse(ServeSpec, settings, "serve")
    return run_service(spec, lambda words: print(words, file=sys.stderr, flush=True))


def serve_demo(found: Namespace) -> int:
    """Serve the example data set until interrupted."""
    from service.demo.serve import serve_example

    return serve_example(
        Path(found.dir), found.port, lambda words: print(words, file=sys.stderr, flush=True)
    )


def demo(found: Namespace) -> int:
    """Run the demo."""
    from service.demo.run import run_demo

    return run_demo(Path(found.dir), as_json=found.json)


def _s3(found: Namespace) -> S3Options:
    return S3Options(found.s3_profile, found.endpoint_url, anon=bool(found.anon))


def _hint_resolution(selection: Selection, sizes: dict[str, int | None]) -> None:
    if sizes and all(size is None for size in sizes.values()):
        other = "448" if selection.resolution == "full" else "full"
        print(f"no video is there at resolution {selection.resolution}; try --resolution {other}")
