"""Videos in other regions than the workers: named, with what reading them costs."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.load import load_job
from service.demo.s3server import ObjectStore
from takestream.storage import S3Options
from tests.support.fault_proxy import fault_proxy, in_region, refused
from tests.support.release import StandIn
from workers.dataset.layouts import dataset_of
from workers.run.recipe import Recipe
from workers.run.transfer import machine_region, transfers

GB = 10**9


def test_what_lies_elsewhere_is_named_with_its_price(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = StandIn()
    made.add("tea", "near", size=lambda path: 10 * GB)
    made.add("bike", "far", size=lambda path: 2 * GB)
    made.add("song", "shut", size=lambda path: 3 * GB)
    made.paths()[10]["size"] = None
    root = made.write(tmp_path / "release")
    with ObjectStore(tmp_path / "s3") as server, fault_proxy(server.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        for name in ("near", "far"):
            server.make_bucket(name)
        proxy.fault(in_region("us-east-1"), path="^/near")
        proxy.fault(in_region("ap-south-1"), path="^/far")
        proxy.fault(refused(403, "AccessDenied", x_amz_bucket_region="sa-east-1"), path="^/shut")
        s3 = S3Options(endpoint_url=proxy.endpoint_url, patience=2)
        job = load_job(None, {"dataset": root, "output": "/o", "s3": vars(s3)})
        recipe = Recipe(job, ())
        takes = [
            (take, tuple(s.key for s in take.streams if not s.key.endswith("_et")))
            for take in dataset_of(job).takes()
        ]
        assert transfers(recipe, takes, []) == []
        assert not proxy.seen
        far, shut = transfers(recipe, takes, ["us-east-1"])
        here = {one.region for one in transfers(recipe, takes, ["us-east-1", "ap-south-1"])}
    assert here == {"sa-east-1"}
    assert (far.region, far.buckets, far.streams) == ("ap-south-1", ("far",), 4)
    assert (far.bytes, far.unsized, far.price) == (8 * GB, 0, 0.086)
    assert far.cost == pytest.approx(0.688)
    assert "4 streams in ap-south-1 (far) are read in us-east-1" in far.words
    assert "8.0 GB, about 0.69 USD" in far.words
    assert (shut.bytes, shut.unsized) == (9 * GB, 1)
    assert "0.138 USD a GB at list price, 9.0 GB and 1 of unknown size" in shut.words
    assert far.facts()["cost"] == 0.688


@pytest.fixture
def metadata() -> Iterator[str]:
    """A stand-in for the metadata service of EC2, version 2."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.say("token")

        def do_GET(self) -> None:
            assert self.headers["x-aws-ec2-metadata-token"] == "token"
            assert self.path == "/latest/meta-data/placement/availability-zone/"
            self.say("eu-west-3b")

        def say(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_machine_of_ec2_says_its_region_and_others_are_not_asked(
    metadata: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine_region() is None
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)
    assert machine_region() == "eu-west-3"
