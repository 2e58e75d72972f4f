"""What a job may cost, and by when it has to end."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from configs.base import Settings
from configs.faults import did_you_mean
from configs.instances import INSTANCES

Price = Annotated[float, Field(gt=0)]


class BudgetSpec(Settings):
    """What a job may cost, and by when it has to end; it stops cleanly at either.

    Attributes:
        worker_price: what one worker costs an hour, in any currency.
        instance: a kind of machine of `configs.instances`, whose list price is shared by the
            workers that it has room for; where no `worker_price` is given.
        max_cost: in the same currency, of all workers since this run began.
        deadline: a moment, UTC where it does not say; hours from now may stand for it, as `36h`.
    """

    worker_price: Price | None = None
    instance: str | None = None
    max_cost: Price | None = None
    deadline: datetime | None = None

    @field_validator("deadline", mode="before")
    @classmethod
    def _hours_from_now(cls, value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?h", value):
            return datetime.now(UTC) + timedelta(hours=float(value[:-1]))
        return value

    @field_validator("deadline")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        return value if value.tzinfo else value.replace(tzinfo=UTC)

    @field_validator("instance")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in INSTANCES:
            raise ValueError(f"no price is known of '{value}'{did_you_mean(value, INSTANCES)}")
        return value

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.max_cost is not None and self.worker_price is None and self.instance is None:
            raise ValueError("max_cost needs to know what a worker costs: worker_price or instance")
        return self

    def price_of(self, device: str, threads: int, gpu_share: float = 1.0) -> float | None:
        """What one worker costs an hour; None where nothing says.

        Args:
            device: `cpu` or `cuda`.
            threads: CPU threads of a worker.
            gpu_share: The part of a GPU that each takes, on `cuda`.
        """
        if self.worker_price is not None or self.instance is None:
            return self.worker_price
        instance = INSTANCES[self.instance]
        if device == "cuda" and not instance.gpus:
            return None
        return instance.price / instance.workers(device, threads, gpu_share)
