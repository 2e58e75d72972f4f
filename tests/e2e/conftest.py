"""Real Ray, a real S3 endpoint on loopback, real H.264: the fixtures of the end-to-end tests."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import s3fs

from service.demo.example import make_example
from service.demo.footage import burn_frame_number, encode_video
from service.demo.s3server import ObjectStore

WIDTH, HEIGHT = 192, 112
Streams = Mapping[str, Path | bytes | None]


def moving_picture(number: int, seed: int = 0) -> np.ndarray:
    """A textured picture that moves with the frame number, uint8 [HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    picture = np.kron(base, np.ones((8, 8, 1), dtype=np.uint8))
    return np.roll(picture, (3 * number, number), axis=(1, 0))


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


class Serving:
    """A running service; `.kill(title)` takes one of its processes down by what Ray calls it."""

    def __init__(self, url: str, mark: str, process: "subprocess.Popen[str]") -> None:
        self.url, self.mark, self.process = url, mark, process

    def pids(self, title: str) -> list[int]:
        """Its processes that Ray calls so: `ray::Worker`, `ray::ServeReplica:takestream:Engine`."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    mine = f"SERVE_MARK={self.mark}".encode() in (entry / "environ").read_bytes()
                    if mine and title.encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def kill(self, title: str) -> None:
        pids = self.pids(title)
        assert pids, title
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def service(log: Path, environment: dict[str, str], *arguments: object) -> Iterator[Serving]:
    """`takestream serve …` in the foreground of another process, until it is ready and after."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "takestream", "serve", *map(str, arguments)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env={**environment, "SERVE_MARK": mark},
            stdout=output,
            stderr=output,
            text=True,
        )
    try:
        deadline = time.monotonic() + 120
        while "takestream serves http" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Serving(f"http://127.0.0.1:{port}", mark, process)
    finally:
        process.terminate()
        process.wait(60)


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
