"""A data set on a plain web server, read by ranges, and what goes wrong with one."""

import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import torch
import xarray as xr

from takestream.errors import (
    InvalidStorage,
    StorageDenied,
    StorageNotFound,
    StorageUnavailable,
)
from takestream.schema import Reason
from takestream.storage import S3Options
from tests.support.brightness import STREAMS, BrightnessEncoder, Job
from workers.dataset.layouts import dataset_of
from workers.media.source import Source
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe
from workers.run.tasks import PreparedTake
from workers.store.objects import Objects

PATIENCE = S3Options(patience=0.5)


@dataclass
class Web:
    """A web server; `answers` maps a pattern of paths to a status to answer with instead."""

    url: str = ""
    ranges: bool = True
    tagged: bool = True
    answers: dict[str, int] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


class _Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, web: Web, root: str, *args: object) -> None:
        self.web = web
        super().__init__(*args, directory=root)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.web.seen.append(f"{self.command} {self.path} {self.headers.get('range', '')}".strip())
        path = Path(self.translate_path(self.path))
        status = next((s for p, s in self.web.answers.items() if re.search(p, self.path)), 0)
        if status or not path.is_file():
            self.send_response(status or 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data, status = path.read_bytes(), 200
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if span and self.web.ranges:
            status, data = 206, data[int(span[1]) : int(span[2]) + 1]
        self.send_response(status)
        if self.web.tagged:
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Job:
    job = Job(tmp_path_factory.mktemp("job"))
    job.run()
    return job


@pytest.fixture
def web(local: Job) -> Iterator[Web]:
    web = Web()
    handler = partial(_Files, web, str(local.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web.url = f"http://127.0.0.1:{server.server_port}"
        yield web
        server.shutdown()


def prepared(recipe: Recipe) -> tuple[UnitExtractor, PreparedTake]:
    encoders = [BrightnessEncoder(target.encoder) for target in recipe.targets]
    extractor = UnitExtractor(recipe, encoders, torch.device("cpu"))
    (take,) = dataset_of(recipe.job).takes()
    return extractor, extractor.prepare(take, STREAMS)


def extracted(recipe: Recipe) -> PreparedTake:
    extractor, found = prepared(recipe)
    for unit in found.units:
        assert not extractor.extract(unit).failures
    if found.units:
        assert extractor.finish(found.take).complete
    return found


@pytest.mark.parametrize("tagged", [True, False])
def test_a_data_set_behind_a_web_server_gives_the_same_features_once(
    web: Web, local: Job, tmp_path: Path, tagged: bool
) -> None:
    web.tagged = tagged
    recipe = local.with_settings(dataset=web.url, output=str(tmp_path / "out"))
    dataset = dataset_of(recipe.job)
    sizes = dataset.sizes(dataset.takes())
    assert sorted(map(str, sizes.values())) == sorted(
        str(local.path(name).stat().st_size) for name in STREAMS
    )
    assert not extracted(recipe).failures
    found = xr.open_zarr(recipe.store_uri("u")).load()
    xr.testing.assert_equal(found, local.dataset())
    assert any(re.match(r"GET .*mp4 bytes=\d+-\d+", line) for line in web.seen)
    assert not [line for line in web.seen if line.startswith("GET") and line.endswith("mp4")]
    assert extracted(recipe).units == ()


def test_a_server_that_is_away_is_no_absent_video(web: Web, local: Job, tmp_path: Path) -> None:
    s3 = {"patience": 0.5}
    recipe = local.with_settings(dataset=web.url, output=str(tmp_path / "out"), s3=s3)
    web.answers = {"cam02": 503}
    _, found = prepared(recipe)
    (failure,) = found.failures
    assert (failure.stream, failure.kind.value) == ("cam02_0", "unavailable")
    web.answers = {"cam02": 404}
    recipe = local.with_settings(dataset=web.url, output=str(tmp_path / "other"), s3=s3)
    assert not extracted(recipe).failures
    store = xr.open_zarr(recipe.store_uri("u")).sel(stream="cam02_0")
    assert set(store.reason.values.tolist()) == {Reason.STREAM_ABSENT}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, StorageNotFound), (410, StorageNotFound), (401, StorageDenied),
        (403, StorageDenied), (429, StorageUnavailable), (500, StorageUnavailable),
    ],
)  # fmt: skip
def test_what_a_status_means(web: Web, status: int, error: type[Exception]) -> None:
    web.answers = {"takes.json": status}
    source = Source(f"{web.url}/takes.json", PATIENCE)
    for action in (source.identity, lambda: source.read(0, 4)):
        with pytest.raises(error) as raised:
            action()
        assert "S3" not in str(raised.value)


def test_nobody_listens() -> None:
    with pytest.raises(StorageUnavailable, match="did not answer"):
        Source("http://127.0.0.1:9/takes.json", PATIENCE).identity()


def test_a_server_without_ranges_is_told_at_once(web: Web) -> None:
    web.ranges = False
    with pytest.raises(InvalidStorage, match="answers no byte ranges"):
        Source(f"{web.url}/takes.json", PATIENCE).read(2, 4)
    assert len(web.seen) == 1


def test_an_output_on_a_web_server_is_refused(web: Web) -> None:
    with pytest.raises(InvalidStorage, match="cannot be written to a web server"):
        Objects(f"{web.url}/out")


def test_a_protocol_without_its_package_is_told() -> None:
    pytest.importorskip("fsspec")
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(InvalidStorage, match="install gcsfs"):
            Source("gs://bucket/takes.json")
    else:
        pytest.skip("gcsfs is there")
