"""From lags between pairs of cameras to one offset for each camera, where they agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workers.sync.lag import Lag
from workers.sync.line import Line, fit_line

Pair = tuple[str, str]


@dataclass(frozen=True)
class Rules:
    """When lags are believed.

    Attributes:
        tolerance: seconds within which windows, and ways round three cameras, agree.
        error: of one window's lag, at least, in seconds.
        least, share: agreeing windows that a pair needs, and their share of the clear ones.
        of_heard: their share of all windows in which something is heard in common.
        sure_least, sure_share: that make a result sure; the share is of all that are heard.
    """

    tolerance: float
    error: float
    least: int = 2
    share: float = 0.6
    of_heard: float = 0.4
    sure_least: int = 4
    sure_share: float = 0.75


@dataclass(frozen=True)
class Link:
    """What one pair of cameras says.

    Attributes:
        line: the lag of the second to the first; None where there is none to believe.
        agree: windows within the tolerance of it.
        clear: windows that give one answer.
        heard: windows that give an answer at all.
        told: windows in which both cameras have something to compare.
        sure: whether it can be relied on.
    """

    line: Line | None
    agree: int
    clear: int
    heard: int
    told: int
    sure: bool


@dataclass(frozen=True)
class Placed:
    """Where a camera stands beside the first of its group.

    Attributes:
        offset, drift: as in `Line`; of the group's first camera 0.
        slope: the drift that counts.
        sure: whether it can be relied on.
        agree, clear: windows of its best pair that agree, and that give one answer.
        spread: median distance of its windows from the result, in seconds.
        group: number of its group; cameras of other groups cannot be compared.
    """

    offset: float
    slope: float
    drift: float | None
    sure: bool
    agree: int
    clear: int
    spread: float
    group: int


def link(lags: Sequence[Lag | None], rules: Rules) -> Link:
    """What the windows of one pair say together."""
    told = [lag for lag in lags if lag is not None]
    heard = [lag for lag in told if lag.heard]
    clear = [lag for lag in told if lag.clear]
    moments, seconds = [lag.moment for lag in clear], [lag.seconds for lag in clear]
    line = fit_line(moments, seconds, rules.tolerance, rules.error)
    agree = 0 if line is None else int(line.agree.sum())
    needed = max(rules.least, rules.share * len(clear), rules.of_heard * len(heard))
    if agree < needed:
        return Link(None, agree, len(clear), len(heard), len(told), False)
    sure = agree >= rules.sure_least and agree >= rules.sure_share * len(heard)
    return Link(line, agree, len(clear), len(heard), len(told), sure)


def place(
    names: Sequence[str], links: Mapping[Pair, Link], rules: Rules, moment: float
) -> dict[str, Placed]:
    """Offsets of all cameras that the links tie together.

    Ways round three or more cameras have to close: while they do not, the link that fits the rest
    worst is left out, and what hangs on a contradiction that cannot be settled is not sure.

    Args:
        names: of the cameras; the first of a group is its zero.
        links: by pair.
        rules: when links are believed.
        moment: seconds on the take's clock at which ways round have to close.
    """
    kept = {pair: one for pair, one in links.items() if one.line is not None}
    doubtful: set[str] = set()
    while True:
        groups = _groups(names, kept)
        solved = {pair: gap for group in groups for pair, gap in _gaps(group, kept, moment).items()}
        worst = max(solved, key=lambda pair: solved[pair], default=None)
        if worst is None or solved[worst] <= rules.tolerance:
            break
        # Of three links that do not close any one may be wrong.
        if not _outvoted(worst, kept):
            doubtful |= set(_around(worst, kept))
        del kept[worst]
    found = {}
    for number, group in enumerate(groups):
        if len(group) > 1:
            found.update(_placed(group, kept, number, doubtful, moment))
    return found


def _groups(names: Sequence[str], links: Collection[Pair]) -> list[list[str]]:
    group = {name: number for number, name in enumerate(names)}
    for first, second in links:
        low, high = sorted((group[first], group[second]))
        group = {name: low if number == high else number for name, number in group.items()}
    return [[n for n in names if group[n] == number] for number in sorted(set(group.values()))]


def _solve(
    group: Sequence[str], links: Mapping[Pair, float], weights: Mapping[Pair, float]
) -> dict[str, float]:
    """By camera, what fits the differences of the pairs best; 0 for the first."""
    at = {name: number for number, name in enumerate(group)}
    pairs = [pair for pair in links if pair[0] in at]
    matrix = np.zeros((len(pairs) + 1, len(group)))
    values = np.zeros(len(pairs) + 1)
    matrix[-1, 0] = 1e3
    for row, (first, second) in enumerate(pairs):
        weight = np.sqrt(weights[first, second])
        matrix[row, at[first]], matrix[row, at[second]] = -weight, weight
        values[row] = weight * links[first, second]
    solution = np.linalg.lstsq(matrix, values, rcond=None)[0]
    return {name: float(solution[number] - solution[0]) for name, number in at.items()}


def _gaps(group: Sequence[str], links: Mapping[Pair, Link], moment: float) -> dict[Pair, float]:
    """How far each link of a group is from what the whole group says, in seconds."""
    lags = {p: one.line.at(moment) for p, one in links.items() if one.line and p[0] in group}
    solved = _solve(group, lags, {pair: links[pair].agree for pair in lags})
    return {(a, b): abs(solved[b] - solved[a] - lag) for (a, b), lag in lags.items()}


def _outvoted(pair: Pair, links: Mapping[Pair, Link]) -> bool:
    """Whether two or more ways round, or a sure one against an unsure link, speak against it."""
    return len(_around(pair, links)) >= 4 or not links[pair].sure


def _around(pair: Pair, links: Mapping[Pair, Link]) -> list[str]:
    """The pair, and the cameras that have a link to both."""
    first, second = pair
    near = [{*other} - {first} for other in links if first in other]
    far = [{*other} - {second} for other in links if second in other]
    ends = [set().union(*some) if some else set() for some in (near, far)]
    return [first, second, *sorted((ends[0] & ends[1]) - {first, second})]


def _placed(
    group: Sequence[str],
    links: Mapping[Pair, Link],
    number: int,
    doubtful: set[str],
    moment: float,
) -> dict[str, Placed]:
    own = {pair: one for pair, one in links.items() if pair[0] in group}
    lines = {pair: one.line for pair, one in own.items() if one.line is not None}
    weight: dict[Pair, float] = {pair: one.agree for pair, one in own.items()}
    middle = _solve(group, {pair: line.at(moment) for pair, line in lines.items()}, weight)
    slope = _solve(group, {pair: line.slope for pair, line in lines.items()}, weight)
    drifts = {pair: line.drift for pair, line in lines.items() if line.drift is not None}
    tied = next(some for some in _groups(group, drifts) if some[0] == group[0])
    drift = _solve(tied, {p: d for p, d in drifts.items() if p[0] in tied}, weight)
    sure = _groups(group, [pair for pair, one in own.items() if one.sure])[0]
    found = {}
    for name in group:
        best = max((one for pair, one in own.items() if name in pair), key=lambda one: one.agree)
        found[name] = Placed(
            offset=middle[name] - slope[name] * moment,
            slope=slope[name],
            drift=drift.get(name),
            sure=name in sure and name not in doubtful,
            agree=best.agree,
            clear=best.clear,
            spread=best.line.spread if best.line else 0.0,
            group=number,
        )
    return found
