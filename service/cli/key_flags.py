"""Flags of `takestream keys`."""

import argparse


def add_keys(parser: argparse.ArgumentParser) -> None:
    """What is done with the API keys of a service."""
    parser.add_argument("action", choices=("new", "list", "revoke"), help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the owner's name")
    parser.add_argument(
        "--scopes",
        nargs="+",
        default=["read"],
        choices=("read", "compute", "jobs"),
        help="what the key may",
    )
    parser.add_argument(
        "--days", type=int, metavar="N", help="accepted for N days after today; default: no limit"
    )
    parser.add_argument(
        "--file", metavar="FILE", help="the keys file; a service that uses it follows in seconds"
    )
