"""`takestream …`: parse, run one command, and say what went wrong in one line.

Exit codes: 0 done, 1 some of it failed, 2 bad input, 130 interrupted (run it again to go on);
`takestream.errors.ErrorKind` has that of each kind of error.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from service.cli.encoder_flags import add_encoders
from service.cli.evaluate_flags import add_evaluate
from service.cli.flags import (
    DATASET,
    Parser,
    above_zero,
    add_doctor,
    add_job,
    add_place,
    add_release,
    add_storage,
    add_sync,
    from_zero,
    positive,
)
from service.cli.help import complete
from service.cli.key_flags import add_keys
from service.cli.output_flags import add_changed, add_outputs, add_reprocess
from service.cli.process import guard_streams, interrupted, take_signals
from service.cli.selection_flags import add_filters, add_where
from service.cli.serve_flags import add_serve
from service.cli.transfer_flags import add_export, add_import, add_segments
from takestream.errors import ErrorKind, TakestreamError, kind_of
from takestream.version import own_version

EXAMPLES = """examples:
  takestream takes s3://bucket/egoexo --universities cmu
  takestream extract --dataset s3://bucket/egoexo --output s3://mine/features
  takestream ls s3://mine/features
  takestream inspect s3://mine/features/ENCODER_ID/TAKE_UID.zarr
