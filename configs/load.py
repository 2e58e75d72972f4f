"""Job files and presets into validated settings, with errors a person can act on."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from configs.base import Settings
from configs.faults import did_you_mean, fault_lines
from configs.schema import EncoderChoice, EncoderSpec, JobSpec, in_full
from takestream.errors import ErrorKind, StorageError, TakestreamError
from takestream.storage import open_filesystem, translated

PRESETS = Path(__file__).parent / "encoders"
NO_FLAGS: Mapping[str, str] = MappingProxyType({})
S = TypeVar("S", bound=Settings)


class SettingsError(TakestreamError, ValueError):
    """A setting that cannot be used; the message is meant for the person who wrote it.

    Its `kind` is the storage's where the job file itself cannot be read.
    """

    kind = ErrorKind.INVALID


def parse(model: type[S], data: Any, where: str, flags: Mapping[str, str] = NO_FLAGS) -> S:
    """`data` as `model`. Raises SettingsError, one line for each fault, prefixed with `where`.

    Args:
        model: What it should be.
        data: Settings.
        where: What they were read from, for messages.
        flags: By setting, the flag that gave it.
    """
    if not isinstance(data, Mapping):
        raise SettingsError(f"{where}: expected settings (key: value), got {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = fault_lines(model, error.errors(), flags)
        raise SettingsError("\n".join(f"{where}: {_printable(line)}" for line in lines)) from None


def _printable(line: str) -> str:
    """`line` with U+FFFD in place of line ends and other characters that cannot be printed."""
    return "".join(each if each.isprintable() else "\ufffd" for each in line)


def load_job(
    uri: str | None, overrides: Mapping[str, Any], flags: Mapping[str, str] = NO_FLAGS
) -> JobSpec:
    """The job file at `uri` (YAML; may be none) with `overrides` put over it, key by key.

    `flags` says which flag gave a setting, for messages.
    Raises SettingsError for an unreadable file, unknown or missing settings and wrong values.
    """
    data: Any = {} if uri is None else read_yaml(uri)
    if not isinstance(data, Mapping):
        raise SettingsError(f"{uri}: a job file holds settings (key: value)")
    where = uri or "job"
    return parse(JobSpec, over_job(data, overrides, where), where, flags)


def over_job(data: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A job's settings in full, with `overrides` put over them, key by key.

    In `overrides`, `encoders` replaces all of the job's; `encoder`, a mapping, changes the one that
    the job has.

    Raises:
        SettingsError: `encoder` holds changes and the job has several encoders.
    """
    over = dict(overrides)
    changes = over.pop("encoder", None)
    if not isinstance(changes, Mapping | None):
        over["encoders"], changes = changes, None
    try:
        merged = merge(in_full(data), in_full(over))
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    if changes:
        present = merged.get("encoders") or [{}]
        if len(present) > 1:
            raise SettingsError(
                f"{where}: {', '.join(changes)} would change one of {len(present)} encoders: with"
                " several, say it in the job file, below the encoder it is for"
            )
        merged["encoders"] = [merge(present[0], changes)]
    return merged


def read_yaml(uri: str) -> Any:
    """The YAML document at `uri`. Raises SettingsError when it cannot be read or parsed."""
    try:
        with translated(uri):
            fs, path = open_filesystem(uri)
            data = bytes(fs.cat_file(path))
        return yaml.safe_load(data) or {}
    except StorageError as error:
        kind = ErrorKind.INVALID if error.kind is ErrorKind.ABSENT else error.kind
        raise SettingsError(f"the job file: {error}", kind=kind) from error
    except RecursionError as error:
        raise SettingsError(f"{uri}: it is nested too deeply to be settings") from error
    except (ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"{uri}: cannot read the job file: {_one_line(error)}") from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` put over it, nested mappings key by key."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def encoder_presets() -> dict[str, EncoderSpec]:
    """All presets of `configs/encoders/`, by name."""
    presets = {}
    for path in sorted(PRESETS.glob("*.yaml")):
        data = {"name": path.stem, **yaml.safe_load(path.read_text())}
        presets[path.stem] = parse(EncoderSpec, data, path.name)
    return presets


def choose_encoder(choice: EncoderChoice) -> EncoderSpec:
    """The preset that `choice` names with its changes. Raises SettingsError for an unknown name."""
    presets = encoder_presets()
    if choice.preset not in presets:
        hint = did_you_mean(choice.preset, presets)
        raise SettingsError(f"encoder: there is no preset '{choice.preset}'{hint}")
    changes = choice.model_dump(exclude_none=True, exclude={"preset"})
    preset = presets[choice.preset]
    if "weights" in changes and changes["weights"] != preset.weights:
        # Other weights than the preset's: its digest, and what else it knew of them, is void.
        void = {"sha256": None, "revision": None, "dim": None}
        if preset.family == "huggingface":
            void["preprocess"] = None
        changes = {**void, **changes}
    return preset.model_copy(update=changes)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
