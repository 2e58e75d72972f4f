"""JSON as data sets really write it: in any encoding, with NaN, lists of any length.

A long list is read entry by entry: the whole of it at once would take ten times its size.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

_BOM = b"\xef\xbb\xbf"
_HALVES = re.compile("[\ud800-\udfff]")


def json_entries(data: bytes, of: str) -> Iterator[Any]:
    """The entries of the JSON list in `data`, each made when it is asked for.

    What is not quite JSON and Python's own module reads (NaN) is read too. In place of an entry
    that cannot be read comes the ValueError that says why.

    Args:
        data: the list.
        of: what its entries are, for messages.

    Raises:
        ValueError: it is no valid JSON, or no list.
    """
    data = data.removeprefix(_BOM)
    try:
        entries = msgspec.json.decode(data, type=list[msgspec.Raw])
    except (ValueError, RecursionError):
        yield from _whole(data, of)
        return
    for raw in entries:
        try:
            yield msgspec.json.decode(raw)
        except (ValueError, RecursionError):
            try:
                yield _parsed(bytes(raw))
            except ValueError as error:
                yield error


def json_value(data: bytes) -> Any:
    """What the JSON in `data` says, read as tolerantly as `json_entries` does.

    Raises:
        ValueError: it is no valid JSON.
    """
    data = data.removeprefix(_BOM)
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return _parsed(data)


def raw_entries(data: bytes, of: str) -> list[msgspec.Raw]:
    """The entries of the JSON list in `data`, still encoded.

    NaN in them has become null, and a half of a character (a surrogate) U+FFFD.

    Args:
        data: the list.
        of: what its entries are, for messages.

    Raises:
        ValueError: it is no valid JSON, or no list.
    """
    data = data.removeprefix(_BOM)
    try:
        return msgspec.json.decode(data, type=list[msgspec.Raw])
    except (ValueError, RecursionError):
        # What is no JSON, msgspec would not read: NaN, halves of characters.
        texts = (json.dumps(entry, ensure_ascii=False) for entry in _whole(data, of, _null))
        return [msgspec.Raw(_HALVES.sub("\ufffd", text).encode()) for text in texts]


def _null(constant: str) -> None:
    """In place of NaN and infinite numbers."""


def _whole(data: bytes, of: str, constant: Callable[[str], object] | None = None) -> list[Any]:
    whole = _parsed(data, constant)
    if not isinstance(whole, list):
        raise ValueError(f"expected a JSON list of {of}")
    return whole


def _parsed(data: bytes, constant: Callable[[str], object] | None = None) -> Any:
    try:
        return json.loads(
            data, parse_constant=constant
        )  # also in UTF-16 and UTF-32, told by the first bytes
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from error
