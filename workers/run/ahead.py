"""What a job finds done already, before Ray is started: often there is nothing left to do."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from takestream.errors import TakestreamError
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.run.prepare import complete_already
from workers.run.recipe import Recipe
from workers.run.report import Losses, Progress, Report
from workers.run.tasks import PreparedTake

# Takes looked at together, and seconds after which the workers had better go on.
THREADS, LOOK_SECONDS = 16, 5.0


@dataclass(frozen=True)
class Done:
    """The takes that are complete already, as far as it was looked.

    Attributes:
        takes: By uid.
        counts: What looking took: requests, bytes.
        seconds: How long.
    """

    takes: Mapping[str, PreparedTake]
    counts: Mapping[str, float]
    seconds: float

    def report(
        self, takes: Sequence[tuple[Take, tuple[str, ...]]], *, strict: bool = False
    ) -> Report | None:
        """The report of a job of these takes when all are complete; None when one is not."""
        count = len(takes)
        if len(self.takes) < count:
            return None
        found = self.takes.values()
        clips = sum(take.clips for take in found)
        progress = Progress(
            count,
            takes_prepared=count,
            takes_done=count,
            clips=clips,
            clips_skipped=clips,
            seconds=self.seconds,
            counts=dict(self.counts),
        )
        losses = Losses(takes, strict=strict)
        for take in found:
            losses.count(take.take, take.invalid)
        return Report(
            progress,
            stores=[uri for take in found for uri in take.stores],
            untouched=count,
            problems={
                losses.labels[take.take.uid]: dict(take.problems) for take in found if take.problems
            },
            losses=losses,
        )


def done_already(recipe: Recipe, takes: Sequence[tuple[Take, tuple[str, ...]]]) -> Done:
    """Look which takes are complete, until one is not: then the workers look at the others.

    A take that cannot be looked at counts as not complete; whoever prepares it says why.
    """
    began = time.monotonic()
    counters = Counters()
    found: dict[str, PreparedTake] = {}

    def look(item: tuple[Take, tuple[str, ...]]) -> PreparedTake | None:
        if time.monotonic() - began > LOOK_SECONDS:
            return None
        try:
            return complete_already(recipe, *item, counters)
        except (TakestreamError, OSError):
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        # The first alone: of a new job it says all.
        for few in (takes[:1], takes[1:]):
            for prepared in pool.map(look, few):
                if prepared is None:
                    pool.shutdown(wait=True, cancel_futures=True)
                    return Done(found, counters.snapshot(), time.monotonic() - began)
                found[prepared.take.uid] = prepared
    return Done(found, counters.snapshot(), time.monotonic() - began)
