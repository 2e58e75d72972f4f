"""What cannot be probed costs its take's exactness, and is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.jobs.plan import JobPlan
from takestream.errors import CredentialsError, StorageError, StorageUnavailable
from tests.support.brightness import STREAMS, Job
from workers.media.source import Source
from workers.run.plan import plan


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def refusing(monkeypatch: pytest.MonkeyPatch, error: StorageError, part: str) -> None:
    identity = Source.identity

    def asked(source: Source) -> object:
        if part in source.uri:
            raise error
        return identity(source)

    monkeypatch.setattr(Source, "identity", asked)


@pytest.mark.parametrize("part", ["cam02_0", ".mp4"])
def test_an_object_that_cannot_be_read(
    job: Job, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, prepared = job.prepare()
    take = replace(prepared.take, duration=100 / 30)
    refusing(monkeypatch, StorageUnavailable("the bucket is away"), part)
    recipe = job.with_settings(output=str(job.output) + "-other")
    (planned,) = plan(recipe, [(take, STREAMS)], probe=True)
    lost = [stream.key for stream in take.streams if part in str(stream.uri)]
    assert planned.unread == dict.fromkeys(lost, "the bucket is away")
    assert planned.exact == (part == "cam02_0")
    assert planned.clips > 0
    (said,) = JobPlan(recipe, [planned], None, None).doubts
    end = "without it" if planned.exact else "counted as listed"
    assert said == f"{take.name}: the bucket is away; {end}"


def test_keys_that_are_refused_end_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    _, prepared = job.prepare()
    refusing(monkeypatch, CredentialsError("ended"), "cam02_0")
    recipe = job.with_settings(output=str(job.output) + "-other")
    with pytest.raises(CredentialsError):
        plan(recipe, [(prepared.take, STREAMS)], probe=True)


def test_a_take_of_unknown_length_is_named(job: Job) -> None:
    _, prepared = job.prepare()
    take = replace(prepared.take, duration=None)
    recipe = job.with_settings(output=str(job.output) + "-other")
    planned = plan(recipe, [(take, STREAMS)])
    assert planned[0].clips == 0
    (said,) = JobPlan(recipe, planned, None, None).doubts
    assert "of 1 takes the data set does not say how long they are" in said
    probed = plan(recipe, [(take, STREAMS)], probe=True)
    assert probed[0].clips > 0
    assert JobPlan(recipe, probed, None, None).doubts == []
