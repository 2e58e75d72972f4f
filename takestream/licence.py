"""Under which licences features stand: that of the videos, and that of the encoder's weights."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Self

# What an encoder's preset says where its licence is not known.
UNKNOWN: Final = "unknown"
NOT_SAID: Final = "not said"
# The attribute of a store that holds the licence of its videos.
ATTRIBUTE: Final = "dataset_licence"
_LONGEST = 200
# `NC` as Creative Commons writes it, or in words.
_NON_COMMERCIAL = re.compile(r"(?<![A-Za-z])NC(?![A-Za-z])|[Nn]on-?\s?[Cc]ommercial")


@dataclass(frozen=True)
class Licence:
    """A licence by its name.

    Also the `dataset_licence` of a job file, where unknown settings are refused.

    Attributes:
        name: As it calls itself, or its SPDX identifier, such as `CC-BY-4.0`.
        url: Where it can be read.

    Raises:
        ValueError: The name is empty, longer than 200 characters or not on one line; or the link is
            none that begins with http:// or https://.
    """

    # Read by pydantic, which this module does not need.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    url: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > _LONGEST or not self.name.isprintable():
            raise ValueError(f"a licence's name is a line of 1 to {_LONGEST} characters")
        if self.url is not None and not re.fullmatch(r"https?://[!-~]{1,500}", self.url):
            raise ValueError("a licence's link begins with http:// or https:// and has no blanks")

    def __str__(self) -> str:
        """Name and link, for a person."""
        return self.name if self.url is None else f"{self.name}, {self.url}"

    @property
    def is_non_commercial(self) -> bool:
        """Whether its name says so; other licences may forbid commercial use in their text."""
        return bool(_NON_COMMERCIAL.search(self.name))

    @classmethod
    def of(cls, value: object) -> Self | None:
        """The licence in attributes or an entry of `takes.json`; None for what is none."""
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            return None
        try:
            return cls(value["name"], value.get("url"))
        except (TypeError, ValueError):
            return None

    def facts(self) -> dict[str, str | None]:
        """JSON-able; `of` reads it."""
        return asdict(self)


@dataclass(frozen=True)
class Licences:
    """The licences of a store.

    Attributes:
        dataset: Of its videos; None where nobody said, as in stores of before it was kept.
        encoder: Of its encoder's weights; None where it is not known.
    """

    dataset: Licence | None = None
    encoder: Licence | None = None

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Self:
        """The licences in a store's attributes."""
        encoder = attributes.get("encoder")
        return cls(
            Licence.of(attributes.get(ATTRIBUTE)),
            encoder_licence(encoder if isinstance(encoder, Mapping) else {}),
        )

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def words(self) -> str:
        """Both, for a person."""
        return f"videos: {self.dataset or NOT_SAID}; encoder: {self.encoder or NOT_SAID}"


def encoder_licence(facts: Mapping[str, Any]) -> Licence | None:
    """The licence of an encoder's weights, by its `licence` and `source`; None if not known."""
    name, source = facts.get("licence"), str(facts.get("source") or "").split()
    if name in (None, UNKNOWN):
        return None
    return Licence.of({"name": name, "url": source[0]} if source else {"name": name})


def in_short(text: str) -> dict[str, str | None]:
    """The settings in `NAME URL`, which people write; the link may be left out."""
    name, _, url = text.strip().rpartition(" ")
    if name and url.startswith(("http://", "https://")):
        return {"name": name.strip(), "url": url}
    return {"name": text.strip(), "url": None}
