"""Whether workers can come up at all, and why not."""

import logging
import math
import threading
import time
from pathlib import Path

from ray.exceptions import ActorDiedError, OutOfMemoryError

from configs.run import RunSpec
from workers.run.memory import WORKER_MIB, free_mib
from workers.run.session import full_folder, node_lost

log = logging.getLogger(__name__)

# Workers that die one after the other while they start, with none that came up in between.
FAILED_STARTS = 3
# Seconds without any worker, while some are asked for, until that is said, and said again.
WAITING_SECONDS = 60.0


class Health:
    """Of a pool of workers.

    Args:
        run: How the job runs: `max_wait` ends it when no worker has come up for so long.
    """

    def __init__(self, run: RunSpec) -> None:
        self._run = run
        self._failed, self._how = 0, ""
        self._missing_since: float | None = None
        self._said_at = -math.inf
        self._lost: str | None = None
        self._gone = False
        self._killed_before = _killed_for_memory()
        self._lock = threading.Lock()

    @property
    def lost(self) -> str | None:
        """Why no work can be done; None as long as it can."""
        with self._lock:
            if self._lost is not None:
                return self._lost
            if self._failed >= FAILED_STARTS:
                why = full_folder() or f"{_free_words()}. Use fewer --workers or a larger machine"
                return (
                    f"workers do not come up here: {self._failed} in a row died while they started "
                    f"({self._how}); {why}"
                )
            return None

    @property
    def gone(self) -> bool:
        """Whether the node of this session, or the head of its cluster, is gone."""
        return self._gone

    def renew(self) -> None:
        """New work begins: workers that did not come up for earlier work may do so now."""
        with self._lock:
            self._failed = 0

    def started(self) -> None:
        """A worker came up, its encoder loaded."""
        with self._lock:
            self._failed = 0

    def start_failed(self, error: Exception) -> None:
        """A worker died, or hung, before it had begun any work."""
        with self._lock:
            self._failed += not (isinstance(error, ActorDiedError) and error.preempted)
            self._how = self.how(error)
        log.warning("a worker did not come up (%s)", self._how)

    def how(self, error: Exception) -> str:
        """Why a worker was lost, in words."""
        if isinstance(error, TimeoutError):
            return str(error) or "it did not answer"
        if isinstance(error, OutOfMemoryError):
            return "it ran out of memory"
        killed = _killed_for_memory()
        if killed is not None and self._killed_before is not None and killed > self._killed_before:
            return "the kernel killed it for want of memory"
        return "its process died"

    def look(self, alive: int, hiring: bool) -> None:
        """See whether the node is there, and for how long workers are waited for; may block.

        Args:
            alive: How many workers there are.
            hiring: Whether others are asked for.
        """
        why = node_lost()
        now = time.monotonic()
        with self._lock:
            self._lost, self._gone = why, why is not None
            if why or alive or not hiring:
                self._missing_since, self._said_at = None, now
                return
            if self._missing_since is None:
                self._missing_since = self._said_at = now
            waited = now - self._missing_since
            if self._run.max_wait is not None and waited > self._run.max_wait:
                self._lost = (
                    f"no worker came up in {waited:.0f} s (--max-wait): no node has what a worker "
                    "needs. Run the same command again to go on"
                )
            elif now - self._said_at >= WAITING_SECONDS:
                self._said_at = now
                log.warning("waiting for a node: no worker has come up for %.0f s", waited)


def _free_words() -> str:
    free = free_mib()
    some = "" if free is None else f"{max(0, free)} MiB of memory are free, and "
    return f"{some}a worker takes about {WORKER_MIB} MiB, and more with a large encoder"


def _killed_for_memory() -> int | None:
    """How many processes of this control group the kernel has killed for want of memory."""
    for name in ("memory.events", "memory/memory.oom_control"):
        try:
            for line in Path("/sys/fs/cgroup", name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        except (OSError, ValueError):
            continue
    return None
