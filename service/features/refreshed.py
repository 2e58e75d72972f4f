"""Values from far away, kept for a while and read again without anybody waiting for long."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

# So long whoever asks waits for a reading to end, before the old value must do.
PATIENCE_SECONDS = 1.0


class Kept(Generic[T]):
    """What `read(old value)` gives, not older than `seconds` if the storage answers at once.

    Once there is a value, storage that is slow or fails costs an asker `PATIENCE_SECONDS` at the
    most: the old value is given meanwhile. May be used from several threads.
    """

    def __init__(self, read: Callable[[T | None], T], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._value: T | None = None
        self._good_until = 0.0
        self._reading: _Reading | None = None
        self._lock = threading.Lock()

    def get(self) -> T:
        """The value. Raises what `read` raises, as long as there has been no value yet."""
        with self._lock:
            if time.monotonic() < self._good_until and self._value is not None:
                return self._value
            reading = self._reading or self._begin()
            known = self._value
        reading.done.wait(None if known is None else PATIENCE_SECONDS)
        value = self._value
        if value is None:
            assert reading.error is not None
            raise reading.error
        return value

    def _begin(self) -> "_Reading":
        self._reading = reading = _Reading()
        threading.Thread(target=self._run, args=(reading,), name="kept", daemon=True).start()
        return reading

    def _run(self, reading: "_Reading") -> None:
        try:
            self._value = self._read(self._value)
        except Exception as error:  # noqa: BLE001 - raised in those who wait for it
            reading.error = error
            if self._value is not None:
                log.warning("%s; what was read before is used", error)
        with self._lock:
            # Trouble is not asked about more often than change.
            self._good_until = time.monotonic() + self._seconds
            self._reading = None
        reading.done.set()


class _Reading:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None
