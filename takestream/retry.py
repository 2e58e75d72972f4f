"""One budget of time for each object of a storage that does not answer."""

import random
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from takestream.errors import StorageUnavailable

# Seconds before the second try; they double with each further one, up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.4, 10.0

T = TypeVar("T")


def retried(
    action: Callable[[], T], patience: float, on_retry: Callable[[], None] = lambda: None
) -> T:
    """What `action` gives, tried again with growing pauses while the storage is unavailable.

    Args:
        action: One request; its client must not try again by itself.
        patience: Seconds after which no further try begins; 0 for a single try.
        on_retry: Called before each further try.

    Raises:
        StorageUnavailable: No try within `patience` was answered. A `Retry-After` of the storage
            that ends later than that is not waited for.
    """
    until = monotonic() + patience
    pause = FIRST_PAUSE
    while True:
        try:
            return action()
        except StorageUnavailable as error:
            # At random, so that workers that failed together do not come back together.
            wait = max(pause * random.uniform(0.5, 1.0), error.retry_after)
            if monotonic() + wait >= until:
                raise
            on_retry()
            sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
