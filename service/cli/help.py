"""What the help of each command adds: its defaults, taken from the settings, and an example."""

import argparse
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from configs.schema import EncoderChoice, JobSpec, ServeSpec
from service.cli.flags import SETTINGS

EXAMPLES = {
    "takes": "takestream takes s3://bucket/egoexo --universities cmu --format csv",
    "plan": (
        "takestream plan --dataset s3://bucket/egoexo --output s3://mine/features \\\n      --probe"
    ),
    "extract": (
        "takestream extract --dataset s3://bucket/egoexo --output s3://mine/features \\\n"
        "      --resolution 448 --streams 'aria*_rgb' 'cam*'"
    ),
    "encoders": "takestream encoders --format csv",
    "inspect": (
        "takestream inspect s3://mine/features/ENCODER_ID/TAKE_UID.zarr \\\n"
        "      --picture take.png"
    ),
    "verify": "takestream verify s3://mine/features",
    "catalogue": "takestream catalogue s3://mine/features --rebuild",
    "calibrate": (
        "takestream calibrate --dataset s3://bucket/egoexo \\\n"
        "      --output s3://mine/features --resolution 448 --units 12"
    ),
    "reprocess": (
        "takestream reprocess --output s3://mine/features \\\n"
        "      --from efficientnet_lite-0123456789 --encoder dinov2-base"
    ),
    "ls": "takestream ls s3://mine/features --takes --format csv",
    "facts": "takestream facts s3://mine/features --where split=train 'task=Cooking*'",
    "evaluate": "takestream evaluate s3://mine/features/OLD_ID s3://mine/features/NEW_ID",
    "diff": "takestream diff s3://mine/features/ENCODER_ID s3://other/features/ENCODER_ID",
    "report": "takestream report s3://mine/features --html run.html",
    "prune": "takestream prune s3://mine/features --encoder ENCODER_ID",
    "sync": "takestream sync s3://bucket/egoexo --take-names cmu_bike01_2 --output sync",
    "segments": (
        "takestream segments s3://mine/features --output steps.zarr \\\n"
        "      --annotations keystep_segment_train.json --pool max"
    ),
    "export": "takestream export s3://mine/features --output official --format hdf5",
    "import": (
        "takestream import omnivore_video --name omnivore_video \\\n"
        "      --output s3://mine/features"
    ),
    "serve": "takestream serve --dataset s3://bucket/egoexo --output s3://mine/features",
    "submit": (
        "takestream submit --address http://head:8265 --dataset s3://bucket/egoexo \\\n"
        "      --output s3://mine/features --wait"
    ),
    "jobs": "takestream jobs --output s3://mine/features --watch",
    "logs": "takestream logs a1b2c3 --url http://127.0.0.1:8000 --follow",
    "stop": "takestream stop a1b2c3 --url http://127.0.0.1:8000",
    "keys": "takestream keys new ann --scopes read compute --file keys.yaml --days 90",
    "doctor": "takestream doctor s3://bucket/egoexo --output s3://mine/features",
    "demo": "takestream demo --dir /tmp/demo",
    "serve-demo": "takestream serve-demo --port 8001",
    "completion": 'eval "$(takestream completion bash)"',
}
# With more options a usage line is no help.
MOST_IN_USAGE = 12
# Settings whose default is not the job's to say.
ELSEWHERE = {
    "encoder": "the preset's",
    "grid": "the preset's",
    "select": "all",
    "run.max_wait": "no limit",
    "s3": "the AWS chain",
    "output_s3": "as for the data set",
    "timeline.tolerance": "0.5",
}


def complete(commands: Any) -> None:
    """Add defaults and an example to the help of each command.

    Args:
        commands: What `add_subparsers` gave.
    """
    for name, parser in commands.choices.items():
        if name in EXAMPLES:
            parser.epilog = f"example:\n  {EXAMPLES[name]}"
        several = sum(bool(action.option_strings) for action in options(parser)) > MOST_IN_USAGE
        if several:
            named = [a.metavar or a.dest for a in options(parser) if not a.option_strings]
            parser.usage = " ".join(["%(prog)s [options]", *map(str, named)])
        for action in options(parser):
            words = str(action.help or "")
            if "default" in words or action.required or not action.option_strings:
                continue
            default = _default(action, of_job=has_job(parser))
            if default is not None:
                action.help = f"{words} (default: {default})".strip()


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The options and arguments of a command, but for `--help`."""
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            yield action


def has_job(parser: argparse.ArgumentParser) -> bool:
    """Whether a command takes the settings of a job: elsewhere flags of their names mean others."""
    return "--unit-frames" in parser._option_string_actions


def _default(action: argparse.Action, *, of_job: bool) -> str | None:
    if action.nargs == 0:  # a switch is off
        return None
    if action.default not in (None, argparse.SUPPRESS, [], ""):
        words = action.default if isinstance(action.default, list) else [action.default]
        return " ".join(map(str, words))
    where = SETTINGS.get(action.dest)
    if where is not None and not of_job and where.partition(".")[0] not in ("select", "s3"):
        return None
    if where is None:
        field = ServeSpec.model_fields.get(action.dest)
        if field is None or field.is_required() or field.default in (None, (), ""):
            return None
        return str(field.default)
    if where == "encoders":
        return EncoderChoice().preset
    default = _of_job(where)
    if default not in (None, (), ""):
        return str(default)
    group = where.partition(".")[0]
    return ELSEWHERE.get(where) or ELSEWHERE.get(group)


def _of_job(where: str) -> Any:
    """The default of a setting of a job; None when it has none."""
    model: Any = JobSpec
    for part in where.split("."):
        fields = getattr(model, "model_fields", {}) if isinstance(model, type) else {}
        if part not in fields:
            return None
        field = fields[part]
        if field.is_required():
            return None
        default = field.get_default(call_default_factory=True, validated_data={})
        model = type(default) if isinstance(default, BaseModel) else None
    return None if isinstance(default, BaseModel) or default == {} else default
