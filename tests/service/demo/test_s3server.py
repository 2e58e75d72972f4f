"""The embedded S3 server: it checks signatures, moves out of the way, and never outlives us."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from service.demo import s3server as objectstore
from service.demo.s3server import ObjectStore, ObjectStoreError
from tests.support.children import with_default_signals

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

# Starts a server from a thread that ends at once, says so, and waits to be killed.
OUTLIVED = """
import sys, threading, time
from service.demo.s3server import ObjectStore
s3 = ObjectStore(sys.argv[1])
thread = threading.Thread(target=s3.__enter__)
thread.start()
thread.join()
s3.make_bucket("still-there")
print("up", flush=True)
time.sleep(60)
"""

# Uses the server in its last act, as a program does that uploads a report on the way out.
INTERRUPTED = """
import sys, time
from service.demo.s3server import ObjectStore
with ObjectStore(sys.argv[1]) as s3:
    try:
        print("up", flush=True)
        time.sleep(60)
    finally:
        s3.make_bucket("last-act")
        print("made", flush=True)
"""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("s3")) as store:
        yield store


def connect(store: ObjectStore, **changes: Any) -> Any:
    options = {**store.storage_options(), **changes}
    return fsspec.filesystem("s3", skip_instance_cache=True, **options)


def servers_in(directory: Path) -> list[int]:
    """The running processes that work in a folder, which is where a server's data is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == directory:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def addresses(pid: int) -> list[tuple[str, int]]:
    """Where a process listens for TCP: (host, port), as the kernel tells."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        target = str(handle.readlink())
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in inodes:
                host, port = local.split(":")
                family = socket.AF_INET if table == "tcp" else socket.AF_INET6
                words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
                found.append((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def gone(directory: Path, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while servers_in(directory) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not servers_in(directory)


def run(script: str, directory: Path) -> subprocess.Popen[str]:
    """Run a script in its own process group, as a terminal would, until it says it is up."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=with_default_signals,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "up\n":
        process.kill()
        pytest.fail(f"the script did not come up: {process.communicate()[1]}")
    return process


def test_an_object_comes_back_whole_and_by_range(s3: ObjectStore) -> None:
    assert s3.make_bucket("videos") == "s3://videos"
    data = bytes(range(256)) * 4096
    files = connect(s3)
    files.pipe_file("videos/a take/Übung 1.mp4", data)

    assert files.cat_file("videos/a take/Übung 1.mp4") == data
    assert files.cat_file("videos/a take/Übung 1.mp4", start=300, end=555) == data[300:555]
    assert files.ls("videos/a take") == ["videos/a take/Übung 1.mp4"]


def test_making_a_bucket_again_keeps_what_is_in_it(s3: ObjectStore) -> None:
    s3.make_bucket("again")
    connect(s3).pipe_file("again/key", b"value")
    s3.make_bucket("again")
    assert connect(s3).cat_file("again/key") == b"value"


def test_an_impossible_bucket_name_is_an_error(s3: ObjectStore) -> None:
    with pytest.raises(ObjectStoreError, match="'x'"):
        s3.make_bucket("x")


@pytest.mark.parametrize("changes", [{"secret": "wrong"}, {"key": "nobody"}], ids=str)
def test_wrong_credentials_are_refused(s3: ObjectStore, changes: dict[str, str]) -> None:
    s3.make_bucket("private")
    connect(s3).pipe_file("private/key", b"value")
    with pytest.raises((PermissionError, OSError)) as refused:
        connect(s3, **changes).cat_file("private/key")
    assert not isinstance(refused.value, FileNotFoundError)


def test_no_credentials_are_refused(s3: ObjectStore) -> None:
    s3.make_bucket("private")
    connect(s3).pipe_file("private/key", b"value")
    with pytest.raises(PermissionError):
        connect(s3, key=None, secret=None, anon=True).cat_file("private/key")


def test_credentials_are_for_the_owner_alone(s3: ObjectStore) -> None:
    assert stat.S_IMODE((s3.directory / "ids.json").stat().st_mode) == 0o600
    assert s3.secret_key in (s3.directory / "ids.json").read_text()
    for path in s3.directory.rglob("*"):
        if path.is_file() and path.name != "ids.json":
            assert s3.secret_key.encode() not in path.read_bytes(), path


def test_the_environment_is_enough_for_another_program(s3: ObjectStore) -> None:
    s3.make_bucket("shared")
    connect(s3).pipe_file("shared/key", b"value")
    disturbed = {**os.environ, "AWS_PROFILE": "no-such", "AWS_SESSION_TOKEN": "stale"}
    disturbed |= {"http_proxy": "http://127.0.0.1:1", "no_proxy": "example.org"}
    script = "import fsspec; print(fsspec.filesystem('s3').cat_file('shared/key'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=s3.environment(disturbed),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "b'value'\n", done.stderr


