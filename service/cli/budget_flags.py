"""The flags of a job's budget, and of keys that end."""

import argparse

from configs.instances import INSTANCES

BUDGET_SETTINGS = {
    "worker_price": "run.budget.worker_price",
    "instance": "run.budget.instance",
    "max_cost": "run.budget.max_cost",
    "deadline": "run.budget.deadline",
    "keys_issued": "run.keys.issued",
    "keys_days": "run.keys.days",
    "wait_for_keys": "run.keys.wait",
}


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
    group = parser.add_argument_group("keys that end, as those of Ego-Exo4D")
    group.add_argument(
        "--keys-issued", metavar="DATE",
        help="the day; without it, for egoexo:// the day they were first seen",
    )  # fmt: skip
    group.add_argument("--keys-days", type=float, metavar="N", help="how long they live")
    group.add_argument(
        "--wait-for-keys", action="store_true", default=None,
        help="when they have run out, wait until there are new ones, and go on",
    )  # fmt: skip
