"""What is wrong with settings, in words that name what was written."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from pydantic import BaseModel

# Names that a message lists; of more it tells the nearest.
LISTED = 12
# What pydantic puts into a place to say which member of a union it tried.
_TAG = re.compile(r"literal\[|(constrained-)?(int|float|str|bool)$|function-|(list|tuple|dict)\[")


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """A hint to follow a message about an unknown name.

    Args:
        word: The unknown name.
        valid: The names that there are.

    Returns:
        `; did you mean 'x'?` for a near name; without one the names, or the nearest of many.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    if len(names) > LISTED:
        nearest = difflib.get_close_matches(word, names, n=1, cutoff=0.0)[0]
        return f"; the nearest of {len(names)} names is '{nearest}'"
    return f"; valid names: {', '.join(names)}" if names else ""


def fault_lines(model: type[Any], faults: Sequence[Any], flags: Mapping[str, str]) -> list[str]:
    """A line for each fault that pydantic found.

    Args:
        model: What the settings should have been.
        faults: As `ValidationError.errors` gives them.
        flags: By setting, the flag that gave it.
    """
    by_place: dict[tuple[Any, ...], list[Any]] = {}
    for fault in faults:
        place = tuple(part for part in fault["loc"] if not _is_tag(part))
        by_place.setdefault(place, []).append(fault)
    lines = []
    for place, here in by_place.items():
        # A list that holds a wrong entry is not empty for want of one.
        below = any(other[: len(place)] == place != other for other in by_place)
        if below and all(fault["type"] == "too_short" for fault in here):
            continue
        path = ".".join(str(part) for part in place).replace("encoders.0", "encoder", 1)
        lines.append(_line(model, place, here, path, flags.get(path, path)))
    return lines


def _is_tag(part: object) -> bool:
    return isinstance(part, str) and bool(_TAG.match(part))


def _line(
    model: type[Any], place: tuple[Any, ...], faults: Sequence[Any], path: str, shown: str
) -> str:
    fault = faults[0]
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        owner = _model_at(model, place[:-1])
        hint = did_you_mean(str(place[-1]), _fields(owner) if owner else {})
        return f"unknown setting '{path}'{hint}"
    if fault["type"] == "missing":
        flag = f" (--{path})" if path in ("dataset", "output") else ""
        return f"'{path}'{flag} is missing"
    if len(faults) == 1 and fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"]
        return f"{shown}: '{fault['input']}' is not one of {expected}" + did_you_mean(
            str(fault["input"]),
            [word.strip(" '") for word in expected.replace(" or ", ",").split(",")],
        )
    return fault_line(shown, *faults)


def fault_line(shown: str, *faults: Any) -> str:
    """A line about one value.

    Args:
        shown: What the value is called; may be empty.
        faults: As `ValidationError.errors` gives them, all about this value.
    """
    wishes = [wish for one in faults if (wish := _wish(one))]
    if len(wishes) == len(faults):
        return f"{shown}: must be {' or '.join(wishes)}, not {_short(faults[0]['input'])}"
    message = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in faults)
    return f"{shown}: {message}" if shown else message


def _wish(fault: Any) -> str | None:
    """What a value should have been, in words to follow "must be"; None for other faults."""
    limits = fault.get("ctx", {})
    match fault["type"]:
        case "literal_error":
            return str(limits["expected"])
        case "greater_than_equal":
            return f"at least {limits['ge']}"
        case "greater_than":
            return f"more than {limits['gt']}"
        case "less_than_equal":
            return f"at most {limits['le']}"
        case "less_than":
            return f"less than {limits['lt']}"
        case "int_parsing" | "int_type" | "int_from_float":
            return "a whole number"
        case "float_parsing" | "float_type":
            return "a number"
        case "finite_number":
            return "a finite number"
        case "string_type":
            return "a text"
        case "bool_parsing" | "bool_type":
            return "true or false"
        case "list_type" | "tuple_type":
            return "a list"
        case "dict_type" | "model_type" | "model_attributes_type" | "dataclass_type":
            return "settings (key: value)"
    return None


def _short(value: object) -> str:
    words = f"'{value}'" if isinstance(value, str) else str(value)
    return words if len(words) <= 60 else f"{words[:59]}…"


def _model_at(model: type[Any], place: tuple[Any, ...]) -> type[Any] | None:
    for part in place:
        if isinstance(part, int):
            continue
        kind = _fields(model).get(str(part))
        kinds = (kind, *get_args(kind))
        below = [k for k in kinds if isinstance(k, type) and _fields(k)]
        if not below:
            return None
        model = below[0]
    return model


def _fields(model: type[Any]) -> Mapping[str, Any]:
    """The settings of a model and their types; some are plain dataclasses of the wheel."""
    if is_dataclass(model):
        return {field.name: field.type for field in fields(model)}
    if issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    return {}
