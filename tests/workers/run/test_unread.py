"""One object that cannot be read costs its stream alone, and a rerun fills it in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
import torch
import xarray as xr

from service.demo.s3server import ObjectStore
from takestream.errors import ErrorKind, StorageError, StorageUnavailable
from takestream.schema import COMPLETE, PARTIAL, Reason
from tests.support import fault_proxy as faults
from tests.support.brightness import STREAMS, BrightnessEncoder, Job, video
from tests.support.fault_proxy import Act, FaultProxy, fault_proxy
from workers.dataset.layouts import dataset_of
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe
from workers.run.tasks import Failure, PreparedTake, UnitRecord
from workers.store.takestore import TakeStore

PATIENCE = 2.0
GOOD, BAD = "cam01_0", "cam02_0"
VIDEO = rf"{BAD}\.mp4"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("videos")
        yield server


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def undisturbed(local: Job) -> xr.Dataset:
    local.run()
    return local.dataset()


@pytest.fixture
def proxy(s3: ObjectStore, local: Job, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    options = s3.storage_options()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
    filesystem = s3fs.S3FileSystem(**options)
    if not filesystem.exists("videos/data/takes.json"):
        filesystem.put(str(local.root), "videos/data", recursive=True)
    with fault_proxy(s3.endpoint_url) as running:
        yield running


class Run:
    """One run of the job over S3, as `workers.run.job` makes it of the extractor's records."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        (self.take,) = dataset_of(recipe.job).takes()
        encoders = [BrightnessEncoder(target.encoder) for target in recipe.targets]
        self.extractor = UnitExtractor(recipe, encoders, torch.device("cpu"))
        self.prepared: PreparedTake | None = None
        self.records: list[UnitRecord] = []
        self.failures: list[Failure] = []

    def prepare(self, streams: tuple[str, ...] = STREAMS) -> "Run":
        self.prepared = self.extractor.prepare(self.take, streams)
        self.failures += self.prepared.failures
        return self

    def extract(self) -> "Run":
        assert self.prepared is not None
        for unit in self.prepared.units:
            self.records.append(self.extractor.extract(unit))
            self.failures += self.records[-1].failures
        self.complete = self.extractor.finish(self.take).complete
        return self

    @property
    def store(self) -> xr.Dataset:
        return xr.open_zarr(self.recipe.store_uri("u")).load()

    def chunks(self, stream: int) -> dict[Path, int]:
        store = Path(self.recipe.store_uri("u"))
        return {p: p.stat().st_mtime_ns for p in store.glob(f"features/c/*/{stream}/0")}


@pytest.fixture
def recipe(local: Job, proxy: FaultProxy, tmp_path: Path) -> Recipe:
    s3 = {"endpoint_url": proxy.endpoint_url, "patience": PATIENCE}
    return local.with_settings(dataset="s3://videos/data", output=str(tmp_path / "out"), s3=s3)


REFUSALS: dict[str, tuple[Act, ErrorKind]] = {
    "403": (faults.refused(403, "AccessDenied"), ErrorKind.DENIED),
    "500": (faults.refused(500, "InternalError"), ErrorKind.UNAVAILABLE),
}


def assert_good_and_only_good(found: xr.Dataset, undisturbed: xr.Dataset) -> None:
    good, bad = found.sel(stream=GOOD), found.sel(stream=BAD)
    xr.testing.assert_equal(good.features, undisturbed.sel(stream=GOOD).features)
    assert bool(good.valid.all())
    assert set(bad.reason.values.tolist()) == {Reason.NOT_EXTRACTED}
    assert not bad.valid.any()
    assert np.isnan(bad.features).all()
    assert found.attrs["status"] == PARTIAL


def assert_filled_in(recipe: Recipe, undisturbed: xr.Dataset, kept: dict[Path, int]) -> None:
    again = Run(recipe).prepare().extract()
    assert (again.failures, again.complete) == ([], True)
    xr.testing.assert_equal(again.store, undisturbed)
    assert again.store.attrs["status"] == COMPLETE
    assert again.store.attrs["problems"] == undisturbed.attrs["problems"]
    assert again.chunks(0) == kept


