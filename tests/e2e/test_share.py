"""Two jobs on one cluster, each with workers of its own, share its machines."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from configs.load import load_job
from service.jobs.choose import ChosenJob, choose
from tests.support.clusters import raylets
from workers.run.job import run_job
from workers.run.pool import Pool
from workers.run.report import Progress, Report
from workers.run.session import ray_session

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with raylets(monkeypatch) as cluster:
        cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        yield cluster


def test_a_second_job_gets_its_part_and_the_first_gets_all_back(
    cluster: Cluster,
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
) -> None:
    video = {"cam01_0": make_video(frames=320), "cam02_0": make_video(frames=320, seed=2)}
    root = make_dataset(dict.fromkeys("abcdefgh", video))

    def job(name: str, takes: str) -> ChosenJob:
        settings = {
            "dataset": str(root), "output": str(tmp_path / name),
            "select": {"take_names": list(takes)}, "store": {"unit_frames": 32},
            "run": {"address": cluster.address, "device": "cpu"},
        }  # fmt: skip
        return choose(load_job(None, settings))

    first, second = job("first", "abcdefgh"), job("second", "a")
    alive: list[tuple[int, int]] = []
    at_the_end: list[int] = []

    async def go() -> tuple[Report, Report]:
        last = [Progress(0)]
        async with Pool(first.recipe.job.run) as one:
            running = asyncio.create_task(
                run_job(one, first.recipe, first.takes, lambda p, _: last.__setitem__(0, p))
            )
            while last[0].units_done < 4 or one.alive < 2:
                await asyncio.sleep(0.1)
            async with Pool(second.recipe.job.run) as two:
                other = asyncio.create_task(run_job(two, second.recipe, second.takes))
                while not other.done():
                    alive.append((one.alive, two.alive))
                    await asyncio.sleep(0.2)
                assert not running.done()
            while not running.done():
                at_the_end.append(one.alive)
                await asyncio.sleep(0.2)
        return running.result(), other.result()

    with ray_session(first.recipe.job.run):
        reports = asyncio.run(asyncio.wait_for(go(), 280))
    assert all(report.ok for report in reports)
    assert [report.progress.units_done for report in reports] == [80, 10]
    assert (1, 1) in alive
    assert 2 in at_the_end
    assert not any(report.progress.counts.get("workers_lost") for report in reports)
