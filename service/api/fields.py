"""Types of the values in requests, and what no text in them may hold."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from takestream.protocol import NAME_LENGTH, NAMES

# Control characters, line ends and the halves of surrogate pairs: they are in no name, and would
# break lines of logs or could not be sent on as UTF-8. JSON can hold all of them.
_UNFIT = "\x00-\x1f\x7f\x85\u2028\u2029"
PLAIN = f"^[^{_UNFIT}]+$"

Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
ShortName = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH, pattern=PLAIN)]
LongText = Annotated[str, Field(min_length=1, max_length=2000, pattern=PLAIN)]
TakeName = Annotated[
    ShortName, Path(description="The take's uid or name", examples=["cmu_bike01_2"])
]
StreamName = Annotated[
    ShortName, Path(description="A stream of the take", examples=["aria01_rgb", "cam01_0"])
]
Names = Annotated[list[ShortName], Field(max_length=NAMES)]


def check_texts(value: Any) -> None:
    """Raise ValueError for a text anywhere in a JSON value that holds what none may hold."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, Mapping):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            left += item
        elif isinstance(item, str) and not _is_plain(item):
            raise ValueError(f"{item[:50]!a} holds a control character or half a character")


def _is_plain(text: str) -> bool:
    unfit = any(c < " " or c in "\x7f\x85\u2028\u2029" or "\ud800" <= c <= "\udfff" for c in text)
    return not unfit


def split_names(texts: list[str]) -> list[str]:
    """The names in a query, whether comma-separated or repeated."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]
