"""What a check of encoders found, as rows of a table and as facts for scripts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.check import UNTRAINED, Findings
from service.report.table import Row

CHECKED = (
    "encoder", "verdict", "weights", "recorded", "dim", "precision", "runtime", "batch",
    "structure", "light", "order", "red/blue", "constant", "captions",
)  # fmt: skip
SPARE = (
    "constant", "red/blue", "order", "batch", "runtime", "precision", "dim", "structure",
)  # fmt: skip
MEANING = (
    "recorded: difference from the recorded vector; batch: of a clip's vector alone and in a batch;"
    " structure: of the weights, 1 for random numbers. The others are parts of the distance to"
    " another film: for darker and paler pictures (light), frames in reverse (order), red and blue"
    " swapped, and a grey picture."
)


@dataclass(frozen=True)
class CaptionFound:
    """One bundled picture shown to an encoder that reads text.

    Attributes:
        package: That carries the picture.
        file: In the package.
        caption: What is on it.
        rank: Where that caption comes among all captions, 1 for the first.
    """

    package: str
    file: str
    caption: str
    rank: int


@dataclass(frozen=True)
class Checked:
    """One encoder of a check.

    Attributes:
        encoder: Its name.
        here: Whether its weights are on this machine.
        found: What was found; None where it was not run.
        recorded: Difference from the recorded vector; None where none is recorded.
        captions: Of each bundled picture, where the encoder reads text.
        faults: What is wrong with it, a sentence each.
    """

    encoder: str
    here: bool
    found: Findings | None = None
    recorded: float | None = None
    captions: tuple[CaptionFound, ...] = ()
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
        "captions": [asdict(each) for each in checked.captions],
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
        "" if found.structure is None else f"{found.structure:.2f}",
        f"{found.light:.2f}",
        _order(found.order),
        f"{found.red_blue:.2f}",
        f"{found.constant:.2f}",
        _captions(checked.captions),
    )


def meaning(results: Sequence[Checked], absent: Sequence[str]) -> str:
    """What the columns say, where the pictures with captions come from, and what is `absent`."""
    packages = dict.fromkeys(each.package for result in results for each in result.captions)
    if not packages:
        return MEANING
    return (
        f"{MEANING} captions: pictures (of the packages {', '.join(packages)}) that find their own"
        " caption first among all."
        + (f" Without those of {', '.join(absent)}, which is not installed." if absent else "")
    )


def _captions(captions: Sequence[CaptionFound]) -> str:
    if not captions:
        return "no text"
    return f"{sum(each.rank == 1 for each in captions)} of {len(captions)}"


def _order(share: float | None) -> str:
    if share is None:
        return "one frame"
    return "none" if share < 1e-4 else f"{share:.2f}"
