"""Which form of an answer a client takes, and whether it has it already (RFC 9110)."""

from service.api.problems import Problem


def accepted(accept: str | None, kinds: tuple[str, ...]) -> str:
    """The best of `kinds` for an Accept header; the first when anything will do.

    Raises Problem 406.
    """
    if not accept:
        return kinds[0]
    best, quality = "", 0.0
    for entry in accept[:1000].split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        q = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weight = float(q)
        except ValueError:
            weight = 0.0
        group = name.partition("/")[0]
        for kind in kinds:
            if name in (kind, "*/*", f"{group}/*" if kind.startswith(f"{group}/") else kind):
                if weight > quality:
                    best, quality = kind, weight
                break
    if not best:
        raise Problem(406, f"this comes as {', '.join(kinds)}, not as '{accept[:200]}'")
    return best


def matches(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names `etag`, by the weak comparison of RFC 9110."""
    if header is None:
        return False
    names = {name.strip().removeprefix("W/") for name in header.split(",")}
    return "*" in names or etag.removeprefix("W/") in names
