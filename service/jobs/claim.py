"""One job's record in the hands of the process that owns the job."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.jobs.records import JobRecord, Records, now
from takestream.errors import ErrorKind, StorageUnavailable, TakestreamError

log = logging.getLogger(__name__)

# Conditional writes that lost to the owner's own earlier ones before a save gives up.
_TRIES = 5


class NotOwner(TakestreamError):
    """Another process owns the job; the message says which."""

    kind = ErrorKind.CONFLICT


def _nothing() -> None:
    pass


class Claim:
    """Writes a job's record for its owner, until another process has claimed it. Thread-safe.

    Every write is conditional on the version that was written or read last. Where that one is gone,
    the record decides: one of this owner, a torn one or none is written over; one of another owner,
    or one that somebody ended, makes the claim lost.

    Args:
        records: Where the record lies.
        record: The job as it stands; nothing is written before `save`.
        version: Of the record that this claim replaces, None when there is none yet.
        owner: Who claims it, as `new_owner` gives it.
        on_change: Called after each change in memory.
        on_lost: Called once when the claim is found to be lost, by the thread that saved.
    """

    def __init__(
        self,
        records: Records,
        record: JobRecord,
        version: str | None,
        owner: str,
        *,
        on_change: Callable[[], None] = _nothing,
        on_lost: Callable[[], None] = _nothing,
    ) -> None:
        self.owner, self.saved_at = owner, float("-inf")
        self._records, self._version = records, version
        self._record = record.model_copy(update={"owner": owner})
        self._saved: JobRecord | None = None
        self._on_change, self._on_lost = on_change, on_lost
        self._lost = False
        self._writing, self._changing = threading.Lock(), threading.Lock()

    @property
    def record(self) -> JobRecord:
        """The job as it stands in memory."""
        return self._record

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._record.job_id

    def update(self, **fields: Any) -> None:
        """Change the record in memory; one that has ended does not change."""
        with self._changing:
            if self._record.ended:
                return
            self._record = self._record.model_copy(update=fields)
        self._on_change()

    def save(self, *, heartbeat: bool = False) -> None:
        """Write the record if it changed since the last time.

        Args:
            heartbeat: Write it in any case, with the time, so that others see this owner alive.

        Raises:
            NotOwner: Another process has claimed the job, or ended it.
            StorageError: The storage failed; the next save writes what this one did not.
        """
        with self._writing:
            if self._lost:
                raise self._not_owner()
            record = self._record  # the newest state, whatever the caller had in mind
            if record is self._saved and not heartbeat:
                return
            try:
                self._write(record.model_copy(update={"alive_at": now()}))
            except NotOwner:
                self._lost = True
                self._on_lost()
                raise
            self._saved, self.saved_at = record, time.monotonic()

    def _write(self, record: JobRecord) -> None:
        for _ in range(_TRIES):
            version = self._records.replace(record, self._version)
            if version is not None:
                self._version = version
                return
            there, self._version = self._records.read(record.job_id)
            if there is not None and (there.owner != self.owner or there.ended):
                raise self._not_owner()
            if there is None and self._version is not None:
                log.warning("the record of job %s was torn and is replaced", record.job_id)
        raise StorageUnavailable(
            f"the record of job {record.job_id} changes faster than it is written"
        )

    def _not_owner(self) -> NotOwner:
        return NotOwner(f"job {self.job_id} was claimed or ended by another process")


def new_owner() -> str:
    """A name for this process as an owner, by which others can tell whether it lives.

    Host, boot and PID namespace; PID; start; chance. Without /proc just the host: nobody can look.
    """
    pid = os.getpid()
    start = start_of(pid)
    process = f"{pid_namespace()}/{pid}/{start}" if start else f"{socket.gethostname()}//"
    return f"{process}/{secrets.token_hex(4)}"


def has_ended(owner: str) -> bool:
    """Whether the process of `owner` has ended for certain: it ran where it would be seen here."""
    where, pid, start, _ = owner.split("/") if owner.count("/") == 3 else ("", "", "", "")
    return pid.isdecimal() and where == pid_namespace() and start_of(int(pid)) != start


def host_of(owner: str) -> str:
    """The host that an owner runs on, for people."""
    return owner.partition("~")[0].partition("/")[0]


def pid_namespace() -> str:
    """Where a process id means what it means here."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}~{boot}~{Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def start_of(pid: int) -> str | None:
    """When a process began, in clock ticks after boot; None when it is gone, or a zombie."""
    try:
        # What is before the last bracket is its name, which may hold anything.
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if facts[0] in "ZX" else facts[19]
