"""Words, numbers and paths as data sets really write them, made safe to keep and to print."""

import math
import posixpath
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# Ends and beginnings of lines; and what changes a terminal or the order of what is printed: control
# characters, bidirectional controls, halves of a character (surrogates).
_BREAKS = re.compile(r"[\t-\r\x1c-\x1e\x85\u2028\u2029]+")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Bytes of a name of a folder, with room for `.zarr` and what writers put behind a name.
_NAME_BYTES = 245


def clean(text: str) -> str:
    """`text` in one Unicode form (NFC), on one line, with U+FFFD for what is not to be printed."""
    return unicodedata.normalize("NFC", _UNSAFE.sub("\ufffd", _BREAKS.sub(" ", text)))


def is_plain_name(name: str) -> bool:
    """Whether a name can be a folder's, and be printed."""
    return (
        bool(name)
        and name == name.strip()
        and name not in (".", "..")
        and not set(name) & set("/\\")
        and not _UNSAFE.search(name)
        and "\ufffd" not in name
        and len(name.encode()) <= _NAME_BYTES
    )


def text(value: Any) -> str | None:
    """A word, cleaned; None for what is none."""
    return clean(value) if isinstance(value, str) and value else None


def table(value: Any) -> Mapping[Any, Any]:
    """A mapping; an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def missing(value: Any) -> bool:
    """Whether a value says that there is none; pandas writes NaN for that."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def flag(value: Any) -> bool | None:
    """Yes or no, which some releases write as text; None for what is neither."""
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())


def seconds(value: Any) -> float | None:
    """A length in seconds; None for what is none, negative or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def number(value: Any) -> int | None:
    """A whole number, which pandas writes with a point where others are absent; None for others."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # NaN is less than nothing, and a number of 400 digits is no float.
    return int(value) if abs(value) < 2**53 and value == int(value) else None


def uid_of(value: Any) -> str | None:
    """A uid, which some releases write as a number; None for what is none."""
    found = number(value)
    return text(value) if found is None else str(found)


def other_forms(path: str, normal: str) -> list[str]:
    """Under which other keys an object may lie that a data set names so.

    A key is bytes: `a//b`, `a/./b` and the two Unicode forms of `é` are keys of their own, which
    a file system, or whoever wrote the list, may have made one of another.

    Args:
        path: as it is written.
        normal: its normal form, which is tried first.
    """
    forms = (unicodedata.normalize(form, one) for one in (normal, path) for form in ("NFC", "NFD"))
    return [one for one in dict.fromkeys((path, *forms)) if one != normal]


def flaw_of(path: str) -> str | None:
    """Why a path is not followed; None for one below its data set.

    `takes.json` may come from anywhere: it must not reach outside its own data set. (`::` makes
    fsspec open several storages on top of each other.)
    """
    if posixpath.isabs(path) or ".." in path.split("/") or "://" in path or "::" in path:
        return "leaves the data set"
    if _UNSAFE.search(path):
        return "holds control characters, or half of one"
    return None
