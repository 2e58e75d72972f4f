"""Flags of `takestream encoders`."""

import argparse


def add_encoders(parser: argparse.ArgumentParser) -> None:
    """Whether encoders are checked, and on what."""
    parser.add_argument(
        "--check", nargs="*", metavar="NAME",
        help="run these presets, or all whose weights are here, on the bundled footage: is each"
        " what it says?",
    )  # fmt: skip
    parser.add_argument("--weights", metavar="URI", help="other weights for the one NAME")
    parser.add_argument(
        "--record", action="store_true",
        help="write the vectors that were found into configs/encoders/, to compare with later",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if any"
    )
