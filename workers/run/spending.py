"""What a run costs while it goes on, and when it has to stop for it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from configs.budget import BudgetSpec
from takestream.errors import ErrorKind
from workers.run.calibration import Range
from workers.run.size import WorkerSize
from workers.run.tasks import Failure


@dataclass(frozen=True)
class Bill:
    """What a run took, and what a calibration says that the same work takes.

    Attributes:
        worker_hours: Of all workers while they were there.
        gpu_hours: Of the GPUs that they shared.
        price: Of a worker for an hour, on average where they differ; None where it is not known.
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
    """

    def __init__(self, budget: BudgetSpec) -> None:
        self._budget = budget
        self._seconds, self._gpu_seconds, self._last = 0.0, 0.0, 0.0
        self._cost: float | None = 0.0

    def tick(self, workers: Mapping[WorkerSize, int], seconds: float) -> None:
        """Time has passed.

        Args:
            workers: That were there meanwhile, by what they have of their machines.
            seconds: Since the run began.
        """
        passed, self._last = max(0.0, seconds - self._last), seconds
        for size, count in workers.items():
            self._seconds += count * passed
            self._gpu_seconds += count * passed * size.gpus
            price = self._budget.price_of(size.device, size.threads, size.gpu_share)
            if self._cost is not None:
                self._cost = None if price is None else self._cost + count * passed / 3600 * price

    @property
    def bill(self) -> Bill:
        """So far."""
        hours, price = self._seconds / 3600, self._budget.worker_price
        if price is None and self._cost is not None and hours:
            price = self._cost / hours
        cost = None if price is None else self._cost
        return Bill(hours, self._gpu_seconds / 3600, price, cost)

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
