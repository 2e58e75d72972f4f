"""The jobs that a service has in hand: how they stand, in memory and in the output's records.

Services may share an output. A record names its owner, and `alive_at` moves on for as long as that
one lives. A job whose owner has ended, or gave no sign for `STALE_SECONDS`, is abandoned: whoever
sees it first takes it up. When two do, the one that wrote last keeps it, and the other finds that
out before it writes again.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.jobs.records import JobRecord, Records, now
from workers.store.errors import StoreError

log = logging.getLogger(__name__)

# A record is written at least so often while its job has not ended, in seconds.
BEAT_SECONDS, STALE_SECONDS = 15.0, 60.0
# From the first to the last pause between two tries to write how a job ended.
RETRY_SECONDS, LONGEST_RETRY = 1.0, 60.0
# How often a follower looks at a job that somebody else runs.
LOOK_SECONDS = 5.0
PARTING_SECONDS = 5.0


class NotOwner(Exception):
    """Another process owns the job; the message says which."""


@dataclass
class _Held:
    """A job in hand. saved: what was last written, at `saved_at` of the loop's clock.

    before: who owned it before, when it was taken up.
    """

    record: JobRecord
    before: str | None
    saved: JobRecord | None = None
    saved_at: float = float("-inf")
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wake all who wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Ledger:
    """The records of the jobs in hand. All methods belong to one event loop.

    on_lost: called with the id of a job that another service has taken over meanwhile.
    """

    def __init__(self, records: Records, on_lost: Callable[[str], None]) -> None:
        self.owner = f"{_this_process()}/{secrets.token_hex(4)}"
        self._records, self._on_lost = records, on_lost
        self._held: dict[str, _Held] = {}
        self._closing = asyncio.Event()
        # By abandoned-or-not job of others: its last sign of life, and when that was first seen.
        self._signs: dict[str, tuple[object, float]] = {}

    def hold(self, record: JobRecord) -> None:
        """Take a job in hand; nothing is written yet."""
        mine = record.model_copy(update={"owner": self.owner})
        self._held[record.job_id] = _Held(mine, before=record.owner)

    def drop(self, job_id: str) -> None:
        """Let go of a job."""
        if held := self._held.pop(job_id, None):
            held.tell()

    def held(self, job_id: str) -> JobRecord | None:
        """A job in hand, as it stands now."""
        held = self._held.get(job_id)
        return held.record if held else None

    def all_held(self) -> Sequence[JobRecord]:
        """The jobs in hand, in the order in which they came."""
        return [held.record for held in self._held.values()]

    async def load(self, job_id: str) -> JobRecord | None:
        """A job, in hand or not. Raises StoreError."""
        return self.held(job_id) or await asyncio.to_thread(self._records.load, job_id)

    def note(self, job_id: str, **fields: Any) -> None:
        """Change a job in memory and tell its followers. What has ended does not change."""
        held = self._held.get(job_id)
        if held is not None and not held.record.ended:
            held.record = held.record.model_copy(update=fields)
            held.tell()

    async def save(self, job_id: str) -> None:
        """Write how a job in hand stands. Raises StoreError."""
        if held := self._held.get(job_id):
            # A write goes on when its asker is cancelled: let go, it might land after a later one.
            await asyncio.shield(asyncio.ensure_future(self._save(held)))

    async def settle(self, job_id: str) -> None:
        """Write how a job ended, trying for as long as it takes, and let go of it."""
        pause = RETRY_SECONDS
        while job_id in self._held:
            try:
                await self.save(job_id)
            except StoreError as error:
                log.error("job %s: its end cannot be written, tried again: %s", job_id, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY)
            else:
                self.drop(job_id)

    async def beat(self) -> None:
        """Write what was not written for a while: a sign of life. Raises StoreError."""
        due = asyncio.get_running_loop().time() - BEAT_SECONDS / 2
        late = [held for held in self._held.values() if held.saved_at < due]
        saves = [asyncio.ensure_future(self._save(held, again=True)) for held in late]
        for found in await asyncio.gather(*map(asyncio.shield, saves), return_exceptions=True):
            if isinstance(found, BaseException):
                raise found

    async def abandoned(self) -> Sequence[JobRecord]:
        """The unfinished jobs of services that nobody runs any more, oldest first.

        Silence is measured by this process' own clock, so those of others may differ. Raises
        StoreError.
        """
        records = await asyncio.to_thread(self._records.unfinished)
        clock = asyncio.get_running_loop().time()
        before, self._signs, found = self._signs, {}, []
        for record in records:
            if record.kind != "service" or record.job_id in self._held:
                continue
            sign = (record.owner, record.alive_at)
            seen = before.get(record.job_id)
            since = seen[1] if seen and seen[0] == sign else clock
            self._signs[record.job_id] = (sign, since)
            silent = clock - since > STALE_SECONDS
            if silent or record.owner is None or has_ended(record.owner):
                found.append(record)
        return found

    async def follow(self, job_id: str, seconds: float) -> AsyncIterator[JobRecord]:
        """The job now, and again whenever it changed, until it has ended or time is up.

        Raises StoreError.
        """
        clock = asyncio.get_running_loop().time
        until, told = clock() + seconds, None
        while not self._closing.is_set():
            held = self._held.get(job_id)
            changed = held.changed if held else self._closing
            record = await self.load(job_id)
            if record is None:
                return
            if record.facts() != told:
                told = record.facts()
                yield record
            if record.ended or clock() >= until:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout_at(
                    until if held else min(until, clock() + LOOK_SECONDS)
                ):
                    await changed.wait()

    def end_followers(self) -> None:
        """Tell nobody anything more."""
        self._closing.set()
        for held in self._held.values():
            held.tell()

    async def close(self) -> None:
        """Hand all jobs back: others may take them up at once."""
        for job_id, held in self._held.items():
            back = "stopping" if held.record.status == "stopping" else "queued"
            self.note(job_id, status=back, owner=None)
        saves = [asyncio.ensure_future(self._save(held)) for held in self._held.values()]
        if saves:
            await asyncio.wait(saves, timeout=PARTING_SECONDS)
        for save in saves:
            if not save.done() or save.exception():
                log.error("a job could not be handed back; it is taken up when this one is gone")
        self._held.clear()

    async def _save(self, held: _Held, *, again: bool = False) -> None:
        async with held.writing:
            record = held.record  # the newest word, whatever the asker had in mind
            job_id = record.job_id
            if self._held.get(job_id) is not held or (record is held.saved and not again):
                return
            if await asyncio.to_thread(self._write, record, held.before):
                held.saved, held.saved_at = record, asyncio.get_running_loop().time()
                return
        log.warning("job %s was taken over by another service", job_id)
        self.drop(job_id)
        self._on_lost(job_id)

    def _write(self, record: JobRecord, before: str | None) -> bool:
        """Write the record, unless another has taken it up, or ended it, meanwhile."""
        there = self._records.load(record.job_id)
        theirs = there is not None and there.owner != self.owner
        if there and theirs and (there.ended or there.owner not in (None, before)):
            return False
        self._records.save(record.model_copy(update={"alive_at": now()}))
        return True


def has_ended(owner: str) -> bool:
    """Whether the process of `owner` has ended for certain: it ran where it would be seen here."""
    place, pid, start, _ = owner.split("/") if owner.count("/") == 3 else ("", "", "", "")
    return pid.isdecimal() and place == _place() and _start(int(pid)) != start


def host_of(owner: str) -> str:
    """The host that an owner runs on, for people."""
    return owner.partition("~")[0].partition("/")[0]


def _this_process() -> str:
    """Host, boot and PID namespace; PID; start. Without /proc just the host: nobody can look."""
    pid = os.getpid()
    start = _start(pid)
    return f"{_place()}/{pid}/{start}" if start else f"{socket.gethostname()}//"


def _place() -> str:
    """Where a process id means what it means here."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}~{boot}~{Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _start(pid: int) -> str | None:
    """When a process began, in clock ticks after boot; None when it is gone, or a zombie."""
    try:
        # What is before the last bracket is its name, which may hold anything.
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if facts[0] in "ZX" else facts[19]
