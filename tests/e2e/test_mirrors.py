"""A release whose objects each machine of a cluster reads from what it has itself."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs
import xarray as xr
from ray.cluster_utils import Cluster

from configs.load import load_job
from service.demo.s3server import ObjectStore
from service.jobs.choose import choose
from service.report.summary import report_facts
from tests.support.clusters import raylets, run
from tests.support.release import StandIn

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CAMERAS = {"gp01": {"0": "gp01"}, "gp02": {"0": "gp02"}}
FOLDER = "frame_aligned_videos"


@pytest.fixture
def cluster(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    # Its machines have them from their environment.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    with raylets(monkeypatch) as cluster:
        yield cluster


def test_each_machine_reads_what_its_label_says(
    cluster: Cluster, s3: ObjectStore, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    filesystem = s3fs.S3FileSystem(**s3.storage_options())
    data = make_video(frames=320).read_bytes()
    made = StandIn()
    s3.make_bucket("uni")
    for take in "abc":
        made.add(take, "uni", CAMERAS, lambda path: len(data))
        for zone in ("here", "there"):
            # One of the two has one camera alone.
            for camera in ("gp01", "gp02")[: 2 if zone == "here" else 1]:
                path = tmp_path / zone / "takes" / take / FOLDER / f"{camera}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    for path in made.paths():
        filesystem.pipe(path["source_path"], data)
    here, there = (str(tmp_path / zone) for zone in ("here", "there"))
    chosen = choose(
        load_job(
            None,
            {
                "dataset": made.write(tmp_path / "release"),
                "output": str(tmp_path / "features"),
                "mirrors": {"zone=here": here, "zone=there": there},
                "s3": {"endpoint_url": s3.endpoint_url},
                "store": {"unit_frames": 32},
                "run": {"address": cluster.address, "device": "cpu"},
            },
        )
    )
    for zone in ("here", "there"):
        cluster.add_node(num_cpus=1, labels={"zone": zone})
    cluster.add_node(num_cpus=1)

    report = run(chosen)
    assert report.ok, report.failures
    assert not report.left_out
    places = report_facts(chosen.recipe, report)["read_from"]
    host = os.uname().nodename
    assert set(places) == {f"{host}:{here}", f"{host}:{there}", "s3://uni"}
    known = set[str]()
    for uri in report.stores:
        store = xr.open_zarr(uri).load()
        assert bool(store.valid.all())
        assert not store.attrs["problems"]
        for facts in store.attrs["provenance"]["streams"].values():
            known |= set(facts["read_from"])
    assert known == set(places)
