"""What a job would do, and what that takes: one plan for the terminal, the API and the page."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from configs.instances import INSTANCES
from configs.load import SettingsError
from service.jobs.calibrations import calibration_for
from service.jobs.choose import Chosen
from service.report.estimate import Estimate, Work, estimate, estimate_lines, size_words
from service.report.listing import plan_facts
from workers.run.calibration import Calibration
from workers.run.plan import PlannedTake, plan
from workers.run.recipe import Recipe

# Of the takes that could not be probed.
_DOUBTS = 10


@dataclass(frozen=True)
class JobPlan:
    """What a job would do.

    Attributes:
        recipe: Of the job.
        takes: What is to do of each.
        calibration: The newest of these encoders that the output keeps, and its URI; None where
            there is none, or none was asked for.
        estimate: What is left, by the calibration; None without one.
    """

    recipe: Recipe
    takes: list[PlannedTake]
    calibration: tuple[Calibration, str] | None
    estimate: Estimate | None

    @property
    def amount(self) -> str:
        """What is to do, as a sentence."""
        facts = plan_facts(self.takes, None, None)
        sign = "" if facts["exact"] else "about "
        return (
            f"{', '.join(self.recipe.encoder_ids)}: {sign}{facts['clips_left']} of"
            f" {facts['clips']} clips to do in {facts['units']} units,"
            f" {size_words(facts['bytes_left'])} to read"
        )

    @property
    def doubts(self) -> list[str]:
        """Why the counts may be wrong, a sentence each."""
        found = [
            f"{take.take.name}: {why}; " + ("without it" if take.exact else "counted as listed")
            for take in self.takes
            for why in dict.fromkeys(take.unread.values())
        ]
        found[_DOUBTS:] = [f"{len(found) - _DOUBTS} more like these"] if found[_DOUBTS:] else []
        if unknown := sum(not take.exact and not take.take.duration for take in self.takes):
            found.append(
                f"of {unknown} takes the data set does not say how long they are: they count as"
                " nothing here; --probe reads it from the videos"
            )
        return found

    @property
    def price(self) -> list[str]:
        """Hours, bytes and money by the calibration, a sentence each; empty without one."""
        if self.calibration is None or self.estimate is None:
            return []
        deadline = self.recipe.job.run.budget.deadline
        return estimate_lines(*self.calibration, self.estimate, deadline)

    def facts(
        self, clips_per_second: float | None = None, price_per_hour: float | None = None
    ) -> dict[str, Any]:
        """JSON-able: sums over the takes, the calibration, and the estimate by it.

        Args:
            clips_per_second: For `hours`, where no calibration says them.
            price_per_hour: For `cost`, beside these.
        """
        known = self.calibration
        return {
            **plan_facts(self.takes, clips_per_second, price_per_hour),
            "doubts": self.doubts,
            "calibration": None if known is None else {**known[0].facts(), "uri": known[1]},
            "estimate": None if self.estimate is None else self.estimate.facts(),
        }


def plan_job(
    recipe: Recipe, chosen: Chosen, *, probe: bool = False, calibrated: bool = True
) -> JobPlan:
    """Plan a job; nothing is written.

    Args:
        recipe: Of the job; its `run.budget` says at which price.
        chosen: Its takes with their streams.
        probe: Whether to open the videos, so that counts are exact.
        calibrated: Whether to look for a calibration.

    Raises:
        SettingsError: The machine of the budget has no GPU, and one was measured.
        StorageError: The storage fails.
    """
    planned = plan(recipe, chosen, probe=probe)
    known = calibration_for(recipe) if calibrated else None
    return JobPlan(
        recipe, planned, known, None if known is None else _estimate(recipe, planned, known[0])
    )


def _estimate(recipe: Recipe, planned: list[PlannedTake], calibration: Calibration) -> Estimate:
    asked, budget = recipe.job.run.workers, recipe.job.run.budget
    instance = INSTANCES[budget.instance] if budget.instance else None
    if instance and calibration.device == "cuda" and not instance.gpus:
        raise SettingsError(f"instance: {instance.name} has no GPU, and the calibration is of one")
    hours = None
    if budget.deadline is not None:
        hours = (budget.deadline - datetime.now(UTC)).total_seconds() / 3600
    return estimate(
        Work.of(planned),
        calibration,
        calibration.workers if asked == "auto" else asked,
        worker_price=budget.worker_price,
        instance=instance,
        hours_left=hours,
    )
