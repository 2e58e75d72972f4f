"""Command-line flags, and how they become settings that go over a job file's."""

import argparse
import math
import re
from typing import Any, NoReturn

from configs.faults import did_you_mean
from configs.load import SettingsError, parse
from configs.schema import JobSpec
from service.cli.budget_flags import BUDGET_SETTINGS, add_budget
from service.cli.selection_flags import SELECTION_SETTINGS, add_filters

# Flag → where its value goes in a JobSpec.
SETTINGS = {
    "dataset": "dataset",
    "output": "output",
    "encoder": "encoders",
    "weights": "encoder.weights",
    "revision": "encoder.revision",
    "sha256": "encoder.sha256",
    "precision": "encoder.precision",
    "pool": "encoder.pool",
    "frames": "encoder.frames",
    "sampling": "encoder.sampling",
    "window": "grid.window",
    "stride": "grid.stride",
    "fps": "grid.fps",
    "tail": "grid.tail",
    "segments": "segments",
    "timeline": "timeline.kind",
    "tolerance": "timeline.tolerance",
    "sync": "sync",
    "rotate": "rotate",
    "dataset_licence": "dataset_licence",
    "mirror": "mirror",
    "bucket_profiles": "buckets",
    "dtype": "store.dtype",
    "unit_frames": "store.unit_frames",
    "s3_profile": "s3.profile",
    "endpoint_url": "s3.endpoint_url",
    "anon": "s3.anon",
    "output_s3_profile": "output_s3.profile",
    "output_endpoint_url": "output_s3.endpoint_url",
    "device": "run.device",
    "workers": "run.workers",
    "batch_size": "run.batch_size",
    "compile": "run.compile",
    "runtime": "run.runtime",
    "address": "run.address",
    "max_wait": "run.max_wait",
    "region": "run.region",
    **SELECTION_SETTINGS,
    **BUDGET_SETTINGS,
    "strict": "strict",
    "weight": "weight",
}

DATASET = "the folder that holds takes.json, a table of cameras, or egoexo://v2"


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that name the nearest valid word."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=_Help)

    def error(self, message: str) -> NoReturn:
        """Exit 2 with `message` and a hint."""
        self.exit(2, f"{self.prog}: error: {message}{self._hint(message)}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown flags in the sub-command that got them, which knows the valid ones."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]}")
        return found, unknown

    def _hint(self, message: str) -> str:
        if unknown := re.match(r"unknown argument (--[^\s=]+)", message):
            flags = [f for a in self._actions for f in a.option_strings if f.startswith("--")]
            near = did_you_mean(unknown[1], flags)
            return near if "did you mean" in near else f"; see {self.prog} --help"
        if choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            words = [word.strip(" '") for word in choice[2].split(",")]
            near = did_you_mean(choice[1], words)
            return near if "did you mean" in near else ""
        return ""


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)


