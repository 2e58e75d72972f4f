"""A release over S3: buckets of their own, one that refuses, one elsewhere, keys that end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs
import xarray as xr

from service.demo.s3server import ObjectStore
from tests.support.fault_proxy import FaultProxy, fault_proxy, in_region, refused
from tests.support.release import StandIn

pytestmark = pytest.mark.e2e
CAMERAS = {"Aria": {"rgb": "Aria_214-1", "et": "Aria_211-1"}, "gp01": {"0": "gp01"}}
BUCKETS = {"tea": "uni-near", "bike": "uni-away", "song": "uni-shut", "climb": "uni-near"}


@pytest.fixture
def proxy(s3: ObjectStore) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint_url) as running:
        yield running


@pytest.fixture
def release(s3: ObjectStore, make_video: Callable[..., Path]) -> StandIn:
    """Written into the server's buckets."""
    filesystem = s3fs.S3FileSystem(**s3.storage_options())
    data = make_video(frames=60).read_bytes()
    made = StandIn()
    for name, bucket in BUCKETS.items():
        s3.make_bucket(bucket)
        made.add(name, bucket, CAMERAS, lambda path: len(data))
    for path in made.paths():
        filesystem.pipe(path["source_path"], data)
    s3.make_bucket("root")
    for name, content in made.objects().items():
        filesystem.pipe(f"root/v2/{name}", content)
    return made


@pytest.mark.slow
def test_one_bucket_costs_its_takes_and_keys_that_end_cost_the_rest_for_now(
    release: StandIn, proxy: FaultProxy, takestream: Callable[..., object], tmp_path: Path
) -> None:
    proxy.fault(in_region("eu-west-2"), path=r"^/uni-away")
    proxy.fault(refused(403, "AccessDenied"), path=r"^/uni-shut")
    mirror = tmp_path / "mirror"
    for file, size in (("gp01", None), ("Aria_214-1", 100)):
        path = f"takes/climb/frame_aligned_videos/{file}.mp4"
        (source,) = [p["source_path"] for p in release.paths() if p["relative_path"] == path]
        data = s3fs.S3FileSystem.current().cat(source)[:size]
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes(data)
    arguments = (
        "extract", "--dataset", "s3://root/v2", "--output", tmp_path / "features",
        "--mirror", mirror, "--endpoint-url", proxy.endpoint_url, "--workers", 1, "--json",
    )  # fmt: skip

    # The keys end after the first videos were read.
    ended = proxy.fault(refused(403, "InvalidAccessKeyId"), path=r"^/uni-near/k/3")
    done = takestream(*arguments)
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    (why,) = {f["reason"] for f in facts["failures"] if f["fatal"]}
    assert "does not accept the credentials" in why
    assert ended.met > 1
    proxy.faults.remove(ended)

    done = takestream(*arguments)
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert {(f["take"], f["kind"]) for f in facts["failures"]} == {("song", "denied")}
    assert "s3://uni-shut/k/2/takes/" in facts["failures"][0]["reason"]
    assert facts["takes"]["complete"] == 3
    (note,) = list(facts["problems"]["climb"].values())
    assert note == [f"the mirror's file has 100 of {release.paths()[0]['size']} bytes; read from"
                    " s3://uni-near"]  # fmt: skip
    by_take = {}
    for uri in facts["stores"]:
        store = xr.open_zarr(uri)
        assert bool(store.valid.all())
        assert store.stream.values.tolist() == ["Aria_rgb", "gp01_0"]
        by_take[store.attrs["take"]["take_name"]] = store
    equal = by_take["tea"].features.values.tobytes()
    assert {store.features.values.tobytes() for store in by_take.values()} == {equal}
    read = by_take["climb"].attrs["provenance"]["streams"]["gp01_0"]["uri"]
    assert read == str(mirror / "takes/climb/frame_aligned_videos/gp01.mp4")
    # Every bucket was asked once in each process for its region, never for its location.
    assert not [path for _, path in proxy.seen if "location" in path]
    assert ("HEAD", "/uni-away") in proxy.seen

    # Without the mirror it is still the same video: nothing is done again.
    without = [a for a in arguments if a not in ("--mirror", mirror)]
    again = json.loads(takestream(*without, "--take-names", "climb", "tea").stdout)
    assert again["takes"]["untouched"] == 2
