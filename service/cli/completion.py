"""`completion`: what a shell needs to complete commands, flags and files."""

from argparse import Namespace

import shtab

from service.cli.main import build_parser


def completion(found: Namespace) -> int:
    """Print the completion of a shell."""
    print(shtab.complete(build_parser(), shell=found.shell))
    return 0
