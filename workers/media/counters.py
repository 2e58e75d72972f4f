"""Counts of work, kept beside it."""

import threading


class Counters:
    """Work done so far, added to from several threads and read from another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}

    def add(self, **amounts: float) -> None:
        """Add to the named counts."""
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] = self._values.get(name, 0) + amount

    def snapshot(self) -> dict[str, float]:
        """All counts at this moment."""
        with self._lock:
            return dict(self._values)
