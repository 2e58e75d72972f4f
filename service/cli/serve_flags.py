"""Flags of `takestream serve`."""

import argparse
from collections.abc import Sequence
from typing import Any

from configs.limits import LimitsSpec
from configs.load import SettingsError


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Where a service listens, and to whom it answers."""
    group = parser.add_argument_group("the service")
    group.add_argument("--host", metavar="ADDRESS", help="default: 127.0.0.1")
    group.add_argument("--port", type=int, metavar="N", help="0: one that is free; default: 8000")
    group.add_argument(
        "--encoders", nargs="+", metavar="NAME", help="further presets that may be asked for"
    )
    group.add_argument("--keys-file", metavar="FILE", help="who may ask; see `takestream keys`")
    group.add_argument(
        "--insecure", action="store_true", default=None, help="answer everybody, on any address"
    )
    group.add_argument(
        "--limits", nargs="+", metavar="NAME=N",
        help=f"of requests and memory: {', '.join(LimitsSpec.model_fields)}, cache_bytes",
    )  # fmt: skip
    group.add_argument(
        "--no-video", dest="videos", action="store_false", default=None,
        help="stream no videos: features, timelines and jobs alone",
    )  # fmt: skip
    group.add_argument("--replicas", type=int, metavar="N", help="HTTP processes; default: 1")
    group.add_argument("--root-path", metavar="PATH", help="below which a proxy shows it")
    group.add_argument("--cors-origins", nargs="+", metavar="URL", help="pages that may ask")


def limits(given: Sequence[str] | None) -> dict[str, Any]:
    """`--limits` as settings of a service. Raises SettingsError."""
    settings: dict[str, Any] = {}
    for item in given or ():
        name, _, number = item.partition("=")
        if not number.isdigit():
            raise SettingsError(f"--limits: '{item}' is not NAME=N, such as queue=32")
        where = settings if name == "cache_bytes" else settings.setdefault("limits", {})
        where[name] = int(number)
    return settings
