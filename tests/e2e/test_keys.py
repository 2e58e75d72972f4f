"""Keys that end in the middle of a job, and are renewed while it waits."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs
import xarray as xr

from service.demo.s3server import ObjectStore
from tests.support.fault_proxy import FaultProxy, fault_proxy, refused
from tests.support.release import StandIn

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CAMERAS = {"Aria": {"rgb": "Aria_214-1"}, "gp01": {"0": "gp01"}}


@pytest.fixture
def proxy(s3: ObjectStore, make_video: Callable[..., Path]) -> Iterator[FaultProxy]:
    """A release of three takes behind a proxy."""
    filesystem = s3fs.S3FileSystem(**s3.storage_options())
    data = make_video(frames=160).read_bytes()
    made = StandIn()
    for bucket in ("keys-root", "keys-videos"):
        s3.make_bucket(bucket)
    for name in ("tea", "bike", "song"):
        made.add(name, "keys-videos", CAMERAS, lambda path: len(data))
    for path in made.paths():
        filesystem.pipe(path["source_path"], data)
    for name, content in made.objects().items():
        filesystem.pipe(f"keys-root/v2/{name}", content)
    with fault_proxy(s3.endpoint_url) as running:
        yield running


def test_a_job_that_waits_for_keys_goes_on_with_the_renewed_ones(
    s3: ObjectStore, proxy: FaultProxy, tmp_path: Path
) -> None:
    profile, config = tmp_path / "credentials", tmp_path / "config"
    words = f"[lab]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
    profile.write_text(words)
    config.write_text("[profile lab]\nregion = us-east-1\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    output = tmp_path / "features"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "takestream", "extract", "--dataset", "s3://keys-root/v2",
            "--output", str(output), "--s3-profile", "lab", "--endpoint-url", proxy.endpoint_url,
            "--unit-frames", "64", "--workers", "1", "--wait-for-keys", "--json",
        ],
        env={
            **kept, "AWS_SHARED_CREDENTIALS_FILE": str(profile), "AWS_CONFIG_FILE": str(config),
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 150
        while not (before := list(output.glob("*/*.zarr/features/c/*/*/*"))):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ended = proxy.fault(refused(403, "InvalidAccessKeyId"))
        written = {path: path.stat().st_mtime_ns for path in before}
        said = ""
        while "The job waits: renew them" not in said:
            line = process.stderr.readline() if process.stderr else ""
            assert line, said
            said += line
        assert ended.met > 1
        # As whoever renews them does it: what the provider refused is accepted, the file is new.
        proxy.faults.remove(ended)
        renewed = tmp_path / "renewed"
        renewed.write_text(words)
        renewed.rename(profile)
        since = time.monotonic()
        out, err = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, (out, said + err)
    assert time.monotonic() - since < 200
    assert written == {path: path.stat().st_mtime_ns for path in before}
    assert "the keys are accepted again: the job goes on" in err
    assert s3.secret_key not in out + said + err
    facts = json.loads(out)
    assert facts["takes"]["complete"] == 3
    stores = [xr.open_zarr(uri) for uri in facts["stores"]]
    assert len({store.features.values.tobytes() for store in stores}) == 1
    assert all(bool(store.valid.all()) for store in stores)