@on_linux
def test_it_listens_on_loopback_and_on_no_port_of_its_own_choice(s3: ObjectStore) -> None:
    (pid,) = servers_in(s3.directory)
    listening = addresses(pid)
    assert {host for host, _ in listening} == {"127.0.0.1"}
    ports = {port for _, port in listening}
    assert int(s3.endpoint_url.rpartition(":")[2]) in ports
    assert len(ports) == 8
    assert not ports & {8080, 8181, 8333, 8888, 9101, 9333, 18080, 18333, 18888, 19333}
    assert "-master.telemetry=false" in Path(f"/proc/{pid}/cmdline").read_text()


def test_a_second_server_runs_beside_and_gets_over_a_stolen_port(
    s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose, asked = objectstore._free_ports, []

    def first_one_is_taken(count: int) -> list[int]:
        asked.append(choose(count))
        if len(asked) == 1:
            asked[0][2] = int(s3.endpoint_url.rpartition(":")[2])
        return asked[-1]

    monkeypatch.setattr(objectstore, "_free_ports", first_one_is_taken)
    with ObjectStore(tmp_path) as second:
        assert len(asked) == 2
        assert (second.access_key, second.secret_key) != (s3.access_key, s3.secret_key)
        second.make_bucket("mine")
        connect(second).pipe_file("mine/key", b"second")
        s3.make_bucket("mine")
        connect(s3).pipe_file("mine/key", b"first")
        assert connect(second).cat_file("mine/key") == b"second"
        sockets = list(second._sockets)
        assert all(path.exists() for path in sockets)
    assert not any(path.exists() for path in sockets)
    assert not servers_in(tmp_path)
    with pytest.raises(ObjectStoreError):
        second.make_bucket("too-late")


@pytest.mark.slow
def test_objects_are_there_again_when_the_folder_is_served_again(tmp_path: Path) -> None:
    with ObjectStore(tmp_path) as store:
        store.make_bucket("kept")
        connect(store).pipe_file("kept/key", b"value")
        old = store.storage_options()
    with store:
        assert connect(store).cat_file("kept/key") == b"value"
        assert store.storage_options()["secret"] != old["secret"]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs scripts, and leaves nothing of them behind even when the server misbehaves."""
    started: list[subprocess.Popen[str]] = []
    sockets: list[Path] = []

    def start(script: str) -> subprocess.Popen[str]:
        started.append(run(script, tmp_path))
        for pid in servers_in(tmp_path):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            for name, port in re.findall(r"-(\w+)\.port\.grpc=(\d+)", command):
                sockets.append(Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock"))
        return started[-1]

    yield start
    for pid in servers_in(tmp_path):
        os.kill(pid, signal.SIGKILL)
    for process in started:
        process.kill()
        process.communicate()
    for path in sockets:
        path.unlink(missing_ok=True)


@on_linux
def test_a_folder_is_served_once_at_a_time(tmp_path: Path) -> None:
    with ObjectStore(tmp_path), pytest.raises(ObjectStoreError) as raised:
        ObjectStore(tmp_path).__enter__()
    assert str(raised.value).startswith(f"{tmp_path}: another S3 server runs in this folder")
    assert len(str(raised.value).splitlines()) == 1


def test_a_killed_parent_takes_the_server_with_it(
    tmp_path: Path, program: Callable[[str], subprocess.Popen[str]]
) -> None:
    parent = program(OUTLIVED)
    assert servers_in(tmp_path)
    parent.kill()
    assert gone(tmp_path)


@on_linux
def test_ctrl_c_reaches_the_program_first_and_then_stops_the_server(
    tmp_path: Path, program: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = program(INTERRUPTED)
    assert servers_in(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out == "made\n"
    assert "KeyboardInterrupt" in err
    assert gone(tmp_path, seconds=0)


@pytest.fixture
def fake_weed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the server by a shell script."""

    def install(script: str) -> None:
        program = tmp_path / "weed"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(objectstore, "_find_weed", lambda: program)

    return install


def test_a_server_that_ends_is_reported_with_its_log(
    fake_weed: Callable[[str], None], tmp_path: Path
) -> None:
    fake_weed("echo the disk is on fire; exit 3")
    with pytest.raises(ObjectStoreError, match="the disk is on fire"), ObjectStore(tmp_path / "s"):
        pass


@on_linux
def test_a_server_that_hangs_is_reported_and_killed(
    fake_weed: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_weed("trap '' TERM; echo thinking; while :; do sleep 0.1; done")
    monkeypatch.setattr(objectstore, "_START_SECONDS", 0.5)
    monkeypatch.setattr(objectstore, "_STOP_SECONDS", 0.2)
    with pytest.raises(ObjectStoreError, match=r"not ready after 0\.5 s[^$]*thinking"):
        ObjectStore(tmp_path / "s").__enter__()
    assert gone(tmp_path / "s", seconds=0.5)


def test_without_the_package_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(ModuleNotFoundError, match="demo"):
        ObjectStore(tmp_path).__enter__()