"""


JOB = "its id, or the beginning of it or of its last part"
# Commands that need neither torch nor, most of them, Ray.
REMOTE = ("submit", "jobs", "logs", "stop", "perform")
OUTPUTS = ("catalogue", "ls", "diff", "prune")
TRANSFERS = ("segments", "export", "import")
# Commands whose result is what they did, not what they print.
JOBS = (
    ["extract"],
    ["calibrate"],
    ["reprocess"],
    ["demo"],
    ["serve"],
    ["serve-demo"],
    ["submit"],
    ["stop"],
    ["perform"],
    ["prune"],
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    stdout = guard_streams()
    take_signals()
    given = list(sys.argv[1:] if argv is None else argv)
    code = run(given)
    stdout.flush()
    if stdout.lost is not None:
        print(f"takestream: stdout: {stdout.lost.strerror}; output is missing", file=sys.stderr)
        # Of a job the stores and the report are the result; of other commands what they print.
        if code == 0 and given[:1] not in JOBS:
            code = 1
    sys.exit(code)


# Commands with a module of their name.
OF_THEIR_OWN = (
    "calibrate", "completion", "doctor", "evaluate", "facts", "keys", "report", "reprocess",
    "sync", "verify",
)  # fmt: skip


def run(argv: Sequence[str]) -> int:
    """Run the command line; the exit code."""
    parser = build_parser()
    found = parser.parse_args(argv)
    form = getattr(found, "form", None)
    if getattr(found, "json", False) or form == "json":
        found.json, found.form = True, "json"
    try:
        # Imported late: torch and Ray take seconds that `--help` should not.
        home = "service.cli.commands"
        if found.command in REMOTE:
            home = "service.cli.jobs"
        elif found.command in OF_THEIR_OWN:
            home = f"service.cli.{found.command}"
        elif found.command in OUTPUTS:
            home = "service.cli.outputs"
        elif found.command in TRANSFERS:
            home = "service.cli.transfer"
        name = "import_" if found.command == "import" else found.command.replace("-", "_")
        command = getattr(importlib.import_module(home), name)
        return int(command(found))
    except KeyboardInterrupt as stop:
        print(f"\ntakestream: {interrupted(found.command, str(stop))}", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - the last line of defence: say it in one line
        kind = kind_of(error)
        ours = isinstance(error, TakestreamError) or kind is not ErrorKind.FAULT
        if not ours or os.environ.get("TAKESTREAM_DEBUG"):
            raise_or_say(error)
            return kind.exit_code
        for line in str(error).splitlines():
            print(f"takestream: error: {line}", file=sys.stderr)
        return kind.exit_code


def raise_or_say(error: Exception) -> None:
    """A fault of ours: in full when asked for, otherwise in one line that says how to ask."""
    if os.environ.get("TAKESTREAM_DEBUG"):
        raise error
    print(
        f"takestream: unexpected error: {type(error).__name__}: {error}\n"
        "  This is a fault of takestream. TAKESTREAM_DEBUG=1 shows all of it.",
        file=sys.stderr,
    )


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="takestream",
        description="Synchronised per-camera video features, streamed from S3 into Zarr.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"takestream {own_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    takes = commands.add_parser("takes", help="list takes and streams, sizes, what is missing")
    takes.add_argument("dataset", metavar="DATASET", help=DATASET)
    takes.add_argument(
        "--guess", action="store_true", default=None,
        help="DATASET is a folder of videos: propose a table of cameras for it, as CSV",
    )  # fmt: skip
    add_filters(takes)
    add_where(takes)
    add_storage(takes)
    add_release(takes)

    plan = commands.add_parser("plan", help="what a job would do, and what is done already")
    add_job(plan)
    add_changed(plan)
    plan.add_argument(
        "--stale", action="store_true",
        help="list the takes whose features are of other videos or settings, and why",
    )  # fmt: skip
    plan.add_argument("--probe", action="store_true", help="read every stream's index: exact")
    plan.add_argument(
        "--clips-per-second", type=above_zero, metavar="X",
        help="for a time estimate (all workers)",
    )  # fmt: skip
    plan.add_argument("--price-per-hour", type=from_zero, metavar="X", help="for a cost estimate")

    extract = commands.add_parser("extract", help="run a job here or on a Ray cluster; resumes")
    add_job(extract)
    add_changed(extract)
    extract.add_argument(
        "--check", action="store_true",
        help="read the takes' stores whole first, and do damaged units again",
    )  # fmt: skip

    calibrate = commands.add_parser(
        "calibrate", help="measure a few units of the real data, for `plan`"
    )
    add_job(calibrate)
    calibrate.add_argument("--units", type=positive, default=6, metavar="N", help="how many")

    reprocess = commands.add_parser(
        "reprocess", help="make the stores of a version again, by another encoder"
    )
    add_reprocess(reprocess)

    encoders = commands.add_parser("encoders", help="list the encoder presets, or check them")
    add_encoders(encoders)

    inspect = commands.add_parser("inspect", help="look at a store")
    inspect.add_argument("store", metavar="STORE", help="a .zarr store")
    inspect.add_argument("--picture", metavar="FILE.png", help="draw streams × time")
    inspect.add_argument(
        "--rrd", metavar="FILE.rrd", help="write it for the Rerun viewer, if installed"
    )
    add_storage(inspect)

    verify = commands.add_parser("verify", help="prove that stores are whole")
    verify.add_argument("stores", nargs="+", metavar="STORE", help="stores, or folders of stores")
    verify.add_argument(
        "--repair", action="store_true", help="extract again what is damaged or missing"
    )
    verify.add_argument(
        "--sample", type=positive, default=None, metavar="N",
        help="extract N random clips again and compare",
    )  # fmt: skip
    verify.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of clips")
    verify.add_argument(
        "--strict", action="store_true", help="1 also when a stream is not wholly valid"
    )
    verify.add_argument(
        "--job", metavar="FILE.yaml",
        help="how to extract; default: as the newest report beside the stores says",
    )  # fmt: skip
    add_storage(verify)

    catalogue, ls, facts, diff, prune, report = add_outputs(commands)

    sync = commands.add_parser("sync", help="measure how far apart the cameras of takes are")
    sync.add_argument("dataset", metavar="DATASET", help=DATASET)
    add_sync(sync)
    add_filters(sync)
    add_release(sync)
    add_storage(sync)

    evaluate = add_evaluate(commands)

    segments = commands.add_parser("segments", help="pool stored clips over annotated segments")
    add_segments(segments)
    export = commands.add_parser("export", help="stores as official .pt, HDF5, .npy or Parquet")
    add_export(export)
    imports = commands.add_parser("import", help="official features as stores")
    add_import(imports)

    serve = commands.add_parser("serve", help="the HTTP service: features on demand, jobs, a page")
    add_job(serve)
    add_serve(serve)

    submit = commands.add_parser("submit", help="launch a job on a Ray cluster, or on a service")
    add_job(submit, address="the cluster's dashboard, http://head:8265 (or RAY_ADDRESS)")
    submit.add_argument("--url", metavar="URL", help="a takestream service (or TAKESTREAM_URL)")
    submit.add_argument("--wait", action="store_true", help="until it ends; its exit code")
    submit.add_argument(
        "--no-working-dir", action="store_true", help="the cluster has this checkout already"
    )
    jobs = commands.add_parser("jobs", help="list submitted jobs, or show one")
    jobs.add_argument("job_id", nargs="?", metavar="JOB", help=JOB)
    jobs.add_argument("--limit", type=positive, default=20, metavar="N", help="the newest N")
    jobs.add_argument(
        "--watch", action="store_true", help="a line for all that changes, until all have ended"
    )
    logs = commands.add_parser("logs", help="what a submitted job said")
    logs.add_argument("job_id", metavar="JOB", help=JOB)
    logs.add_argument("--follow", action="store_true", help="until it ends")
    stop = commands.add_parser("stop", help="stop a submitted job; what it wrote is kept")
    stop.add_argument("job_id", metavar="JOB", help=JOB)
    for command in (jobs, logs, stop):
        add_place(command)

    keys = commands.add_parser("keys", help="make, list and revoke API keys of a service")
    add_keys(keys)

    doctor = commands.add_parser(
        "doctor", help="what is here and whether it works: to paste into a bug report"
    )
    add_doctor(doctor)

    completion = commands.add_parser("completion", help="the completion of a shell, to be sourced")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")

    perform = commands.add_parser("perform")  # what a cluster runs; nobody types it
    perform.add_argument("job_id")
    perform.add_argument("--output", required=True)
    add_storage(perform)

    demo = commands.add_parser("demo", help="everything on a small example, embedded S3 included")
    demo.add_argument("--dir", default="demo", metavar="DIR", help="working folder (default: demo)")

    serve_demo = commands.add_parser("serve-demo", help="the HTTP service on the example data set")
    serve_demo.add_argument("--dir", default="demo", metavar="DIR", help="working folder")
    serve_demo.add_argument("--port", type=int, default=8000, metavar="N", help="where it listens")

    for command in (
        takes,
        plan,
        extract,
        calibrate,
        reprocess,
        encoders,
        inspect,
        verify,
        catalogue,
        ls,
        facts,
        diff,
        prune,
        report,
        sync,
        evaluate,
        segments,
        export,
        imports,
        serve,
        serve_demo,
        submit,
        jobs,
        logs,
        stop,
        keys,
        doctor,
        perform,
        demo,
    ):
        command.add_argument("--json", action="store_true", help="machine-readable, on stdout")
    for command in (takes, plan, encoders, verify, ls, facts, diff, evaluate, jobs, keys):
        command.add_argument(
            "--format", dest="form", choices=("table", "csv", "json"), default="table",
            help="of the output; a pipe gets a line a row",
        )  # fmt: skip
    complete(commands)
    return parser
