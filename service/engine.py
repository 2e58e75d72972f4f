"""The part of a service that owns the workers: on-demand windows, queries and jobs, in one loop.

One of it runs for any number of front doors.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError

from configs.schema import JobSpec, ServeSpec
from models.errors import ModelError
from service.jobs import Jobs, TooManyJobs
from service.ondemand import Busy, OnDemand, Part
from service.records import JobRecord, Records
from takestream.storage import S3Options
from workers.dataset import Take
from workers.dispatch import Pool
from workers.objects import StoreError, probe_writable
from workers.recipe import Recipe, make_recipe
from workers.unit import PreparedTake, Query

log = logging.getLogger(__name__)

# How long the answer to "is the output writable" stays good, in seconds.
WRITABLE_SECONDS = 30.0
RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class Refusal:
    """Instead of an answer: too much is under way. retry_after: seconds."""

    detail: str
    retry_after: int


class Engine:
    """Owns the pool. Methods are called over Ray, so they return refusals instead of raising."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.spec = ServeSpec.model_validate(settings)
        job = self.spec.job
        self._s3 = S3Options(**(job.output_s3 or job.s3).model_dump())
        self._pool: Pool | None = None
        self._ready = asyncio.Event()
        self._model = "not loaded yet"
        self._writable = "not checked yet"
        self._checked = 0.0
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        pool = Pool(self.spec.job.run)
        self._pool = await pool.__aenter__()
        self.ondemand = OnDemand(pool, self.spec.limits.queue)
        self.jobs = Jobs(self.spec, pool, Records(self.spec.job.output, self._s3))
        self._ready.set()
        while self._model:
            try:
                recipe = await asyncio.to_thread(make_recipe, self.spec.job)
                self._model = await pool.load(recipe)
            except (RayError, ModelError) as error:
                self._model = str(error)
            if self._model:
                log.error("the encoder cannot be loaded: %s", self._model)
                await asyncio.sleep(RETRY_SECONDS)
        while await self._why_not_writable():
            await asyncio.sleep(RETRY_SECONDS)
        await self.jobs.resume()

    async def close(self) -> None:
        """Hand all work back."""
        self._starting.cancel()
        if self._pool is not None:
            await self.jobs.close()
            await self._pool.__aexit__()
            self._pool = None

    async def ready(self) -> dict[str, str]:
        """By check, why it fails, or nothing."""
        found = {"model": self._model, "output": await self._why_not_writable()}
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
        }

    async def prepare(
        self, recipe: Recipe, take: Take, streams: Sequence[str]
    ) -> PreparedTake | Refusal:
        """See `OnDemand.prepare`."""
        await self._ready.wait()
        try:
            return await self.ondemand.prepare(recipe, take, streams)
        except Busy as error:
            return Refusal(str(error), error.retry_after)

    async def window(
        self, recipe: Recipe, take: Take, streams: Sequence[str], start: int, stop: int
    ) -> AsyncIterator[Part | Refusal]:
        """See `OnDemand.window`."""
        await self._ready.wait()
        try:
            async for part in self.ondemand.window(recipe, take, streams, start, stop):
                yield part
        except Busy as error:
            yield Refusal(str(error), error.retry_after)

    async def query(self, recipe: Recipe, text: str | None, image: bytes | None) -> Query:
        """See `Pool.query`."""
        await self._ready.wait()
        assert self._pool is not None
        return await self._pool.query(recipe, text, image)

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord | Refusal:
        """See `Jobs.submit`."""
        await self._ready.wait()
        try:
            return await self.jobs.submit(job, by)
        except TooManyJobs as error:
            return Refusal(str(error), 60)
        except StoreError as error:
            return Refusal(str(error), 10)

    async def job(self, job_id: str) -> JobRecord | None:
        """See `Jobs.get`."""
        await self._ready.wait()
        return await self.jobs.get(job_id)

    async def job_list(self, limit: int) -> Sequence[JobRecord]:
        """See `Jobs.newest`."""
        await self._ready.wait()
        return await self.jobs.newest(limit)

    async def job_stop(self, job_id: str) -> JobRecord | None:
        """See `Jobs.stop`."""
        await self._ready.wait()
        return await self.jobs.stop(job_id)

    async def job_log(self, job_id: str) -> str:
        """See `Jobs.log`."""
        await self._ready.wait()
        return await self.jobs.log(job_id)

    async def job_events(self, job_id: str) -> AsyncIterator[JobRecord]:
        """See `Jobs.follow`."""
        await self._ready.wait()
        async for record in self.jobs.follow(job_id):
            yield record

    async def _why_not_writable(self) -> str:
        if time.monotonic() - self._checked > WRITABLE_SECONDS or self._writable:
            try:
                await asyncio.to_thread(probe_writable, self.spec.job.output, self._s3)
                self._writable = ""
            except StoreError as error:
                self._writable = str(error)
            self._checked = time.monotonic()
        return self._writable