@pytest.mark.parametrize("kind", REFUSALS)
def test_an_object_that_is_refused_costs_its_stream(
    recipe: Recipe, proxy: FaultProxy, undisturbed: xr.Dataset, kind: str
) -> None:
    act, means = REFUSALS[kind]
    proxy.fault(act, path=VIDEO)
    run = Run(recipe).prepare().extract()
    (failure,) = run.failures
    assert (failure.take, failure.stream, failure.kind) == ("t", BAD, means)
    assert f"{BAD}.mp4" in failure.reason
    if means is ErrorKind.DENIED:
        assert "absent" in failure.reason
    assert not failure.fatal
    assert not run.complete
    prepared = run.prepared
    assert prepared is not None
    assert prepared.clips == sum(record.clips for record in run.records) > 0
    assert_good_and_only_good(run.store, undisturbed)
    kept = run.chunks(0)
    assert run.chunks(1) == {}
    proxy.heal()
    assert_filled_in(recipe, undisturbed, kept)


@pytest.mark.parametrize("kind", REFUSALS)
def test_an_object_that_is_refused_while_it_is_read_costs_its_stream(
    recipe: Recipe, proxy: FaultProxy, undisturbed: xr.Dataset, kind: str
) -> None:
    act, means = REFUSALS[kind]
    run = Run(recipe).prepare()
    proxy.fault(act, path=VIDEO)
    run.extract()
    assert {(failure.stream, failure.kind) for failure in run.failures} == {(BAD, means)}
    for record in run.records:
        assert record.outcome == "done"
        assert set(record.clips_lost) == {BAD}
    assert_good_and_only_good(run.store, undisturbed)
    kept = run.chunks(0)
    proxy.heal()
    assert_filled_in(recipe, undisturbed, kept)


def test_an_object_that_changes_while_it_is_read_costs_its_stream(
    recipe: Recipe, proxy: FaultProxy, undisturbed: xr.Dataset
) -> None:
    run = Run(recipe).prepare()
    proxy.fault(faults.other_etag, path=VIDEO)
    run.extract()
    assert {(failure.stream, failure.kind) for failure in run.failures} == {
        (BAD, ErrorKind.CHANGED)
    }
    assert_good_and_only_good(run.store, undisturbed)
    kept = run.chunks(0)
    proxy.heal()
    assert_filled_in(recipe, undisturbed, kept)


def test_a_stream_that_was_not_asked_for_is_no_concern(
    recipe: Recipe, proxy: FaultProxy, undisturbed: xr.Dataset
) -> None:
    proxy.fault(faults.refused(403, "AccessDenied"), path=VIDEO)
    run = Run(recipe).prepare((GOOD,)).extract()
    assert (run.failures, run.complete) == ([], True)
    features = undisturbed.sel(stream=[GOOD]).features
    xr.testing.assert_equal(run.store.features, features)
    # Whether the length that was agreed on without it is the take's shows once it can be read.
    assert run.store.attrs["provenance"]["unread"] == [BAD]
    proxy.heal()
    again = Run(recipe).prepare((GOOD,)).extract()
    assert again.failures == []
    whole = Run(recipe).prepare().extract()
    assert (whole.failures, whole.complete) == ([], True)
    assert whole.store.attrs["provenance"]["unread"] == []
    xr.testing.assert_equal(whole.store.features, undisturbed.features)


def test_a_complete_store_stays_when_an_object_is_refused_later(
    recipe: Recipe, proxy: FaultProxy, undisturbed: xr.Dataset
) -> None:
    Run(recipe).prepare().extract()
    proxy.fault(faults.refused(403, "AccessDenied"), path=VIDEO)
    run = Run(recipe).prepare()
    assert run.prepared is not None
    assert run.prepared.units == ()
    assert [(f.stream, f.kind) for f in run.failures] == [(BAD, ErrorKind.DENIED)]
    xr.testing.assert_equal(run.store, undisturbed)
    assert run.store.attrs["status"] == COMPLETE


