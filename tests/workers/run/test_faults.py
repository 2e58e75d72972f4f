"""Storage that fails or lies: what is valid is right, what is lost is named, a rerun is equal."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
import torch
import xarray as xr

from service.demo.s3server import ObjectStore
from takestream.errors import ErrorKind, StorageError
from takestream.schema import Reason
from tests.support import fault_proxy as faults
from tests.support.brightness import STREAMS, BrightnessEncoder, Job
from tests.support.fault_proxy import Act, FaultProxy, fault_proxy
from workers.dataset.layouts import dataset_of
from workers.run.extract import UnitExtractor
from workers.run.tasks import Failure
from workers.store.objects import Objects

PATIENCE = 3.0
VIDEO = r"cam02_0\.mp4"


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


class OverS3:
    """The same job with its videos, and its stores where asked, behind the proxy."""

    def __init__(self, local: Job, proxy: FaultProxy, output: str) -> None:
        s3 = {"endpoint_url": proxy.endpoint_url, "patience": PATIENCE}
        self.recipe = local.with_settings(dataset="s3://videos/data", output=output, s3=s3)
        self.output = output
        (self.take,) = dataset_of(self.recipe.job).takes()

    def run(self) -> list[Failure]:
        """What failed; everything else is written."""
        encoders = [BrightnessEncoder(target.encoder) for target in self.recipe.targets]
        extractor = UnitExtractor(self.recipe, encoders, torch.device("cpu"))
        try:
            prepared = extractor.prepare(self.take, STREAMS)
        except StorageError as error:
            return [Failure.of("t", error)]
        failures = list(prepared.failures)
        for unit in prepared.units:
            try:
                failures += extractor.extract(unit).failures
            except StorageError as error:
                failures.append(Failure.of("t", error))
        if not failures:
            assert extractor.finish(self.take).complete
        return failures

    def dataset(self) -> xr.Dataset:
        return xr.open_zarr(self.recipe.store_uri("u")).load()


@pytest.fixture
def job(local: Job, proxy: FaultProxy, tmp_path: Path) -> OverS3:
    return OverS3(local, proxy, str(tmp_path / "features"))


def assert_equal_where_valid(found: xr.Dataset, undisturbed: xr.Dataset) -> None:
    for stream in found.stream.values.tolist():
        one, other = found.sel(stream=stream), undisturbed.sel(stream=stream)
        there = (one.reason == Reason.VALID).values & np.isfinite(one.features.values).all(axis=1)
        np.testing.assert_array_equal(one.features.values[there], other.features.values[there])


PASSING: dict[str, tuple[Act, dict[str, Any]]] = {
    "500": (faults.refused(500, "InternalError"), {"times": 2}),
    "503": (faults.refused(503, "SlowDown"), {"times": 2}),
    "503 with Retry-After": (faults.refused(503, "SlowDown", Retry_After="1"), {"times": 1}),
    "resets": (faults.reset, {"times": 2}),
    "short bodies": (faults.short_body, {"times": 2, "method": "GET"}),
    "slow": (faults.slow(0.2), {}),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_is_outlived(
    job: OverS3, proxy: FaultProxy, undisturbed: xr.Dataset, kind: str
) -> None:
    act, which = PASSING[kind]
    met = proxy.fault(act, path=VIDEO, **which)
    assert job.run() == []
    assert met.met
    xr.testing.assert_equal(job.dataset(), undisturbed)


LYING = ("moved, and says so", "moved", "flipped")


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("kind", LYING)
def test_wrong_bytes_are_never_written_down_as_damage(
    job: OverS3, proxy: FaultProxy, local: Job, undisturbed: xr.Dataset, kind: str,
    times: int | None,
) -> None:  # fmt: skip
    data = local.path("cam02_0").read_bytes()
    act = {
        "moved, and says so": faults.moved_range(data, honest=True),
        "moved": faults.moved_range(data, honest=False),
        "flipped": faults.flipped,
    }[kind]
    # Every other answer is a lie, or one is.
    turn = iter(range(10**6))

    def lie(exchange: faults.Exchange) -> None:
        (act if next(turn) % 2 == 0 else faults.slow(0))(exchange)

    proxy.fault(lie, path=VIDEO, method="GET", times=times)
    failures = job.run()
    assert {failure.kind for failure in failures} <= {ErrorKind.UNAVAILABLE}
    if Path(job.output).exists() and list(Path(job.output).glob("*/u.zarr/zarr.json")):
        assert_equal_where_valid(job.dataset(), undisturbed)
        assert not job.dataset().attrs["problems"]
    proxy.heal()
    assert job.run() == []
    xr.testing.assert_equal(job.dataset(), undisturbed)


def test_bytes_of_another_version_are_a_changed_object(
    job: OverS3, proxy: FaultProxy, undisturbed: xr.Dataset
) -> None:
    proxy.fault(faults.other_etag, path=VIDEO, method="GET", times=1)
    (failure, *_) = job.run()
    assert failure.kind is ErrorKind.CHANGED
    proxy.heal()
    assert job.run() == []
    xr.testing.assert_equal(job.dataset(), undisturbed)


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (faults.refused(503, "SlowDown"), ErrorKind.UNAVAILABLE),
        (faults.reset, ErrorKind.UNAVAILABLE),
        (faults.refused(400, "ExpiredToken"), ErrorKind.CREDENTIALS),
        (faults.refused(403, "InvalidAccessKeyId"), ErrorKind.CREDENTIALS),
    ],
    ids=["503", "reset", "ExpiredToken", "InvalidAccessKeyId"],
)
def test_a_storage_that_is_gone_ends_within_its_budget(
    job: OverS3, proxy: FaultProxy, undisturbed: xr.Dataset, act: Act, kind: ErrorKind
) -> None:
    proxy.fault(act)
    began = time.monotonic()
    (failure,) = job.run()
    assert time.monotonic() - began < 3 * PATIENCE
    assert failure.kind is kind
    assert failure.fatal is (kind is ErrorKind.CREDENTIALS)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in failure.reason
    proxy.heal()
    assert job.run() == []
    xr.testing.assert_equal(job.dataset(), undisturbed)


@pytest.mark.parametrize(
    ("act", "times"),
    [(faults.refused(503, "SlowDown"), 2), (faults.lost_answer, 2), (faults.reset, 2)],
    ids=["503", "answers lost", "resets"],
)
def test_objects_are_written_once_it_answers_again(
    s3: ObjectStore, proxy: FaultProxy, local: Job, act: Act, times: int
) -> None:
    reach = local.with_settings(
        s3={"endpoint_url": proxy.endpoint_url, "patience": PATIENCE}
    ).output_s3
    objects = Objects(f"s3://videos/out-{time.monotonic_ns()}", reach)
    proxy.fault(act, method="PUT", times=times)
    objects.put("a", b"some bytes")
    assert objects.get("a") == b"some bytes"
    proxy.heal()
    proxy.fault(act, method="PUT")
    began = time.monotonic()
    with pytest.raises(StorageError) as caught:
        objects.put("b", b"other bytes")
    assert time.monotonic() - began < 2 * PATIENCE
    assert caught.value.kind is ErrorKind.UNAVAILABLE
