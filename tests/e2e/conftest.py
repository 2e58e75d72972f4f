"""Real Ray, a real S3 endpoint on loopback, real H.264: the fixtures of the end-to-end tests."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import s3fs
from selenium import webdriver

from service.demo.example import make_example
from service.demo.footage import burn_frame_number, encode_video
from service.demo.s3server import ObjectStore
from tests.support.page import FLAGS, PLAYER, Page
from tests.support.pictures import moving_picture
from tests.support.serving import Serving, service

Streams = Mapping[str, Path | bytes | None]


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_video(frames=…, delay=…, seed=…, numbers=…, **encode_video options) → path, cached."""
    folder = tmp_path_factory.mktemp("videos")
    made: dict[str, Path] = {}

    def make(
        frames: int = 120, delay: int = 0, seed: int = 0, numbers: bool = False, **options: object
    ) -> Path:
        key = repr((frames, delay, seed, numbers, sorted(options.items())))
        if key not in made:
            path = folder / f"{len(made)}.mp4"
            pictures = (moving_picture(max(0, n - delay), seed) for n in range(frames))
            if numbers:
                pictures = (burn_frame_number(p, n) for n, p in enumerate(pictures))
            options = {"audio": False, "gop": 30, **options}
            encode_video(path, pictures, **options)  # type: ignore[arg-type]
            made[key] = path
        return made[key]

    return make


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[[Mapping[str, Streams]], Path]:
    """make_dataset({take: {"cam01_0": path or bytes or None}}) → folder with takes.json."""

    def make(takes: Mapping[str, Streams], name: str = "dataset") -> Path:
        root = tmp_path / name
        entries = []
        for take, streams in takes.items():
            videos: dict[str, dict[str, object]] = {}
            for key, content in streams.items():
                cam, _, stream = key.partition("_")
                relative = f"frame_aligned_videos/{key}.mp4"
                videos.setdefault(cam, {})[stream] = {
                    "cam_id": cam, "stream_id": stream, "relative_path": relative,
                }  # fmt: skip
                path = root / "takes" / take / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, Path):
                    shutil.copyfile(content, path)
                elif content is not None:
                    path.write_bytes(content)
            entries.append(
                {
                    "take_uid": f"uid-{take.replace(' ', '-')}", "take_name": take,
                    "root_dir": f"takes/{take}", "duration_sec": 4.0,
                    "frame_aligned_videos": videos,
                }
            )  # fmt: skip
        (root / "takes.json").write_text(json.dumps(entries))
        return root

    return make


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example data set."""
    return make_example(tmp_path_factory.mktemp("example") / "example")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A running S3 server."""
    with ObjectStore(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def upload(s3: ObjectStore, request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """upload(folder) → s3:// URI of its copy, in a bucket that holds the output too."""
    filesystem = s3fs.S3FileSystem(**s3.storage_options())

    def put(folder: Path) -> str:
        bucket = s3.make_bucket("e2e-tests")
        uri = f"{bucket}/{abs(hash(request.node.nodeid))}/{folder.name}"
        filesystem.put(f"{folder}/", f"{uri}/", recursive=True)
        return uri

    return put


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def takestream(s3: ObjectStore) -> Run:
    """takestream(*arguments) → the finished command; its environment has the server's keys."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        extra = dict(options.pop("env", {}))  # type: ignore[call-overload]
        return subprocess.run(
            [sys.executable, "-m", "takestream", *map(str, arguments)],
            env={**s3.environment(os.environ), **extra},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run


@pytest.fixture(scope="session")
def serving(
    s3: ObjectStore, example: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    """A service on the example data set over S3, with nothing extracted."""
    dataset, output = s3.make_bucket("serving"), s3.make_bucket("served")
    s3fs.S3FileSystem(**s3.storage_options()).put(
        f"{example}/", f"{dataset}/egoexo/", recursive=True
    )
    log = tmp_path_factory.mktemp("serving") / "log"
    arguments = ("--dataset", f"{dataset}/egoexo", "--output", f"{output}/features")
    with service(log, s3.environment(os.environ), *arguments) as running:
        yield running


@pytest.fixture(scope="session")
def page(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests here."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    profile: Path = tmp_path_factory.mktemp("chromium")
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Page(driver, serving.url)
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def extracted(page: Page) -> Page:
    """The first take, extracted by way of its page."""
    page.open("alpha_balance01_1")
    page.wait("[...document.querySelectorAll('button')].find(b => b.innerText.startsWith('Extr'))")
    page.driver.find_element("xpath", "//button[text()='Extract this take']").click()
    page.wait("document.querySelector('.job-state progress')")
    assert page.texts(".extract h2") == ["Not extracted yet"]
    page.wait("document.querySelector('.job-state .status.succeeded')", 240)
    assert page.texts(".extract h2") == ["Extracted"]
    # What the job made is noted, for pages that are opened before the service lists it.
    take = page.js("location.hash.match(/takes.([^?]+)/)[1]")
    assert json.loads(page.js("sessionStorage.getItem('takestream-made')"))["uids"] == [take]
    page.click(".job-state button")
    page.wait("document.querySelector('.track')")
    page.wait(f"{PLAYER}.cameras.every(c => c.state === 'ready' && c.video.readyState >= 2)")
    return page