def test_a_storage_that_is_away_is_told_from_an_object(recipe: Recipe, proxy: FaultProxy) -> None:
    run = Run(recipe).prepare()
    proxy.fault(faults.refused(503, "SlowDown"))
    with pytest.raises(StorageError) as caught:
        run.extract()
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    assert run.chunks(0) == run.chunks(1) == {}


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId"])
def test_keys_that_end_are_no_matter_of_one_stream(
    recipe: Recipe, proxy: FaultProxy, code: str
) -> None:
    proxy.fault(faults.refused(403, code), path=VIDEO)
    with pytest.raises(StorageError) as caught:
        Run(recipe).prepare()
    assert caught.value.kind is ErrorKind.CREDENTIALS


def test_nothing_readable_makes_no_store(recipe: Recipe, proxy: FaultProxy) -> None:
    proxy.fault(faults.refused(403, "AccessDenied"), path=VIDEO)
    run = Run(recipe).prepare((BAD,))
    assert [(f.stream, f.kind) for f in run.failures] == [(BAD, ErrorKind.DENIED)]
    assert not Path(recipe.store_uri("u")).exists()


def test_the_length_may_turn_out_to_be_another(
    s3: ObjectStore, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Without its vote the take seems shorter: the store is made anew once all can be read."""
    local = Job(tmp_path / "longer")
    video(local.path(BAD), 100, frames=160)
    local.run()
    s3fs.S3FileSystem(**s3.storage_options()).put(str(local.root), "videos/longer", recursive=True)
    options = {"endpoint_url": proxy.endpoint_url, "patience": PATIENCE}
    out = str(tmp_path / "out")
    recipe = local.with_settings(dataset="s3://videos/longer", output=out, s3=options)
    proxy.fault(faults.refused(403, "AccessDenied"), path=VIDEO)
    shorter = Run(recipe).prepare().extract()
    assert shorter.store.sizes["clip"] < local.dataset().sizes["clip"]
    proxy.heal()
    again = Run(recipe).prepare().extract()
    assert (again.failures, again.complete) == ([], True)
    xr.testing.assert_equal(again.store, local.dataset())
    # And a store that was made with its vote outlives its absence.
    proxy.fault(faults.refused(403, "AccessDenied"), path=VIDEO)
    run = Run(recipe).prepare()
    assert [(f.stream, f.kind) for f in run.failures] == [(BAD, ErrorKind.DENIED)]
    xr.testing.assert_equal(run.store, local.dataset())


def test_a_stream_that_cannot_be_written_costs_itself(
    local: Job, undisturbed: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = local.with_settings(output=str(tmp_path / "out"))
    write, lost = TakeStore.write, {BAD}

    def failing(store: TakeStore, stream: str, start: int, **values: Any) -> int:
        if stream in lost:
            raise StorageUnavailable(f"cannot write to {stream}: 503")
        return write(store, stream, start, **values)

    monkeypatch.setattr(TakeStore, "write", failing)
    run = Run(recipe).prepare().extract()
    assert {failure.stream for failure in run.failures} == {BAD}
    assert [record.outcome for record in run.records] == ["done"] * len(run.records)
    assert all(set(record.clips_lost) == {BAD} for record in run.records)
    assert not run.complete
    good = STREAMS.index(GOOD)
    before = run.chunks(good)
    assert before
    # Where nothing can be written the unit has failed, after two streams without an answer.
    lost |= set(STREAMS)
    with pytest.raises(StorageUnavailable):
        Run(local.with_settings(output=str(tmp_path / "none"))).prepare().extract()
    lost.clear()
    again = Run(recipe).prepare().extract()
    assert again.complete
    assert run.chunks(good) == before
    xr.testing.assert_equal(again.store.features, undisturbed.features)
