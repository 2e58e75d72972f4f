"""How jobs share the workers of a pool, and pools those of a cluster."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from configs.load import load_job
from configs.run import RunSpec
from workers.dataset.take import Take
from workers.run import neighbours
from workers.run.fair import FairQueue, Queued
from workers.run.neighbours import GONE_SECONDS, Neighbours, Part
from workers.run.recipe import Recipe
from workers.run.shares import Node
from workers.run.slots import HURRY_SECONDS, Slot, Slots
from workers.run.tasks import Extract, Finish, Prepare, Task, Unit

TAKE = Take("u", "one", None, None, None, None, ())


def recipe(weight: float = 1.0) -> Recipe:
    return Recipe(load_job(None, {"dataset": "/d", "output": "/o", "weight": weight}), ())


def put(queue: FairQueue, owner: str, count: int, weight: float = 1.0, kind: Any = Prepare) -> None:
    for _ in range(count):
        task: Task = kind(recipe(weight), TAKE, owner)
        queue.put_nowait(Queued(task.priority, 0, task, print, False))


def take(queue: FairQueue) -> Queued:
    return asyncio.run(queue.get())


def served(queue: FairQueue, count: int, seconds: dict[str, float]) -> list[str]:
    """Whose tasks one worker does, one after the other, each of so many seconds."""
    found = []
    for _ in range(count):
        item = take(queue)
        found.append(item.task.owner)
        queue.ended(item, seconds[item.task.owner])
    return found


def test_a_job_that_comes_later_waits_for_one_task_and_not_for_a_whole_job() -> None:
    queue = FairQueue()
    put(queue, "a", 100)
    first = take(queue)
    put(queue, "b", 100)
    queue.ended(first, 5.0)
    assert Counter(served(queue, 40, {"a": 5.0, "b": 5.0}))["b"] in (20, 21)


def test_a_task_that_is_put_back_has_its_place_again() -> None:
    queue = FairQueue()
    put(queue, "a", 3)
    first = take(queue)
    put(queue, "a", 3)
    queue.ended(first, 1.0)
    queue.put_nowait(replace(first, deaths=1))
    again = take(queue)
    assert (again.task, again.deaths) == (first.task, 1)
    assert [take(queue).number for _ in range(5)] == [2, 3, 4, 5, 6]


def test_each_gets_its_weight_in_seconds_and_not_in_tasks() -> None:
    queue = FairQueue()
    put(queue, "long", 400)
    put(queue, "short", 400)
    put(queue, "heavy", 400, weight=2.0)
    seconds = {"long": 30.0, "short": 3.0, "heavy": 10.0}
    spent: Counter[str] = Counter()
    for owner in served(queue, 330, seconds):
        spent[owner] += int(seconds[owner])
    assert spent["short"] == pytest.approx(spent["long"], rel=0.1)
    assert spent["heavy"] == pytest.approx(2 * spent["long"], rel=0.1)


def test_several_workers_share_before_any_task_has_ended() -> None:
    queue = FairQueue()
    put(queue, "a", 20)
    put(queue, "b", 20)
    assert Counter(take(queue).task.owner for _ in range(10)) == {"a": 5, "b": 5}


def test_who_rested_saves_nothing_up() -> None:
    queue = FairQueue()
    put(queue, "a", 100)
    put(queue, "b", 1)
    assert Counter(served(queue, 61, {"a": 5.0, "b": 5.0}))["b"] == 1
    put(queue, "b", 100)
    assert Counter(served(queue, 20, {"a": 5.0, "b": 5.0})) == {"a": 10, "b": 10}


def test_within_a_job_a_take_is_finished_before_the_next_is_begun() -> None:
    queue = FairQueue()
    put(queue, "a", 2)
    unit = Unit(TAKE, 0, 1, ())
    queue.put_nowait(Queued(2, 0, Extract(recipe(), TAKE, "a", unit=unit), print, False))
    put(queue, "a", 1, kind=Finish)
    kinds = [type(take(queue).task).__name__ for _ in range(4)]
    assert kinds == ["Finish", "Extract", "Prepare", "Prepare"]
    assert queue.weight == 1.0  # under way
    queue.forget("a")
    assert queue.weight == 0.0


def test_a_getter_that_waits_is_woken() -> None:
    async def go() -> str:
        queue = FairQueue()
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        put(queue, "a", 1)
        return (await waiting).task.owner

    assert asyncio.run(go()) == "a"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """The key-value store of a cluster."""
    kept: dict[bytes, bytes] = {}

    class Kept:
        def _internal_kv_put(self, key: bytes, value: bytes, **_: Any) -> None:
            kept[key] = value

        def _internal_kv_list(self, prefix: bytes, **_: Any) -> list[bytes]:
            return [key for key in kept if key.startswith(prefix)]

        def _internal_kv_get(self, key: bytes, **_: Any) -> bytes | None:
            return kept.get(key)

        def _internal_kv_del(self, key: bytes, **_: Any) -> None:
            kept.pop(key, None)

    monkeypatch.setattr(neighbours, "internal_kv", Kept())
    return kept


def test_pools_learn_of_each_other_and_forget_who_is_gone(store: dict[bytes, bytes]) -> None:
    now = [0.0]
    a, b, idle = (Neighbours(lambda: now[0]) for _ in range(3))
    assert a.look(1.0, True) == Part()
    assert idle.look(0.0, True).share == 0.0
    assert a.look(1.0, True) == Part()  # who has nothing to do wants nothing
    assert b.look(3.0, False) == Part(0.75, True, True)
    assert a.look(1.0, True) == Part(0.25, True, False)
    assert b.look(3.0, True).settled
    store[b"pool/other"] = b"{}"  # a line that makes no sense
    assert a.look(1.0, True) == Part(0.25, True, True)
    for _ in range(4):  # b was killed
        now[0] += GONE_SECONDS / 3
        last = a.look(1.0, True)
    assert last == Part()
    assert len(store) == 1
    a.leave()
    assert store == {}


def test_a_pool_keeps_its_part_and_gives_the_rest_when_its_tasks_have_ended() -> None:
    machines = [Node(str(n), f"m{n}", 4, 0) for n in range(4)]
    slots = Slots(RunSpec(address="h:1", device="cpu"), machines)
    slots.follow(machines, 100)
    everyone = list(slots)
    for slot in everyone[:4]:
        slot.worker, slot.running = object(), 1
    assert len(slots) == 8  # four wait, which is what an autoscaler goes by
    half = Part(0.5, True, False)
    assert slots.follow(machines, 100, half) == []
    assert len(slots) == 2
    assert not slots.settled
    assert sum(slot.withdrawn for slot in everyone) == 6
    assert slots.left() == []
    everyone[3].running = 0
    assert slots.left() == [everyone[3]]
    assert len(list(slots)) == 3
    everyone[2].running = 0
    assert slots.left() == [everyone[2]]
    assert slots.settled
    # All have their part: one more may be asked of an autoscaler. Then it is alone again.
    assert len(slots.follow(machines, 100, Part(0.5, True, True))) == 1
    assert len(slots) == 3
    assert len(slots.follow(machines, 100)) == 5
    # However little it weighs it has one worker, and no more than it has tasks.
    slots.follow(machines, 100, Part(0.01, True, True))
    assert len(slots) == 2
    slots.follow(machines, 0, half)
    assert len(slots) == 1


def test_a_machine_that_is_taken_back_begins_nothing_and_gives_up_late_what_it_has() -> None:
    machines = [Node(str(n), f"m{n}", 4, 0) for n in range(2)]
    slots = Slots(RunSpec(address="h:1", device="cpu"), machines)
    slots.follow(machines, 100)
    stays, goes = list(slots)[:2]
    for slot, node in ((stays, "0"), (goes, "1")):
        slot.worker, slot.node, slot.host, slot.running = object(), node, f"m{node}", 1

    def told(seconds: float) -> list[Slot]:
        slots.follow([machines[0], replace(machines[1], leaves_in=seconds)], 100)
        return slots.hurried()

    assert told(90.0) == []
    assert (goes.withdrawn, stays.withdrawn) == (True, False)
    assert len(slots) == 2  # the one that stays, and one more to be asked for
    assert told(HURRY_SECONDS - 1) == [goes]
    assert told(5.0) == []  # once is enough
    assert slots.left() == []
    goes.running = 0
    assert slots.left() == [goes]
