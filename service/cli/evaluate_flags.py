"""The flags of `takestream evaluate`."""

import argparse
from typing import Any

from service.cli.flags import Parser, add_storage
from takestream.facts import COLUMNS, LIST

LABELS = ("parent_task", "task", "participant", "university")


def add_evaluate(commands: Any) -> Parser:
    """`evaluate`; what it is added to is what `add_subparsers` gave."""
    evaluate: Parser = commands.add_parser(
        "evaluate", help="how well features tell tasks apart, or which of two encoders does better"
    )
    evaluate.add_argument(
        "where",
        metavar="A",
        help="an output, an encoder's folder in it; an encoder_id or a preset in --output",
    )
    evaluate.add_argument("other", metavar="B", nargs="?", help="another, to be compared with A")
    add_how(evaluate)
    evaluate.add_argument("--output", metavar="URI", help="where A and B are")
    evaluate.add_argument("--encoder", metavar="NAME", help="where several encoders wrote to A")
    evaluate.add_argument("--picture", metavar="FILE.png", help="draw what is taken for what")
    evaluate.add_argument("--html", metavar="FILE", help="write a page that needs no network")
    add_storage(evaluate)
    return evaluate


def add_how(parser: argparse.ArgumentParser) -> None:
    """By which labels features are judged, and how."""
    group = parser.add_argument_group("how features are judged")
    group.add_argument(
        "--labels", default="parent_task", metavar="WORD|FILE",
        help=f"{', '.join(LABELS)} of takes; or a file: keystep JSON, or CSV take,start,end,label",
    )  # fmt: skip
    group.add_argument(
        "--group-by", default="participant_uid", metavar="FACT",
        choices=sorted(name for name, fact in COLUMNS.items() if fact.kind != LIST),
        help="what is never in training and test both (default: participant_uid)",
    )  # fmt: skip
    group.add_argument(
        "--folds", choices=("grouped", "official"), default="grouped",
        help="grouped: five, by --group-by; official: the data set's own splits",
    )  # fmt: skip
    group.add_argument(
        "--test", nargs="+", default=["val"], metavar="SPLIT", help="splits of --folds official"
    )
    group.add_argument(
        "--span", choices=("take", "task"), default="take",
        help="task: of labels of takes, only clips in the task",
    )  # fmt: skip
    group.add_argument("--prompts", metavar="FILE", help="sentences for zero-shot, {} is the class")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of folds and draws")
