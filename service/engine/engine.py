"""The part of a service that owns the workers: on-demand windows, queries and jobs, in one loop.

One engine serves any number of replicas.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from configs.schema import JobSpec, ServeSpec
from models.errors import ModelError
from service.engine.ondemand import Busy, OnDemand, Part
from service.engine.refusal import Refusal
from service.engine.scratch import Scratch
from service.jobs.claim import NotOwner
from service.jobs.expiry import KeyLife, key_life
from service.jobs.listing import JobList, JobQuery
from service.jobs.manager import Jobs, TooManyJobs
from service.jobs.ownership import BEAT_SECONDS
from service.jobs.records import JobRecord, Records
from takestream.errors import StorageError, TakestreamError
from workers.dataset.take import Take
from workers.run.pool import Pool
from workers.run.recipe import Recipe, make_recipe
from workers.run.tasks import PreparedTake, Query
from workers.run.tracing import NOTHING
from workers.store.objects import probe_writable

log = logging.getLogger(__name__)

# How long the answer to "is the output writable" stays good, in seconds.
WRITABLE_SECONDS = 30.0
RETRY_SECONDS = 5.0
# Between two looks at how long the keys of the data set live.
KEYS_SECONDS = 300.0
# How long one call follows a job: well below what Serve waits for calls to end (`GRACE_SECONDS`).
FOLLOW_SECONDS = 15.0

T = TypeVar("T")


class Engine:
    """Owns the pool. Methods are called over Ray, so they return refusals instead of raising."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.spec = ServeSpec.model_validate(settings)
        job = self.spec.job
        self._s3 = job.reach_output
        self._pool: Pool | None = None
        self._ready = asyncio.Event()
        # What has to work before this engine is ready, and why it does not yet.
        self._failing = {
            "workers": "not started yet",
            "model": "not loaded yet",
            "jobs": "not taken up yet",
        }
        self._writable = "not checked yet"
        self._checked = 0.0
        self._keys: KeyLife | None = None
        self._look_at_keys = 0.0
        self._probing: asyncio.Task[None] | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        pool = self._pool = await self._until("workers", self._make_pool)
        self.ondemand = OnDemand(pool, self.spec.limits.queue)
        self.scratch = Scratch(self.spec.job.output, self._s3, self.spec.limits.scratch_bytes)
        self.jobs = Jobs(self.spec, pool, Records(self.spec.job.output, self._s3))
        self._ready.set()
        await self._until("model", self._load)
        # Only now: without encoder or output the jobs would fail for what is no fault of theirs.
        while await self._why_not_writable():
            await asyncio.sleep(RETRY_SECONDS)
        await self._until("jobs", self.jobs.resume)
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for act in (self.jobs.heartbeat, self.jobs.resume):
                try:
                    await act()
                except Exception as error:  # noqa: BLE001 - whatever it is, the next time may do
                    log.error("jobs: %s", _words(error))

    async def _until(self, name: str, act: Callable[[], Awaitable[T]]) -> T:
        """What `act` gives, tried until it gives something; meanwhile `ready` says why not."""
        while True:
            try:
                found = await act()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is shown and tried again
                self._failing[name] = _words(error)
                log.error("%s: %s", name, self._failing[name])
                await asyncio.sleep(RETRY_SECONDS)
            else:
                del self._failing[name]
                return found

    async def _make_pool(self) -> Pool:
        return await Pool(self.spec.job.run).__aenter__()

    async def _load(self) -> None:
        assert self._pool is not None
        recipe = await asyncio.to_thread(make_recipe, self.spec.job)
        if why := await self._pool.load(recipe):
            raise ModelError(why)

    async def close(self) -> None:
        """Hand all work back."""
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)
        if self._pool is not None:
            self.ondemand.close()
            await self.jobs.close()
            await self._pool.__aexit__()
            self._pool = None

    async def ready(self) -> dict[str, str]:
        """By check, why it fails, or nothing."""
        found = {**self._failing, "output": await self._why_not_writable()}
        return {name: why for name, why in found.items() if why}

    async def status(self) -> dict[str, Any]:
        """Numbers for the metrics."""
        await self._ready.wait()
        assert self._pool is not None
        return {
            "workers": self._pool.workers,
            "workers_alive": self._pool.alive,
            "queue": self._pool.waiting,
            "jobs": self.jobs.count,
            "counts": self._pool.counts(),
            "keys_seconds_left": await self._keys_left(),
        }

    async def _keys_left(self) -> float | None:
        """Seconds until the data set's keys end; None where that is not known."""
        now = time.monotonic()
        if now >= self._look_at_keys:
            self._look_at_keys = now + KEYS_SECONDS
            self._keys = await asyncio.to_thread(key_life, self.spec.job)
        return None if self._keys is None else self._keys.left().total_seconds()

    async def prepare(
        self,
        recipe: Recipe,
        take: Take,
        streams: Sequence[str],
        trace: Mapping[str, str] = NOTHING,
    ) -> PreparedTake | Refusal:
        """See `OnDemand.prepare`."""
        await self._ready.wait()
        uri = recipe.store_uri(take.uid)
        try:
            if self.scratch.holds(recipe):
                await self.scratch.make_room(uri)
            prepared = await self.ondemand.prepare(recipe, take, streams, trace)
            if self.scratch.holds(recipe):
                await self.scratch.made(uri)
            return prepared
        except Busy as error:
            return Refusal(str(error), error.retry_after)
        except StorageError as error:
            return Refusal(str(error), 10)

    async def window(
        self,
        recipe: Recipe,
        take: Take,
        streams: Sequence[str],
        start: int,
        stop: int,
        trace: Mapping[str, str] = NOTHING,
    ) -> AsyncIterator[Part | Refusal]:
        """See `OnDemand.window`."""
        await self._ready.wait()
        uri = recipe.store_uri(take.uid)
        try:
            if self.scratch.holds(recipe):
                await self.scratch.make_room(uri)
            with self.scratch.in_use(uri):
                parts = self.ondemand.window(recipe, take, streams, start, stop, trace)
                async for part in parts:
                    yield part
        except Busy as error:
            yield Refusal(str(error), error.retry_after)
        except StorageError as error:
            yield Refusal(str(error), 10)

    async def query(self, recipe: Recipe, text: str | None, image: bytes | None) -> Query:
        """See `Pool.query`."""
        await self._ready.wait()
        assert self._pool is not None
        return await self._pool.query(recipe, text, image)

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord | Refusal:
        """See `Jobs.submit`."""
        await self._ready.wait()
        if "jobs" in self._failing:  # or a job that goes on in a moment would be run twice
            why = f"the jobs from before are not taken up yet ({self._failing['jobs']})"
            return Refusal(why, int(RETRY_SECONDS))
        try:
            return await self.jobs.submit(job, by)
        except TooManyJobs as error:
            return Refusal(str(error), 60)
        except StorageError as error:
            return Refusal(str(error), 10)

    async def job(self, job_id: str) -> JobRecord | None:
        """See `Jobs.get`."""
        await self._ready.wait()
        return await self.jobs.get(job_id)

    async def job_list(self, query: JobQuery) -> JobList:
        """See `Jobs.list`."""
        await self._ready.wait()
        return await self.jobs.list(query)

    async def job_stop(self, job_id: str) -> JobRecord | Refusal | None:
        """See `Jobs.stop`."""
        await self._ready.wait()
        try:
            return await self.jobs.stop(job_id)
        except NotOwner as error:
            return Refusal(str(error))

    async def job_log(self, job_id: str) -> str:
        """See `Jobs.log`."""
        await self._ready.wait()
        return await self.jobs.log(job_id)

    async def job_events(self, job_id: str) -> AsyncIterator[JobRecord]:
        """See `Jobs.follow`. For a while only: Serve closes this when all calls have ended, so who
        follows on asks again; a call that gives nothing says that this goes down.
        """
        await self._ready.wait()
        async for record in self.jobs.follow(job_id, FOLLOW_SECONDS):
            yield record

    async def _why_not_writable(self) -> str:
        if time.monotonic() - self._checked > WRITABLE_SECONDS or self._writable:
            # One for all who ask: a storage that hangs must not hold a thread for each of them.
            if self._probing is None or self._probing.done():
                self._probing = asyncio.create_task(self._probe())
            await asyncio.shield(self._probing)
        return self._writable

    async def _probe(self) -> None:
        try:
            await asyncio.to_thread(probe_writable, self.spec.job.output, self._s3)
            self._writable = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, `ready` shows it
            self._writable = _words(error)
        self._checked = time.monotonic()


def _words(error: Exception) -> str:
    plain = isinstance(error, TakestreamError)
    return str(error) if plain else f"{type(error).__name__}: {error}"
