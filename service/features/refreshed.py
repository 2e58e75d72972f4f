"""A value from the storage that is read again when it is old, without long waits."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds to wait for a refresh before returning the stale value.
PATIENCE_SECONDS = 1.0


class RefreshedValue(Generic[T]):
    """What `read(old value)` returns, at most `seconds` old when the storage answers at once.

    Once there is a value, a refresh that is slow or fails delays a caller by `PATIENCE_SECONDS` at
    most, and the stale value is returned. May be used from several threads.

    Attributes:
        error: Why the newest refresh failed; None when it did not.
    """

    def __init__(self, read: Callable[[T | None], T], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._value: T | None = None
        self._good_until = 0.0
        self._refresh: _Refresh | None = None
        self._lock = threading.Lock()
        self.error: Exception | None = None

    def get(self) -> T:
        """The value. Raises what `read` raises while there is no value yet."""
        with self._lock:
            if time.monotonic() < self._good_until and self._value is not None:
                return self._value
            refresh = self._refresh or self._begin()
            known = self._value
        refresh.done.wait(None if known is None else PATIENCE_SECONDS)
        value = self._value
        if value is None:
            assert refresh.error is not None
            raise refresh.error
        return value

    def _begin(self) -> "_Refresh":
        self._refresh = refresh = _Refresh()
        threading.Thread(target=self._run, args=(refresh,), name="refresh", daemon=True).start()
        return refresh

    def _run(self, refresh: "_Refresh") -> None:
        try:
            self._value = self._read(self._value)
        except Exception as error:  # noqa: BLE001 - raised in the threads that wait for the value
            refresh.error = error
            if self._value is not None:
                log.warning("%s; what was read before is used", error)
        with self._lock:
            self.error = refresh.error
            # Also after a failure: a storage in trouble is not asked more often.
            self._good_until = time.monotonic() + self._seconds
            self._refresh = None
        refresh.done.set()


class _Refresh:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None
