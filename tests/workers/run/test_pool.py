"""The pool as a service owns it: in an async actor whose callers come and go."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from configs.load import load_job
from configs.run import RunSpec
from takestream.errors import ErrorKind
from workers.dataset.take import Take
from workers.run.fair import Queued
from workers.run.pool import Pool
from workers.run.recipe import Recipe, make_recipe
from workers.run.session import ray_session
from workers.run.tasks import Prepare

pytestmark = pytest.mark.e2e


@ray.remote
class Owner:
    """Owns a pool; `ask` runs a task for as long as somebody waits for it."""

    async def start(self) -> None:
        self.pool = await Pool(RunSpec(device="cpu", workers=1)).__aenter__()

    async def ask(self, recipe: Recipe, owner: str) -> Any:
        done: asyncio.Queue[Any] = asyncio.Queue()
        take = Take(owner, owner, None, None, None, None, ())
        task = Prepare(recipe, take, owner)
        self.pool.submit([task], done.put_nowait, urgent=True)
        try:
            return await done.get()
        finally:
            self.pool.cancel(owner)


def test_a_worker_still_hears_when_callers_were_cancelled(tmp_path: Any) -> None:
    job = load_job(None, {"dataset": str(tmp_path), "output": str(tmp_path / "features")})
    recipe = make_recipe(job)
    with ray_session(job.run):
        owner = Owner.remote()  # type: ignore[attr-defined]
        ray.get(owner.start.remote())
        ray.get(owner.ask.remote(recipe, "first"))
        for number in range(150):
            asked = owner.ask.remote(recipe, f"leaver-{number}")
            # Any moment from before the task is queued to after it ended.
            ray.wait([asked], timeout=number % 20 / 1000)
            ray.cancel(asked)
            with contextlib.suppress(RayError):
                ray.get(asked, timeout=30)
        assert ray.get(owner.ask.remote(recipe, "last"), timeout=30).take.name == "last"


def test_what_takes_workers_down_is_counted_once_it_is_left_out(tmp_path: Path) -> None:
    job = load_job(None, {"dataset": str(tmp_path), "output": str(tmp_path / "features")})
    recipe = make_recipe(job)
    task = Prepare(recipe, Take("u", "one", None, None, None, None, ()), "job")
    told: list[Any] = []

    async def go() -> dict[str, float]:
        async with Pool(RunSpec(device="cpu", workers=1, attempts=2)) as pool:
            pool._open["job"] += 1
            queued = Queued(0, 0, task, told.append, urgent=False)
            await pool._retry(queued, RayError("died"), "")
            assert "units_quarantined" not in pool.counts("job")
            assert not told
            await pool._batch.get()
            await pool._retry(replace(queued, deaths=1), RayError("died"), "")
            return pool.counts("job")

    with ray_session(job.run):
        counts = asyncio.run(go())
    assert counts["units_quarantined"] == 1
    (record,) = told
    assert record.failures[0].kind is ErrorKind.CRASH
