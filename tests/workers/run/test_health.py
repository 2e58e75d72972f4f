"""Whether workers can come up, and Ray's start, in words."""

import asyncio
import shutil
import socket
from collections import namedtuple
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, WorkerCrashedError

from configs.run import RunSpec
from workers.run import health, session, shares
from workers.run.health import FAILED_STARTS, Health, free_mib
from workers.run.pool import Pool
from workers.run.session import RayUnavailable, ray_session
from workers.run.slots import Slot

Usage = namedtuple("Usage", "total used free")


class Preempted(ActorDiedError):
    preempted = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [1000.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: time[0])
    monkeypatch.setattr(health, "node_lost", lambda: None)
    return time


def test_three_starts_that_fail_in_a_row_end_it_and_new_work_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Health(RunSpec())
    for _ in range(FAILED_STARTS - 1):
        pool.start_failed(WorkerCrashedError())
    pool.started()
    for _ in range(FAILED_STARTS - 1):
        pool.start_failed(TimeoutError("no answer for 300 s"))
    assert pool.lost is None
    pool.start_failed(Preempted())
    assert pool.lost is None
    pool.start_failed(WorkerCrashedError())
    assert pool.lost is not None
    assert "3 in a row died while they started (its process died)" in pool.lost
    assert f"worker takes about {health.WORKER_MIB} MiB" in pool.lost
    assert (free_mib() or 0) > 0
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**6, 10**6, 0))
    assert "has 0 MiB left, and Ray needs" in pool.lost
    pool.renew()
    assert pool.lost is None


def test_workers_that_waited_on_a_machine_that_died_are_no_failed_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = [shares.Node(name, name, 1, 0) for name in "abc"]
    alive = machines[:2]
    monkeypatch.setattr(shares, "nodes_alive", lambda: alive)
    soon = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: soon(0))

    async def dies(slot: Slot) -> None:
        raise ActorDiedError

    async def tried(times: int) -> str | None:
        pool = Pool(RunSpec(address="auto", device="cpu"))
        pool._slots._nodes = machines
        monkeypatch.setattr(pool._slots, "hired", dies)
        for _ in range(times):
            assert not await pool._has_come(Slot())
        return pool.lost

    assert asyncio.run(tried(FAILED_STARTS + 1)) is None
    alive = machines
    assert "do not come up here" in (asyncio.run(tried(FAILED_STARTS)) or "")


def test_a_kill_for_want_of_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = [7]
    monkeypatch.setattr(health, "_killed_for_memory", lambda: killed[0])
    pool = Health(RunSpec())
    assert pool.how(WorkerCrashedError()) == "its process died"
    killed[0] = 8
    assert pool.how(WorkerCrashedError()) == "the kernel killed it for want of memory"


def test_waiting_for_a_node_is_said_each_minute_and_ended_by_max_wait(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    pool = Health(RunSpec(max_wait=200))
    for _ in range(10):  # workers are there
        clock[0] += 60
        pool.look(1, True)
    for _ in range(190):
        clock[0] += 1
        pool.look(0, True)
    assert caplog.text.count("waiting for a node") == 3
    assert pool.lost is None
    clock[0] += 12
    pool.look(0, True)
    assert pool.lost is not None
    assert "--max-wait" in pool.lost
    clock[0] += 1
    pool.look(1, False)
    assert pool.lost is None
    patient = Health(RunSpec())
    for _ in range(1000):
        clock[0] += 60
        patient.look(0, True)
    assert patient.lost is None


def test_a_node_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Health(RunSpec())
    monkeypatch.setattr(health, "node_lost", lambda: "Ray's raylet died")
    pool.look(2, False)
    assert (pool.lost, pool.gone) == ("Ray's raylet died", True)


SLOW = "The current node timed out during startup. This could happen because …"


@pytest.mark.parametrize(
    ("failures", "free", "words"),
    [
        ([SLOW], 10**12, None),
        ([SLOW, SLOW], 10**12, "this machine is busy, or short of memory"),
        (["boom", "boom"], 10**12, "Ray did not start: boom"),
        ([SLOW], 20 * 2**20, "has 20 MiB left"),
        ([], 10**6, "cannot be started: .* has 0 MiB left"),
    ],
)
def test_ray_is_started_once_more_and_says_why_it_cannot(
    monkeypatch: pytest.MonkeyPatch, failures: list[str], free: int, words: str | None
) -> None:
    left = list(failures)

    def init(**_: Any) -> None:
        if left:
            raise Exception(left.pop(0))

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(free, 0, free))
    if words is None:
        with ray_session(RunSpec()):
            pass
    else:
        with pytest.raises(RayUnavailable, match=words), ray_session(RunSpec()):
            pass
    assert not left


def test_a_head_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LOST_SECONDS", 0.1)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with socket.create_server(("127.0.0.1", 0)) as raylet:
        facts = {
            "all_processes": {}, "gcs_address": "127.0.0.1:1", "node_ip_address": "127.0.0.1",
            "node_manager_port": raylet.getsockname()[1],
        }  # fmt: skip
        node = type("Node", (), facts)
        monkeypatch.setattr(session.ray_worker, "_global_node", node)
        assert session.node_lost(ask=False) is None
        assert "127.0.0.1:1 does not answer any more" in (session.node_lost() or "")
    assert "raylet on this machine" in (session.node_lost(ask=False) or "")
