"""In which order a job's work is done, and how near to the least possible time that comes."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from configs.load import load_job
from tests.benchmarks.lengths import release_takes
from tests.benchmarks.simulation import Costs, Simulation, Workload, make_workload
from workers.dataset.take import Stream, Take
from workers.run.dispatch import AskedTake, Dispatch, longest_first
from workers.run.recipe import Recipe, make_recipe
from workers.run.tasks import Task

COSTS = Costs(
    clips_per_s=(60.0, 80.0, 100.0),
    workers_per_gpu=3,
    prepare_seconds=1.0,
    finish_seconds=0.3,
    start_seconds=30.0,
    driver_seconds=0.001,
    replace_seconds=180.0,
)


def asked(name: str, seconds: float | None, streams: int = 1) -> AskedTake:
    keys = tuple(f"cam{n}_0" for n in range(streams))
    all_of_it = tuple(Stream(key, key[:-2], "0", None, False) for key in (*keys, "more_0"))
    return Take(name, name, None, None, None, seconds, all_of_it), keys


def recipe() -> Recipe:
    return make_recipe(load_job(None, {"dataset": "/d", "output": "/o"}))


@pytest.fixture(scope="module")
def release() -> Workload:
    return make_workload(recipe(), release_takes(), COSTS)


def test_takes_with_most_video_are_begun_first_and_those_of_unknown_length_before_them() -> None:
    takes = [
        asked("short", 10.0),
        asked("equal", 10.0),
        asked("long", 15.0),
        asked("unknown", None),
        asked("seen by four", 10.0, 4),
    ]
    order = ["unknown", "seen by four", "long", "short", "equal"]
    assert [take.name for take, _ in longest_first(takes)] == order
    tasks: list[Task] = []
    job = Dispatch(recipe(), takes, tasks.extend, "job")
    job.advance(3)
    assert [task.take.name for task in tasks] == order[:3]


def test_a_simulation_of_one_worker_takes_what_its_work_takes(release: Workload) -> None:
    costs = replace(COSTS, workers_per_gpu=1)
    alone = Simulation(release, costs, 1).run()
    assert (alone.workers, alone.preempted) == (1, 0)
    tasks = release.units + 2 * len(release.takes)
    expected = costs.start_seconds + release.total(costs) + tasks * costs.driver_seconds
    assert alone.makespan == pytest.approx(expected)
    assert sum(release.seconds.values()) == pytest.approx(release.clips / 80.0, rel=0.01)


def test_256_gpus_end_within_a_twentieth_of_the_bound(release: Workload) -> None:
    def shuffled(takes: Iterable[AskedTake]) -> list[AskedTake]:
        return random.Random(0).sample(some := list(takes), len(some))

    orders: list[Any] = [list, shuffled]
    as_listed, at_random = (Simulation(release, COSTS, 256, one).run() for one in orders)
    real = Simulation(release, COSTS, 256).run()
    assert real.ratio <= 1.05
    # So the order is what does it.
    assert min(as_listed.ratio, at_random.ratio) > 1.08


def test_machines_that_are_taken_back_cost_little_more_than_they_lose(release: Workload) -> None:
    costs = replace(COSTS, preempted_per_hour=1.0)
    found = [Simulation(release, costs, 256, seed=seed).run() for seed in range(3)]
    assert all(one.preempted and one.lost_seconds for one in found)
    assert max(one.ratio for one in found) <= 1.06
    # The same moments come again.
    assert Simulation(release, costs, 256, seed=0).run() == found[0]