def overrides(found: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, as nested settings. Raises SettingsError."""
    settings: dict[str, Any] = {}
    for flag, where in SETTINGS.items():
        value = getattr(found, flag, None)
        if value is None:
            continue
        *path, last = where.split(".")
        at = settings
        for part in path:
            at = at.setdefault(part, {})
        at[last] = _value(flag, value)
    return settings


def flags_of(found: argparse.Namespace) -> dict[str, str]:
    """By setting, the flag that was given for it."""
    return {
        where: f"--{flag.replace('_', '-')}"
        for flag, where in SETTINGS.items()
        if getattr(found, flag, None) is not None
    }


def dataset_job(found: argparse.Namespace, command: str) -> JobSpec:
    """The settings that say which takes of which data set: of a command that writes no store.

    Raises:
        SettingsError: a flag that cannot be used.
    """
    given = overrides(found)
    kept = ("select", "mirror", "buckets", "s3")
    settings = {name: given[name] for name in kept if given.get(name)}
    return parse(JobSpec, {"output": "unused", **settings, "dataset": found.dataset}, command)


def add_storage(parser: argparse.ArgumentParser) -> None:
    """`--s3-profile`, `--endpoint-url`, `--anon`."""
    group = parser.add_argument_group("S3")
    group.add_argument("--s3-profile", metavar="NAME", help="profile of the AWS shared files")
    group.add_argument("--endpoint-url", metavar="URL", help="an S3-compatible endpoint")
    group.add_argument(
        "--anon", action="store_true", default=None,
        help="without keys, of a bucket that anybody may read",
    )  # fmt: skip


def add_release(parser: argparse.ArgumentParser) -> None:
    """What a release has that a mirror has not."""
    group = parser.add_argument_group("the release on S3")
    group.add_argument(
        "--mirror", metavar="PATH", action="append",
        help="a partial mirror: what is there whole is read from it; several times, nearest first",
    )  # fmt: skip
    group.add_argument(
        "--bucket-profiles", nargs="+", metavar="BUCKET=PROFILE",
        help="profiles for some buckets, patterns allowed: 'egoexo-*=other'",
    )  # fmt: skip


def add_job(
    parser: argparse.ArgumentParser, address: str = "a Ray cluster (default: Ray starts here)"
) -> None:
    """Everything that a job file can say."""
    parser.add_argument("--job", metavar="FILE.yaml", help="a job file; flags win over it")
    parser.add_argument("--dataset", metavar="URI", help=DATASET)
    parser.add_argument("--output", metavar="URI", help="where the stores go")
    parser.add_argument(
        "--dataset-licence", metavar="'NAME URL'",
        help="of its videos, for the stores (default: the take's own, or the layout's)",
    )  # fmt: skip
    add_filters(parser)
    group = parser.add_argument_group("encoder and grid")
    group.add_argument(
        "--encoder", nargs="+", action="extend", metavar="NAME",
        help="one or more presets, fed from one decoding; see `takestream encoders`",
    )  # fmt: skip
    group.add_argument("--weights", metavar="URI", help="other weights for that encoder")
    group.add_argument("--revision", metavar="REV", help="revision on the hub")
    group.add_argument("--sha256", metavar="HEX", help="refuse weights with another digest")
    group.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), help="of the encoder"
    )
    group.add_argument(
        "--pool", choices=("cls", "mean", "pooled"), help="which vector; default: the preset's"
    )
    group.add_argument("--frames", type=int, metavar="N", help="frames of a clip that it sees")
    group.add_argument(
        "--sampling", choices=("lattice", "spread"),
        help="which frames: every so many, shared by clips that overlap, or spread over the window",
    )  # fmt: skip
    group.add_argument("--window", type=int, metavar="FRAMES", help="frames of a clip")
    group.add_argument("--stride", type=int, metavar="FRAMES", help="from clip to clip")
    group.add_argument("--fps", metavar="FPS|auto", help="of the grid")
    group.add_argument(
        "--tail",
        choices=("backpad", "drop"),
        help="what the last frames become: a clip, or nothing",
    )
    group.add_argument(
        "--segments",
        metavar="FILE",
        help="one clip per segment: keystep JSON, or CSV take,start,end",
    )
    group.add_argument(
        "--timeline", choices=("frames", "pts"),
        help="frames: frame i is the same moment everywhere (default); pts: nearest in time",
    )  # fmt: skip
    group.add_argument(
        "--tolerance", type=float, metavar="FRAMES", help="of --timeline pts; default: 0.5"
    )
    group.add_argument(
        "--sync", choices=("measure", "apply"),
        help="measure how far apart cameras are; apply: and shift those by whole frames",
    )  # fmt: skip
    group.add_argument(
        "--rotate",
        nargs="+",
        metavar="STREAM=DEG",
        help="turn pictures counter-clockwise, e.g. cam05_0=90; Aria's are upright already",
    )
    group = parser.add_argument_group("store")
    group.add_argument("--dtype", choices=("float16", "float32"), help="of stored features")
    group.add_argument("--unit-frames", type=int, metavar="N", help="frames of a unit of work")
    group = parser.add_argument_group("how to run")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), help="auto: a GPU if any")
    group.add_argument(
        "--workers", metavar="N|auto", help="auto: one for each GPU, or for each 4 cores"
    )
    group.add_argument("--batch-size", metavar="N|auto", help="clips in one forward pass")
    group.add_argument("--compile", action="store_true", default=None, help="torch.compile")
    group.add_argument(
        "--runtime", choices=("auto", "openvino", "pytorch"), help="what runs the network on CPU"
    )
    group.add_argument("--address", metavar="RAY", help=address)
    group.add_argument(
        "--region", metavar="NAME", help="of AWS, where the workers are (default: as they say)"
    )
    group.add_argument(
        "--max-wait", type=float, metavar="SECONDS",
        help="end when no worker came up for so long, as on a cluster without nodes",
    )  # fmt: skip
    group.add_argument(
        "--weight", type=float, metavar="W",
        help="of its part of the workers, beside other jobs: 0.1 to 10 (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--strict", action="store_true", default=None,
        help="fail when a stream is not wholly valid",
    )  # fmt: skip
    add_budget(parser)
    add_storage(parser)
    add_release(parser)
    add_output_storage(parser)


def add_output_storage(parser: argparse.ArgumentParser) -> None:
    """`--output-s3-profile`, `--output-endpoint-url`."""
    group = parser.add_argument_group("S3 of the output, where it differs")
    group.add_argument("--output-s3-profile", metavar="NAME", help="profile for the output")
    group.add_argument("--output-endpoint-url", metavar="URL", help="endpoint of the output")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where submitted jobs are."""
    parser.add_argument("--url", metavar="URL", help="a takestream service (or TAKESTREAM_URL)")
    parser.add_argument(
        "--address", metavar="URL", help="a cluster's dashboard, http://head:8265 (or RAY_ADDRESS)"
    )
    parser.add_argument(
        "--output",
        metavar="URI",
        help="the records of an output, also of jobs that a cluster forgot",
    )
    add_storage(parser)


def add_sync(parser: argparse.ArgumentParser) -> None:
    """What `sync` measures, and where its table goes."""
    parser.add_argument(
        "--method", choices=("all", "sound", "sight", "clock"), default="all",
        help="what is compared: sound, what is seen to change, time stamps alone (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="URI", help="write sync.csv, sync.json and sync.parquet there"
    )
    parser.add_argument(
        "--processes", type=positive, metavar="N", help="takes measured at once (default: by CPUs)"
    )


def positive(text: str) -> int:
    """A number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 on")
    return int(text)


def above_zero(text: str) -> float:
    """A number above 0, for argparse."""
    if (value := _finite(text)) <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return value


def from_zero(text: str) -> float:
    """A number that is not below 0, for argparse."""
    if (value := _finite(text)) < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 0 on")
    return value


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no number")
    return value


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """What is looked at besides this machine."""
    parser.add_argument(
        "uris", nargs="*", metavar="URI", help="data sets, outputs or weights to reach, for reading"
    )
    parser.add_argument("--output", metavar="URI", help="an output to write a small object to")
    parser.add_argument(
        "--no-ray", action="store_true", help="do not start Ray, which takes two seconds"
    )
    add_storage(parser)


def _value(flag: str, value: Any) -> Any:
    if flag == "bucket_profiles":
        return dict(_profile(item) for item in value)
    if flag == "rotate":
        return dict(_turn(item) for item in value)
    if flag in ("workers", "batch_size", "fps") and value != "auto":
        return _number(flag, value)
    return value


def _number(flag: str, text: str) -> int | float:
    try:
        return float(text) if flag == "fps" else int(text)
    except ValueError:
        name = flag.replace("_", "-")
        raise SettingsError(f"--{name}: '{text}' is neither a number nor 'auto'") from None


def _turn(item: str) -> tuple[str, int]:
    pattern, _, degrees = item.rpartition("=")
    if not pattern or not degrees.isdigit():
        raise SettingsError(f"--rotate: '{item}' is not STREAM=DEGREES, such as cam05_0=90")
    return pattern, int(degrees)


def _profile(item: str) -> tuple[str, dict[str, str]]:
    pattern, _, profile = item.rpartition("=")
    if not pattern or not profile:
        raise SettingsError(f"--bucket-profiles: '{item}' is not BUCKET=PROFILE")
    return pattern, {"profile": profile}
