"""Fixtures of the service's jobs and engine."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from configs.run import RunSpec
from configs.schema import JobSpec, ServeSpec
from service.jobs import driver, manager, ownership
from service.jobs.choose import ChosenJob
from tests.support.jobs import Work, spec_of
from workers.run import job


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work()
    spec = JobSpec(dataset="data", output="out", run=RunSpec(region="here"))
    recipe = SimpleNamespace(encoder_ids=("enc-0123456789",), job=spec, dataset=None)
    monkeypatch.setattr(manager, "choose", lambda job: ChosenJob(recipe, []))
    monkeypatch.setattr(driver, "_written", lambda recipe, report: "report.json")
    monkeypatch.setattr(job, "run_job", work)
    monkeypatch.setattr(ownership, "RETRY_SECONDS", 0.02)
    return work


@pytest.fixture
def spec(tmp_path: Path) -> ServeSpec:
    return spec_of(tmp_path)
