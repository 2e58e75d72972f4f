"""What a machine has to see before it is given work."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.run import RunSpec
from tests.support.brightness import Job
from workers.media.source import ObjectIdentity
from workers.run.nodeproof import FOLDER, Sight, look, new_key, why_not
from workers.run.proofs import Proofs
from workers.run.slots import Slot
from workers.run.tasks import Prepare


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def proof(job: Job, **other: object) -> str:
    """Why a machine is left out that sees what this one does, but for what is `other`."""
    _, prepared = job.prepare()
    key = new_key()
    own = look(job.recipe, prepared.take)
    there = look(job.recipe, prepared.take, key)
    assert isinstance(own.source, ObjectIdentity)
    assert own == there
    assert (job.output / key).read_text() == key
    return why_not(job.recipe, own, replace(there, **other), key)  # type: ignore[arg-type]


def test_a_machine_like_the_drivers_is_used_and_leaves_nothing(job: Job) -> None:
    assert proof(job) == ""
    assert not [path for path in (job.output / FOLDER).rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"source": ObjectIdentity(1, "x")}, "sees another object"),
        ({"source": "s3://b/k: access denied"}, "access denied"),
        ({"source": None}, "does not see the data set"),
        ({"output": "no space left"}, "cannot write the output: no space left"),
        ({"code": "0"}, "other code of takestream"),
        ({"versions": {}}, "has libavcodec None, and the driver [0-9]"),
    ],
)
def test_what_is_different_is_named(job: Job, other: dict[str, object], words: str) -> None:
    assert re.search(words, proof(job, **other))


def test_an_output_that_the_driver_does_not_see_is_named(job: Job, tmp_path: Path) -> None:
    _, prepared = job.prepare()
    key = new_key()
    there = look(job.recipe, prepared.take, key)
    (job.output / key).unlink()
    why = why_not(job.recipe, there, there, key)
    assert "is not there for the driver" in why
    assert str(job.output) in why


def test_an_object_that_the_driver_cannot_see_is_left_to_its_tasks(job: Job) -> None:
    _, prepared = job.prepare()
    key = new_key()
    there = look(job.recipe, prepared.take, key)
    own = Sight("no such object", "", there.code, there.versions)
    assert why_not(job.recipe, own, there, key) == ""


def test_machines_that_prove_themselves_at_once_with_two_takes_are_both_used(job: Job) -> None:
    """Each is shown one take, and compared with what the driver sees of that one."""
    _, prepared = job.prepare()
    first = prepared.take
    streams = [replace(one, uri=first.streams[1].uri) for one in first.streams]
    second = replace(first, uid="v", streams=tuple(streams))
    proofs = Proofs(RunSpec(address="auto"))

    async def look_there(*asked: Any) -> Sight:
        return await asyncio.to_thread(look, *asked)

    worker = SimpleNamespace(look=SimpleNamespace(remote=look_there))

    async def both() -> list[str]:
        slots = [Slot(node="a"), Slot(node="b")]
        tasks = [Prepare(job.recipe, take, "job") for take in (first, second)]
        asked = [
            proofs.why_not(slot, worker, task, "") for slot, task in zip(slots, tasks, strict=True)
        ]
        return await asyncio.gather(*asked)

    for _ in range(20):
        assert asyncio.run(both()) == ["", ""]
        proofs = Proofs(RunSpec(address="auto"))
