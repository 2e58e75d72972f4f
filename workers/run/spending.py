"""What a run costs while it goes on, and when it has to stop for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from configs.budget import BudgetSpec
from takestream.errors import ErrorKind
from workers.run.tasks import Failure

if TYPE_CHECKING:
    from workers.run.shares import Shares  # loads Ray

Range = tuple[float, float, float]
"""The least, what is expected, and the greatest."""


@dataclass(frozen=True)
class Bill:
    """What a run took, and what a calibration says that the same work takes.

    Attributes:
        worker_hours: Of all workers while they were there.
        gpu_hours: Of the GPUs that they shared.
        price: Of a worker for an hour; None where it is not known.
        cost: In the currency of the price.
        expected_hours: Worker hours of what was written, by the calibration: the least, the mean
            and the greatest; None without one.
        expected_cost: The same at the price.
        calibration: Its URI.
    """

    worker_hours: float
    gpu_hours: float
    price: float | None = None
    cost: float | None = None
    expected_hours: Range | None = None
    expected_cost: Range | None = None
    calibration: str | None = None

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


class Spending:
    """The hours of a run's workers, and its budget.

    Args:
        budget: Of the job.
        shares: What each worker has of the machines.
    """

    def __init__(self, budget: BudgetSpec, shares: Shares) -> None:
        self._budget, self._gpus = budget, shares.gpus
        self._price = budget.price_of(shares.device, shares.threads, shares.gpus or 1.0)
        self._seconds, self._last = 0.0, 0.0

    def tick(self, workers: int, seconds: float) -> None:
        """Time has passed.

        Args:
            workers: That were there meanwhile.
            seconds: Since the run began.
        """
        self._seconds += workers * max(0.0, seconds - self._last)
        self._last = seconds

    @property
    def bill(self) -> Bill:
        """So far."""
        hours = self._seconds / 3600
        return Bill(
            hours,
            hours * self._gpus,
            self._price,
            None if self._price is None else hours * self._price,
        )

    def over(self, now: datetime | None = None) -> Failure | None:
        """Why the run has to stop; None as long as it need not."""
        budget, cost = self._budget, self.bill.cost
        if budget.max_cost is not None and cost is not None and cost >= budget.max_cost:
            why = f"it has cost {cost:.4f}, and --max-cost is {budget.max_cost:g}"
        elif budget.deadline is not None and (now or datetime.now(UTC)) >= budget.deadline:
            why = f"its deadline, {budget.deadline.isoformat(timespec='minutes')}, has come"
        else:
            return None
        words = f"the job stopped because {why}; what was written is kept. The same command with "
        return Failure("", None, f"{words}another budget goes on", ErrorKind.BUDGET)
