"""The Ray that we start: closed to others, small, and gone without a trace."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from ray._private import node as ray_node
from ray._private import services, state
from ray._private import worker as ray_worker

from configs.run import RunSpec
from workers.run import node
from workers.run.session import ray_session

JOIN = """
import logging, sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
print(ray.get(ray.remote(lambda: "in").remote()))
"""


class Session(SimpleNamespace):
    """A session that runs: its head's address, its folder, its environment and its processes."""

    address: str
    folder: Path
    environment: dict[str, str]
    processes: list[psutil.Process]


def environment() -> dict[str, str]:
    changed = ("PYTEST", "PYTHONBREAKPOINT")  # by pytest, and by Ray for its own debugger
    return {name: value for name, value in os.environ.items() if not name.startswith(changed)}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    before = environment()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(node.MODE, "disabled")
        with ray_session(RunSpec()):
            there: Any = ray_worker._global_node
            folder = Path(there.get_session_dir_path())
            pids = [info.process.pid for kind in there.all_processes.values() for info in kind]
            started = [psutil.Process(pid) for pid in pids]
            started += [child for one in started for child in one.children(recursive=True)]
            yield Session(
                address=there.gcs_address, folder=folder, environment=dict(os.environ),
                processes=[psutil.Process(), *started],
            )  # fmt: skip
        assert os.environ[node.MODE] == "disabled"
    assert environment() == before
    deadline = time.monotonic() + 10
    while folder.parent.parent.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def joined(address: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Another process of this machine tries to join; None takes a variable away."""
    env = {**os.environ, **{name: value for name, value in environment.items() if value}}
    for name in [name for name, value in environment.items() if value is None]:
        env.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_nobody_without_the_token_gets_in(session: Session, tmp_path: Path) -> None:
    token = session.environment[node.TOKEN]
    assert session.environment[node.MODE] == "token"
    home = {"HOME": str(tmp_path)}  # where another token may lie
    for tried in ({node.MODE: "disabled", node.TOKEN: None}, {node.TOKEN: "a" * 64}):
        done = joined(session.address, **home, **tried)
        assert done.returncode != 0, tried
        assert "in" not in done.stdout
        assert "authentication" in done.stderr.lower()
    assert joined(session.address, **home, **{node.TOKEN: token}).stdout == "in\n"


def test_everything_listens_on_loopback(session: Session) -> None:
    listening = {
        found.laddr.ip
        for process in session.processes
        if process.is_running()
        for found in process.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    }
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_session_s_folder_is_private_and_holds_no_token(session: Session) -> None:
    private = session.folder.parent.parent
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert private.stat().st_uid == os.getuid()
    token = session.environment[node.TOKEN].encode()
    read = [path for path in private.rglob("*") if path.is_file() and not path.is_symlink()]
    assert read
    for path in read:
        assert token not in path.read_bytes(), path


def test_processes_of_a_cluster_are_not_started(session: Session) -> None:
    lines = [" ".join(p.cmdline()) for p in session.processes if p.is_running()]
    for name in ("monitor.py", "dashboard.py"):
        assert not [line for line in lines if name in line]
    assert ray.is_initialized()


def test_a_long_temporary_folder_is_not_too_long_for_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(node.tempfile, "tempdir", str(deep))
    with node.local_node() as options:
        longest = len(options["_temp_dir"]) + node.RAY_ADDS
        assert longest <= node.SOCKET_BYTES
    assert not Path(options["_temp_dir"]).parent.exists()
    assert list(deep.iterdir()) == []


def test_a_start_is_waited_for_as_long_as_its_processes_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    raylet = SimpleNamespace(process=SimpleNamespace(poll=lambda: 1 if len(asked) > 50 else None))

    class Table:
        def _initialize_global_state(self, options: object) -> None:
            pass

        def node_table(self) -> list[dict[str, str]]:
            asked.append(1)
            return [{"NodeID": "other"}] + [{"NodeID": "mine"}] * (len(asked) == 6)

    def started(self: Any) -> None:
        self.all_processes = {"raylet": [raylet]}

    monkeypatch.setattr(state, "GlobalState", Table)
    monkeypatch.setattr(services, "_get_gcs_client_options", lambda address: None)
    monkeypatch.setattr(services, "get_node", lambda address, node_id: len(asked))
    monkeypatch.setattr(ray_node.Node, "start_raylet", started)
    with node.only_what_is_needed():
        ray_node.Node.start_raylet(SimpleNamespace())
        assert services.get_node("gcs", "mine") == 6
        assert services.get_node("gcs", "mine") == 51  # its raylet died: Ray says so itself
