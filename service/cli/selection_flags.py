"""The flags that say which takes and streams a command is about."""

import argparse

from configs.schema import Selection
from takestream.facts import Fact, parse_condition

# Flags, and the settings of a job that they are.
SELECTION_SETTINGS = {name: f"select.{name}" for name in Selection.model_fields}


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Which takes and streams, in the data set's words; several values after one flag."""
    group = parser.add_argument_group("which takes and streams (default: all)")
    group.add_argument("--uids", nargs="+", metavar="UID", help="uids of takes or captures")
    group.add_argument(
        "--take-names", "--take", nargs="+", metavar="NAME", help="names of takes, or patterns"
    )
    group.add_argument("--tasks", nargs="+", metavar="TASK", help="task names or patterns")
    group.add_argument("--universities", nargs="+", metavar="NAME", help="such as cmu")
    group.add_argument("--captures", nargs="+", metavar="NAME", help="names or uids of captures")
    group.add_argument("--parent-tasks", nargs="+", metavar="TASK", help="such as Cooking")
    group.add_argument("--participants", nargs="+", metavar="UID", help="who wears the cameras")
    group.add_argument("--physical-settings", nargs="+", metavar="UID", help="uids of places")
    group.add_argument("--splits", nargs="+", metavar="SPLIT", help="train, val, test")
    group.add_argument("--benchmarks", nargs="+", metavar="NAME", help="as the manifest has them")
    for flag, words in (
        ("--narrated", "only takes with narrations"),
        ("--validated", "only validated takes"),
        ("--timesync-validated", "only takes whose synchronisation was looked at"),
        ("--best-exo", "of cameras that are not worn, the one that shows the take best"),
    ):
        group.add_argument(flag, action="store_true", default=None, help=words)
    group.add_argument(
        "--views", nargs="+", choices=("ego", "exo"), help="worn cameras, or the others"
    )
    group.add_argument(
        "--kinds", nargs="+", metavar="KIND",
        help="rgb, slam, et, gopro, other; default: all but et, the eye cameras",
    )  # fmt: skip
    group.add_argument(
        "--streams", nargs="+", metavar="KEY", help="for example aria01_rgb, or a pattern: 'cam*'"
    )
    group.add_argument(
        "--resolution", choices=("full", "448"), help="448: frame_aligned_videos/downscaled/448"
    )
    group.add_argument(
        "--task-span", action="store_true", default=None,
        help="of a take, only clips whose middle lies between task_start_sec and task_end_sec",
    )  # fmt: skip


def add_where(parser: argparse.ArgumentParser) -> None:
    """`--where`: takes by any fact."""
    parser.add_argument(
        "--where", nargs="+", type=_condition, default=[], metavar="FACT=VALUE",
        help="takes of which the data set says so: split=train 'task=Cooking*' validated=true",
    )  # fmt: skip


def _condition(text: str) -> tuple[Fact, str]:
    try:
        return parse_condition(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
