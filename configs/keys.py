"""How long the keys of a data set live, where they do not say so themselves."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from pydantic import Field

from configs.base import Settings

EGOEXO_DAYS = 14.0


class KeysSpec(Settings):
    """When the keys of the data set were issued, and what a job does when they have run out.

    Attributes:
        issued: the day; without one, for `egoexo://` the day on which the keys were first seen.
        days: that they live.
        wait: when the storage does not accept the keys any more, wait until it accepts those that
            the profile or the environment's files then hold, and go on.
    """

    issued: date | None = None
    days: Annotated[float, Field(gt=0, le=3650)] = EGOEXO_DAYS
    wait: bool = False

    @property
    def end(self) -> datetime | None:
        """When they end; None without a day of issue. Its first minute counts, to be safe."""
        if self.issued is None:
            return None
        return datetime.combine(self.issued, time(), UTC) + timedelta(days=self.days)
