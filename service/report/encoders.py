"""What a check of encoders found, as rows of a table and as facts for scripts."""

from dataclasses import asdict, dataclass
from typing import Any

from models.check import UNTRAINED, Findings
from service.report.table import Row

CHECKED = (
    "encoder", "verdict", "weights", "recorded", "dim", "precision", "runtime", "batch", "light",
    "order", "red/blue", "constant",
)  # fmt: skip
SPARE = ("constant", "red/blue", "order", "batch", "runtime", "precision", "dim")
MEANING = (
    "recorded: difference from the recorded vector; batch: of a clip's vector alone and in a batch."
    " The others are parts of the distance to another film: for darker and paler pictures (light),"
    " frames in reverse (order), red and blue swapped, and a grey picture."
)


@dataclass(frozen=True)
class Checked:
    """One encoder of a check.

    Attributes:
        encoder: Its name.
        here: Whether its weights are on this machine.
        found: What was found; None where it was not run.
        recorded: Difference from the recorded vector; None where none is recorded.
        faults: What is wrong with it, a sentence each.
    """

    encoder: str
    here: bool
    found: Findings | None = None
    recorded: float | None = None
    faults: tuple[str, ...] = ()


def checked_facts(checked: Checked) -> dict[str, Any]:
    """All of it, JSON-able."""
    found = asdict(checked.found) if checked.found else {}
    return {
        **found,
        "encoder": checked.encoder,
        "here": checked.here,
        "verdict": verdict_of(checked),
        "recorded": checked.recorded,
        "faults": list(checked.faults),
    }


def verdict_of(checked: Checked) -> str:
    """`ok`, `not here`, `looks untrained`, or `fails`."""
    if any(fault.startswith(UNTRAINED) for fault in checked.faults):
        return UNTRAINED
    if checked.faults:
        return "fails"
    return "ok" if checked.found else "not here"


def checked_row(checked: Checked) -> Row:
    """One line of the table."""
    found = checked.found
    if found is None:
        return (checked.encoder, verdict_of(checked), *[""] * (len(CHECKED) - 2))
    return (
        checked.encoder,
        verdict_of(checked),
        found.sha256[:10],
        "none" if checked.recorded is None else f"{checked.recorded:.1e}",
        str(found.dim),
        found.precision,
        found.runtime,
        f"{found.batch:.1e}",
        f"{found.light:.2f}",
        _order(found.order),
        f"{found.red_blue:.2f}",
        f"{found.constant:.2f}",
    )


def _order(share: float | None) -> str:
    if share is None:
        return "one frame"
    return "none" if share < 1e-4 else f"{share:.2f}"
