"""The jobs that this service owns: how they stand, in memory and in the output's records.

Services may share an output. A record names its owner, whose heartbeat moves `alive_at` on. A job
whose owner has ended, or gave no heartbeat for `STALE_SECONDS`, is abandoned: any service may claim
it. Claims are conditional writes (`service.jobs.claim`), so one service gets the job and the others
see that they did not; an owner that was only slow finds out at its next write and stops the job.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from service.jobs.claim import Claim, NotOwner, has_ended, new_owner
from service.jobs.records import JobRecord, Records
from takestream.errors import StorageError

log = logging.getLogger(__name__)

# A record is written at least so often while its job has not ended, in seconds.
BEAT_SECONDS, STALE_SECONDS = 15.0, 60.0
# From the first to the last pause between two tries to write how a job ended.
RETRY_SECONDS, LONGEST_RETRY = 1.0, 60.0
# How often a follower looks at a job that another process runs.
LOOK_SECONDS = 5.0
PARTING_SECONDS = 5.0


@dataclass
class _Owned:
    """A job of this service. At each change `changed` is set and replaced by a new event."""

    claim: Claim
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wake all who wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Ownership:
    """The jobs that this service owns. All methods belong to one event loop.

    Args:
        records: The records of the output.
        on_lost: Called with the id of a job that another service has claimed meanwhile.
    """

    def __init__(self, records: Records, on_lost: Callable[[str], None]) -> None:
        self.owner = new_owner()
        self._records, self._on_lost = records, on_lost
        self._owned: dict[str, _Owned] = {}
        self._closing = asyncio.Event()
        # By job of others: its owner and last heartbeat, and when this process first saw them.
        self._signs: dict[str, tuple[object, float]] = {}

    def claim(self, record: JobRecord, version: str | None = None) -> Claim:
        """Claim a job in memory; `save` makes it so on the storage.

        Args:
            record: The job.
            version: Of the record that is on the storage, None for a new job.
        """
        loop = asyncio.get_running_loop()
        job_id = record.job_id

        def lost() -> None:
            loop.call_soon_threadsafe(self._lose, claim)

        claim = Claim(
            self._records,
            record,
            version,
            self.owner,
            on_change=lambda: self._tell(job_id),
            on_lost=lost,
        )
        self._owned[job_id] = _Owned(claim)
        return claim

    async def claim_abandoned(self, record: JobRecord, **fields: Any) -> bool:
        """Claim a job that `abandoned` gave, with changes; whether this service has it now.

        Raises StorageError; the job is not claimed then.
        """
        there, version = await asyncio.to_thread(self._records.read, record.job_id)
        if there is None or (there.owner, there.alive_at) != (record.owner, record.alive_at):
            return False
        if there.ended or record.job_id in self._owned:
            return False
        claim = self.claim(there.model_copy(update=fields), version)
        try:
            await self.save(claim.job_id)
        except BaseException:
            self.drop(claim.job_id)
            raise
        return self._owned.get(claim.job_id) is not None

    def drop(self, job_id: str) -> None:
        """Let go of a job; nothing is written."""
        if owned := self._owned.pop(job_id, None):
            owned.tell()

    def owned(self, job_id: str) -> JobRecord | None:
        """A job of this service, as it stands now."""
        owned = self._owned.get(job_id)
        return owned.claim.record if owned else None

    def all_owned(self) -> Sequence[JobRecord]:
        """The jobs of this service, in the order in which they came."""
        return [owned.claim.record for owned in self._owned.values()]

    def claim_of(self, job_id: str) -> Claim | None:
        """The claim on a job of this service."""
        owned = self._owned.get(job_id)
        return owned.claim if owned else None

    async def load(self, job_id: str) -> JobRecord | None:
        """A job of this service or of another. Raises StorageError."""
        return self.owned(job_id) or await asyncio.to_thread(self._records.load, job_id)

    def update(self, job_id: str, **fields: Any) -> None:
        """Change a job in memory and tell its followers. What has ended does not change."""
        if owned := self._owned.get(job_id):
            owned.claim.update(**fields)

    async def save(self, job_id: str, *, heartbeat: bool = False) -> None:
        """Write how a job of this service stands. Raises StorageError."""
        owned = self._owned.get(job_id)
        if owned is None:
            return

        async def write() -> None:
            try:
                await asyncio.to_thread(owned.claim.save, heartbeat=heartbeat)
            except NotOwner:
                self._lose(owned.claim)

        # A write goes on when its caller is cancelled: it is the claim's turn then.
        await asyncio.shield(asyncio.ensure_future(write()))

    async def close(self, job_id: str) -> None:
        """Write how a job ended, trying for as long as it takes, and let go of it."""
        pause = RETRY_SECONDS
        while job_id in self._owned:
            try:
                await self.save(job_id)
            except StorageError as error:
                log.error("job %s: its end cannot be written, tried again: %s", job_id, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY)
            else:
                self.drop(job_id)

    async def heartbeat(self) -> None:
        """Write the records that were not written for a while. Raises StorageError."""
        due = time.monotonic() - BEAT_SECONDS / 2
        late = [id_ for id_, owned in self._owned.items() if owned.claim.saved_at < due]
        saves = [asyncio.ensure_future(self.save(job_id, heartbeat=True)) for job_id in late]
        for found in await asyncio.gather(*map(asyncio.shield, saves), return_exceptions=True):
            if isinstance(found, BaseException):
                raise found

    async def abandoned(self) -> Sequence[JobRecord]:
        """The unfinished jobs of services that no service runs any more, oldest first.

        Silence is measured by this process's own clock, so the clocks of others may differ. Raises
        StorageError.
        """
        records = await asyncio.to_thread(self._records.unfinished)
        clock = time.monotonic()
        before, self._signs, found = self._signs, {}, []
        for record in records:
            if record.kind != "service" or record.job_id in self._owned:
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
        """The job now and after every change, until it has ended or `seconds` have passed.

        Raises StorageError.
        """
        clock = asyncio.get_running_loop().time
        until, told = clock() + seconds, None
        while not self._closing.is_set():
            owned = self._owned.get(job_id)
            changed = owned.changed if owned else self._closing
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
                    until if owned else min(until, clock() + LOOK_SECONDS)
                ):
                    await changed.wait()

    def end_followers(self) -> None:
        """End all that `follow` gave out."""
        self._closing.set()
        for owned in self._owned.values():
            owned.tell()

    async def release(self) -> None:
        """Give all jobs up, unfinished: other services may claim them at once."""
        for job_id, owned in self._owned.items():
            back = "stopping" if owned.claim.record.status == "stopping" else "queued"
            self.update(job_id, status=back, owner=None)
        saves = [asyncio.ensure_future(self.save(job_id)) for job_id in self._owned]
        if saves:
            await asyncio.wait(saves, timeout=PARTING_SECONDS)
        for save in saves:
            if not save.done() or save.exception():
                log.error("a job could not be released; it is claimed when this process is gone")
        self._owned.clear()

    def _tell(self, job_id: str) -> None:
        if owned := self._owned.get(job_id):
            owned.tell()

    def _lose(self, claim: Claim) -> None:
        owned = self._owned.get(claim.job_id)
        if owned is None or owned.claim is not claim:
            return
        log.warning("job %s was claimed by another service", claim.job_id)
        self.drop(claim.job_id)
        self._on_lost(claim.job_id)
