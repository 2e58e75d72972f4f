"""The flags of the commands that look after an output."""

import argparse
from typing import Any

from service.cli.flags import Parser, add_job, add_storage, from_zero, positive
from service.cli.selection_flags import add_where

OUTPUT = "an output, or an encoder's folder in it"
ONE_ENCODER = "one encoder_id or preset alone (default: all)"


def add_outputs(commands: Any) -> tuple[Parser, ...]:
    """`catalogue`, `ls` and so on; what they are added to is what `add_subparsers` gave."""
    catalogue = commands.add_parser(
        "catalogue", help="bring an output's table of takes up to date, or make it anew"
    )
    catalogue.add_argument("output", metavar="OUTPUT", help=OUTPUT)
    catalogue.add_argument(
        "--rebuild", action="store_true", help="from the stores alone: reads every one"
    )
    catalogue.add_argument("--encoder", metavar="NAME", help=f"of {ONE_ENCODER}")

    ls = commands.add_parser("ls", help="the versions in an output: takes, clips, sizes")
    ls.add_argument("output", metavar="OUTPUT", help=OUTPUT)
    ls.add_argument("--encoder", metavar="NAME", help=ONE_ENCODER)
    ls.add_argument("--takes", action="store_true", help="a line for each take")

    facts = commands.add_parser("facts", help="what stores carry of the data set's words")
    facts.add_argument("output", metavar="OUTPUT", help=OUTPUT)
    facts.add_argument("--encoder", metavar="NAME", help=ONE_ENCODER)
    facts.add_argument(
        "--refresh", action="store_true",
        help="put what the data set says now into the stores; no feature is touched",
    )  # fmt: skip
    facts.add_argument(
        "--dataset", metavar="URI", help="of --refresh; default: what the newest report names"
    )
    for command in (ls, facts):
        add_where(command)

    diff = commands.add_parser(
        "diff", aliases=["compare"], help="how near two extractions are, and where they part"
    )
    diff.set_defaults(command="diff")
    for name in ("a", "b"):
        diff.add_argument(
            name, metavar=name.upper(),
            help="a .zarr store, an encoder's folder of them, or official .pt, .npy or HDF5 files",
        )  # fmt: skip
    diff.add_argument(
        "--cosine", "--min-cosine", dest="cosine", type=_cosine, metavar="X",
        help="clips less alike than that part (default: 0.999)",
    )  # fmt: skip

    prune = commands.add_parser("prune", help="name what can go from an output; --yes removes it")
    prune.add_argument("output", metavar="OUTPUT", help="an output")
    prune.add_argument(
        "--encoder", nargs="+", metavar="ENCODER_ID", default=[],
        help="whole versions (default: none)",
    )  # fmt: skip
    prune.add_argument("--partial", action="store_true", help="stores that are not complete too")
    prune.add_argument(
        "--min-age", type=from_zero, metavar="MINUTES",
        help="what was written to since stays (default: 60)",
    )  # fmt: skip
    prune.add_argument("--yes", action="store_true", help="remove what is named")

    report = commands.add_parser("report", help="how a run went: stages, slowest units, failures")
    report.add_argument(
        "where", metavar="OUTPUT", help="an output, for its newest run; or the URI of a report"
    )
    report.add_argument("--html", metavar="FILE", help="write it as a page that needs no network")
    for command in (catalogue, ls, facts, diff, prune, report):
        add_storage(command)
    return catalogue, ls, facts, diff, prune, report


def add_changed(parser: argparse.ArgumentParser) -> None:
    """`--only-changed`, `--since`."""
    group = parser.add_argument_group("only what changed")
    group.add_argument(
        "--only-changed", action="store_true",
        help="takes whose features are of other videos or settings than today's",
    )  # fmt: skip
    group.add_argument(
        "--since", metavar="DATE", help="takes of which a video was written at this date or later"
    )


def add_reprocess(parser: argparse.ArgumentParser) -> None:
    """What `reprocess` takes besides a job's settings."""
    parser.add_argument(
        "--from", dest="old", required=True, metavar="ENCODER_ID", help="the version there is"
    )
    parser.add_argument("--old-output", metavar="URI", help="where it is, if not in --output")
    parser.add_argument(
        "--sample", type=int, default=20, metavar="N",
        help="takes on which it is measured how features moved; 0: none",
    )  # fmt: skip
    parser.add_argument(
        "--labels", default="parent_task", metavar="WORD|FILE",
        help="on which both versions are judged at the end, as `evaluate` does; none: not at all",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", type=positive, default=0, metavar="N",
        help="measure N units of the job first, so that its hours and its cost are said",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done, and what that costs",
    )
    add_job(parser)


def _cosine(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 2.0
    if not -1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from -1 to 1")
    return value
