"""Where stores are tested: on disk, in memory, on S3."""

import os
from types import SimpleNamespace

import pytest

from service.demo.s3server import ObjectStore
from takestream.storage import S3Options
from tests.support.takestores import NUMBERS


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    with ObjectStore(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("features")
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A root on the S3 server, and the options to reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = S3Options(endpoint_url=s3_server.endpoint_url)
    return SimpleNamespace(uri=f"s3://features/Run {next(NUMBERS)}", options=options)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path):
    """(uri of a store to be, S3 options), with characters that URIs usually mangle."""
    name = "enc-0123abcdef/Take #1 %41.zarr"
    if request.param == "local":
        return f"{tmp_path}/My Output/{name}", S3Options()
    if request.param == "memory":
        return f"memory://out-{next(NUMBERS)}/{name}", S3Options()
    s3 = request.getfixturevalue("s3")
    return f"{s3.uri}/{name}", s3.options
