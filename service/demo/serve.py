"""`takestream serve-demo`: the HTTP service on the example data set over an embedded S3."""

from collections.abc import Callable
from pathlib import Path

import s3fs

from configs.load import load_job, parse
from configs.schema import ServeSpec
from service.demo.example import make_example
from service.demo.run import in_environment
from service.demo.s3server import ObjectStore
from service.serve import run_service
from takestream.client.client import Client
from takestream.storage import join


def serve_example(folder: Path, port: int, say: Callable[[str], None]) -> int:
    """Serve the example data set from an embedded S3 server, both kept in `folder`."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    say("the example data set: 2 takes, 6 and 7 streams, on an S3 server of its own")
    example = make_example(folder / "example")
    with ObjectStore(folder / "s3") as server, in_environment(server):
        dataset = join(server.make_bucket("egoexo"), "example")
        output = join(server.make_bucket("features"), "serve-demo")
        s3fs.S3FileSystem(**server.storage_options()).put(
            f"{example}/", f"{dataset}/", recursive=True
        )
        job = load_job(None, {"dataset": dataset, "output": output})
        spec = parse(ServeSpec, {"job": job.model_dump(), "port": port}, "serve")
        return run_service(spec, say, ready=lambda url: _extract(url, say))


def _extract(url: str, say: Callable[[str], None]) -> None:
    """Launch a job for the takes without features, so that the page has some to show."""
    with Client(url) as client:
        without = [take.take_uid for take in client.takes() if not take.encoders]
        if without:
            job = client.submit(select={"uids": without})
            say(f"extracting the features of {len(without)} takes: {url}/#/jobs/{job.id}")
