"""A long JSON list, entry by entry: the whole of it at once would take ten times its size."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

_BOM = b"\xef\xbb\xbf"


def json_entries(data: bytes, of: str) -> Iterator[Any]:
    """The entries of the JSON list in `data`, each made when it is asked for.

    What is not quite JSON and Python's own module reads (NaN) is read too.

    Args:
        data: the list.
        of: what its entries are, for messages.

    Raises:
        ValueError: it is no valid JSON, or no list.
    """
    try:
        entries = msgspec.json.decode(data.removeprefix(_BOM), type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        whole = _parsed(data)
        if not isinstance(whole, list):
            raise ValueError(f"expected a JSON list of {of}") from None
        yield from whole
        return
    for raw in entries:
        try:
            yield msgspec.json.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            yield _parsed(bytes(raw))


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from error
