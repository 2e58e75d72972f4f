"""Ray clusters of several raylets on this machine, by Ray's own utility, and jobs on them."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import ray
from ray.cluster_utils import Cluster

from service.jobs.choose import ChosenJob
from workers.run.job import run_job
from workers.run.pool import Pool
from workers.run.report import Progress, Report
from workers.run.session import ray_session


@contextmanager
def raylets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs of its own; machines are to be added."""
    for name in [name for name in os.environ if name.startswith("RAY_A")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def run(
    chosen: ChosenJob,
    happens: Callable[[Pool, Progress], None] = lambda pool, progress: None,
    seconds: float = 240,
) -> Report:
    """Run a job; `happens` is called again and again meanwhile."""

    async def go() -> Report:
        async with Pool(chosen.recipe.job.run) as pool:
            last = [Progress(0)]
            job = asyncio.create_task(
                run_job(pool, chosen.recipe, chosen.takes, lambda p, _: last.__setitem__(0, p))
            )
            while not job.done():
                happens(pool, last[0])
                await asyncio.sleep(0.2)
            return job.result()

    with ray_session(chosen.recipe.job.run):
        return asyncio.run(asyncio.wait_for(go(), seconds))
