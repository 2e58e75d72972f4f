"""The flags of a job's budget."""

import argparse

from configs.instances import INSTANCES


def add_budget(parser: argparse.ArgumentParser) -> None:
    """What a job may cost, and by when it has to end."""
    group = parser.add_argument_group("what it may cost, and by when it has to end")
    group.add_argument(
        "--worker-price", type=float, metavar="X", help="of one worker for an hour, any currency"
    )
    group.add_argument(
        "--instance", metavar="NAME",
        help=f"its workers' share of a list price in USD instead: {', '.join(INSTANCES)}",
    )  # fmt: skip
    group.add_argument(
        "--max-cost", type=float, metavar="X", help="the job stops cleanly when it has cost that"
    )
    group.add_argument(
        "--deadline", metavar="WHEN",
        help="it stops cleanly then: a date and time, or hours from now, such as 36h",
    )  # fmt: skip
