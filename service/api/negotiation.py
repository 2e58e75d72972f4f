"""Which form of an answer a client takes, and whether it has it already (RFC 9110)."""

import re

from service.api.problems import Problem

# What an entry that says it otherwise than RFC 9110 is worth: nothing.
_QVALUE = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def accepted(accept: str | None, kinds: tuple[str, ...]) -> str:
    """The best of `kinds` for an Accept header; the first when anything will do.

    For each kind the entry that names it most exactly counts. Of kinds that are wanted equally,
    the one that is named most exactly wins, then the one that is named first. Raises Problem 406.
    """
    if not accept:
        return kinds[0]
    entries = [_entry(text) for text in accept[:1000].split(",")]
    wanted: list[tuple[float, int, int, str]] = []
    for kind in kinds:
        patterns = ("*/*", f"{kind.partition('/')[0]}/*", kind)
        found = [
            (patterns.index(name), -place, quality)
            for place, (name, quality) in enumerate(entries)
            if name in patterns
        ]
        if found:
            exactness, place, quality = max(found)
            wanted.append((quality, exactness, place, kind))
    # The first of equals: `max` keeps the order of `kinds`.
    best = max(wanted, key=lambda one: one[:3], default=None)
    if best is None or not best[0]:
        raise Problem(406, f"this comes as {', '.join(kinds)}, not as '{accept[:200]}'")
    return best[3]


def _entry(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    given = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    return name, float(given) if _QVALUE.fullmatch(given) else 0.0


def matches(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names `etag`, by the weak comparison of RFC 9110."""
    if header is None:
        return False
    names = {name.strip().removeprefix("W/") for name in header.split(",")}
    return "*" in names or etag.removeprefix("W/") in names
