"""Which takes are stale, and why: each kind of change is named, and nothing else is."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from service.cli.main import run
from takestream.licence import ATTRIBUTE, Licences
from tests.support.brightness import STREAMS, Job, video
from workers.dataset.egoexo import read_takes
from workers.run.stale import TakeState, modified_since, only_changed, settings_changed, states


def chosen(job: Job):
    return [(take, STREAMS) for take in read_takes(str(job.root))]


def state(job: Job, **settings: object) -> TakeState:
    recipe = job.with_settings(**settings) if settings else job.recipe
    (found,) = states(recipe, chosen(job))
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Job:
    job = Job(tmp_path_factory.mktemp("stale"))
    assert state(job).state == "missing"
    job.prepare()
    assert state(job).state == "partial"
    job.run()
    assert (state(job).state, state(job).reasons) == ("current", ())
    return job


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"grid": {"stride": 8}}, "grid: stride 16 → 8"),
        ({"grid": {"fps": 10.0}}, "grid: fps 30.0 → 10.0"),
        ({"encoder": {"preset": "efficientnet_lite", "frames": 4}}, "encoder: frames 8 → 4"),
        ({"select": {"resolution": "448"}}, "resolution full → 448"),
        ({"rotate": {"cam01_0": 90}}, "rotation none → cam01_0 90"),
        ({"timeline": "pts"}, "timeline frames → pts"),
        ({"sync": "apply"}, "sync correction False → True"),
    ],
)
def test_each_setting_is_named_alone(done: Job, settings: dict, reason: str) -> None:
    found = state(done, **settings)
    assert (found.state, found.reasons) == ("stale", (reason,))
    assert found.version == done.recipe.target.encoder_id != found.encoder_id


def test_weights_preprocessing_and_versions(done: Job) -> None:
    attributes = done.dataset().attrs
    other = {**attributes, "encoder": {**attributes["encoder"], "sha256": "f" * 64}}
    (one,) = settings_changed(other, done.recipe, done.recipe.target)
    assert one.startswith("weights ffffffffffff… → ")
    prepared = {**attributes["encoder"], "preprocess": {"resize": 8}}
    (one,) = settings_changed({**attributes, "encoder": prepared}, done.recipe, done.recipe.target)
    assert one.startswith("preprocessing resize 8 → ")
    (one,) = settings_changed(attributes, done.recipe, done.recipe.target)
    assert one.startswith("the version of preprocessing")


def test_another_licence_makes_nothing_stale(done: Job) -> None:
    """Neither does none, as in stores that were made before licences were kept."""
    licence = {"dataset_licence": {"name": "ours", "url": "https://example.org/terms"}}
    assert done.with_settings(**licence).encoder_ids == done.recipe.encoder_ids
    store = next(done.output.glob("*/u.zarr/zarr.json"))
    kept = store.read_text()
    root = json.loads(kept)
    assert root["attributes"].pop(ATTRIBUTE)["name"] == "Ego-Exo4D license agreement"
    before = done.chunks(0)
    try:
        for text in (kept, json.dumps(root)):
            store.write_text(text)
            assert state(done, **licence).state == "current"
            again = Job.__new__(Job)
            again.__dict__ = {**done.__dict__, "recipe": done.with_settings(**licence)}
            assert again.run() == []
        assert Licences.of(done.dataset().attrs).dataset is None
    finally:
        store.write_text(kept)
    assert done.chunks(0) == before


def test_what_was_never_measured_is_stale_where_it_is_asked_for(done: Job) -> None:
    found = state(done, sync="measure")
    assert found.reasons == ("sync correction: measured otherwise, or not at all",)


def test_another_video_makes_its_take_stale_until_it_is_extracted(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.run()
    before = datetime.now(UTC) + timedelta(seconds=5)
    assert only_changed(job.recipe, chosen(job)) == []
    assert modified_since(job.recipe.dataset, chosen(job), before) == []
    video(job.path("cam02_0"), 10)
    later = before.timestamp() + 5
    os.utime(job.path("cam02_0"), (later, later))
    found = state(job)
    assert found.state == "stale"
    (reason,) = found.reasons
    assert reason.startswith("source of cam02_0: ")
    assert "the file was written again" in reason
    assert "ETag" not in reason
    assert only_changed(job.recipe, chosen(job)) == chosen(job)
    assert modified_since(job.recipe.dataset, chosen(job), before) == chosen(job)
    job.run()
    assert state(job).state == "current"
    values = job.dataset().features.sel(stream="cam02_0").values
    assert np.nanmax(values[:, :3]) < 70


def test_plan_says_it(done: Job, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--dataset", str(done.root), "--output", str(done.output)]
    assert run(["plan", *places, "--stale", "--stride", "8"]) == 0
    said = capsys.readouterr()
    assert "grid: stride 16 → 8" in said.out
    assert "0 current, 1 stale, 0 partial, 0 missing" in said.err
    assert run(["extract", *places, "--only-changed"]) == 0
    assert "no take has changed" in capsys.readouterr().out
    assert run(["plan", *places, "--since", "tomorrow"]) == 2
    assert "is no date such as" in capsys.readouterr().err
