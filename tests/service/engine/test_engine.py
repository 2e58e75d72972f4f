"""The engine, in this process, with workers that are only pretended."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from configs.schema import ServeSpec
from service.engine import engine
from service.engine.engine import Engine
from service.engine.ondemand import Busy, OnDemand
from service.engine.refusal import Refusal
from service.jobs import ownership
from service.jobs.records import JobRecord, Records
from tests.support.jobs import (
    FakePool,
    Work,
    gone_owner,
    left_behind,
    other_owner,
    run,
    until,
)  # fmt: skip
from workers.store.errors import StoreError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, spec: ServeSpec, work: Work) -> Callable[[], Engine]:
    monkeypatch.setattr(engine, "Pool", FakePool)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(engine, "make_recipe", lambda job: None)
    monkeypatch.setattr(engine, "probe_writable", lambda *place: None)
    return lambda: Engine(spec.model_dump(mode="json"))


def test_an_engine_tries_again_what_failed_and_says_so_meanwhile(
    started: Callable[[], Engine], spec: ServeSpec, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        job = left_behind(spec)
        unfinished, tries = Records.unfinished, []

        def slow_down(records: Records) -> Any:
            tries.append(1)
            if len(tries) < 3:
                raise StoreError("cannot list: 503 SlowDown")
            return unfinished(records)

        broken = [OSError("no such disk"), ValueError("odd")]

        def make(job: object) -> None:
            if broken:
                raise broken.pop()

        monkeypatch.setattr(Records, "unfinished", slow_down)
        monkeypatch.setattr(engine, "make_recipe", make)
        mine = started()
        said: set[tuple[str, str]] = set()
        while found := await mine.ready():
            said |= found.items()
            if "jobs" in found and mine._ready.is_set():
                assert isinstance(await mine.submit(spec.job, None), Refusal)
            await asyncio.sleep(0.01)
        assert {
            ("model", "ValueError: odd"), ("model", "OSError: no such disk"),
            ("jobs", "not taken up yet"), ("jobs", "cannot list: 503 SlowDown"),
        } <= said  # fmt: skip
        await until(lambda: work.runs)
        assert (await mine.submit(spec.job, None)).job_id == job.job_id
        monkeypatch.setattr(engine, "FOLLOW_SECONDS", 0.1)
        assert [one.status async for one in mine.job_events(job.job_id)] == ["running"]
        far = left_behind(spec, owner=other_owner())
        assert isinstance(await mine.job_stop(far.job_id), Refusal)
        await mine.close()
        assert [one async for one in mine.job_events(job.job_id)] == []

    run(test())


def test_an_engine_beats_and_takes_up_later_what_others_leave(
    started: Callable[[], Engine], spec: ServeSpec, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(engine, "BEAT_SECONDS", 0.05)
        monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.05)
        mine = started()
        await until(lambda: "jobs" not in mine._failing)
        job = left_behind(spec, owner=gone_owner())
        await until(lambda: work.runs)
        saves: list[JobRecord] = []
        replace = Records.replace

        def counted(self: Records, record: JobRecord, version: str | None) -> str | None:
            saves.append(record)
            return replace(self, record, version)

        monkeypatch.setattr(Records, "replace", counted)
        await until(lambda: len(saves) > 2)
        assert {one.job_id for one in saves} == {job.job_id}
        assert all(one.alive_at for one in saves)
        await mine.close()

    run(test())


def test_all_who_ask_share_one_look_at_the_output(
    started: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        looks: list[int] = []

        def hangs(*place: object) -> None:
            looks.append(1)
            time.sleep(0.3)
            raise StoreError("no answer")

        monkeypatch.setattr(engine, "probe_writable", hangs)
        mine = started()
        found = await asyncio.gather(*(mine.ready() for _ in range(12)))
        assert [one["output"] for one in found] == ["no answer"] * 12
        assert len(looks) == 1
        await mine.close()

    run(test())


def test_who_waits_for_a_window_hears_that_the_service_goes_down() -> None:
    async def test() -> None:
        ondemand = OnDemand(FakePool(), 8)
        recipe: Any = type("Recipe", (), {"key": "k"})

        async def ask() -> None:
            async for _ in ondemand.window(recipe, "take", ["cam01_0"], 0, 8):
                pass

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0.01)
        ondemand.close()
        with pytest.raises(Busy, match="goes down; try again later"):
            await asking

    run(test())
