"""What is wrong with settings, in words that name what was written."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import AliasChoices, BaseModel

# Names that a message lists; of more it tells the nearest.
LISTED = 12
# What pydantic puts into a place to say which member of a union it tried; a model's name besides.
_TAG = re.compile(r"literal\[|(constrained-)?(int|float|str|bool)$|function-|(list|tuple|dict)\[")
# Characters of a name that are looked at and shown.
_SHOWN = 100


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


def fault_lines(
    model: Any,
    faults: Sequence[Any],
    flags: Mapping[str, str],
    given: Any = None,
    whole: str = "",
) -> list[str]:
    """A line for each fault that pydantic found.

    Args:
        model: What the settings should have been: a model, or a union of several.
        faults: As `ValidationError.errors` gives them.
        flags: By setting, the flag that gave it.
        given: The settings as they came; of a union's models that one is meant that shares most
            names with them.
        whole: What the settings as a whole are called.
    """
    members = [one for one in get_args(model) if _fields(one)]
    if members:
        names = set(given) if isinstance(given, Mapping) else set[str]()
        model = max(members, key=lambda one: len(names & set(_names(one))))
        others = {one.__name__ for one in members} - {model.__name__}
        faults = [fault for fault in faults if not others.intersection(fault["loc"][:1])]
    tags = {one.__name__ for one in _below(model)}
    by_place: dict[tuple[Any, ...], list[Any]] = {}
    tried = set[tuple[Any, ...]]()
    for fault in faults:
        place = tuple(part for part in fault["loc"] if not (_is_tag(part) or part in tags))
        by_place.setdefault(place, []).append(fault)
        if place and fault["loc"][-1] != place[-1]:
            tried.add(place)
    lines = []
    for place, here in by_place.items():
        # A list that holds a wrong entry is not empty for want of one, and a setting with names of
        # its own was not meant to be the text that it might be as well.
        below = any(other[: len(place)] == place != other for other in by_place)
        if below and (place in tried or all(fault["type"] == "too_short" for fault in here)):
            continue
        path = ".".join(str(part) for part in place).replace("encoders.0", "encoder", 1)
        shown = flags.get(path, path[:_SHOWN]) or whole
        lines.append(_line(model, place, here, path[:_SHOWN], shown))
    return lines


def _is_tag(part: object) -> bool:
    return isinstance(part, str) and bool(_TAG.match(part))


def _line(model: Any, place: tuple[Any, ...], faults: Sequence[Any], path: str, shown: str) -> str:
    fault = faults[0]
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        owner = _model_at(model, place[:-1])
        hint = did_you_mean(str(place[-1])[:_SHOWN], _names(owner) if owner else ())
        return f"unknown setting '{path}'{hint}"
    if fault["type"] == "missing":
        flag = f" (--{path})" if path in ("dataset", "output") else ""
        return f"'{path}'{flag} is missing" if path else f"{shown} is missing"
    if len(faults) == 1 and fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"]
        words = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
        hint = did_you_mean(str(fault["input"])[:_SHOWN], words)
        near = hint if "did you mean" in hint else ""
        return f"{shown}: {_short(fault['input'])} is not one of {expected}{near}"
    return fault_line(shown, *faults)


def fault_line(shown: str, *faults: Any) -> str:
    """A line about one value.

    Args:
        shown: What the value is called; may be empty.
        faults: As `ValidationError.errors` gives them, all about this value.
    """
    if faults[0]["type"] == "missing":
        return f"'{shown}' is missing"
    wishes = [wish for one in faults if (wish := _wish(one))]
    if len(wishes) == len(faults):
        words = f"must be {' or '.join(wishes)}, not {_short(faults[0]['input'])}"
        return f"{shown}: {words}" if shown else words
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
        case "too_short":
            return f"at least {_entries(limits['min_length'])} long"
        case "too_long":
            return f"at most {_entries(limits['max_length'])} long"
        case kind if kind.startswith(("datetime_", "date_")):
            return "a date and time, such as 2026-01-31T12:00"
        case "dict_type" | "model_type" | "model_attributes_type" | "dataclass_type":
            return "settings (key: value)"
    return None


def _entries(count: int) -> str:
    return f"{count} entr{'y' if count == 1 else 'ies'}"


def _short(value: object) -> str:
    words = f"'{value}'" if isinstance(value, str) else str(value)
    return words if len(words) <= 60 else f"{words[:59]}…"


def _models(kind: Any) -> Iterator[Any]:
    """The models in a type: itself, or members of a union, entries of a list, values of a dict."""
    if _fields(kind):
        yield kind
    for part in get_args(kind):
        yield from _models(part)


def _below(model: Any) -> set[Any]:
    """All models that a model is made of, and itself."""
    found, left = set[Any](), list(_models(model))
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += [below for kind in _fields(one).values() for below in _models(kind)]
    return found


def _model_at(model: Any, place: tuple[Any, ...]) -> Any:
    """The model at a place in another; None where there is none."""
    kind = model
    for part in place:  # numbers of entries and keys of dicts lead to no other type
        kind = next((_fields(m)[part] for m in _models(kind) if part in _fields(m)), kind)
    return next(_models(kind), None)


def _names(model: Any) -> list[str]:
    """What the settings of a model may be called."""
    names = list(_fields(model))
    if issubclass(model, BaseModel):
        for field in model.model_fields.values():
            if isinstance(field.validation_alias, AliasChoices):
                names += [str(name) for name in field.validation_alias.choices]
    return list(dict.fromkeys(names))


def _fields(model: Any) -> Mapping[str, Any]:
    """The settings of a model and their types; some are plain dataclasses of the wheel."""
    if not isinstance(model, type):
        return {}
    if is_dataclass(model):
        hints = get_type_hints(model)
        return {field.name: hints[field.name] for field in fields(model)}
    if issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    return {}
