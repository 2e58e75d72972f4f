"""A node of Ray on this machine for one session: closed to others, and with what one machine needs.

Ray has no settings for most of this, so functions of its own are replaced while it starts. What
differs from `ray.init()`:

* everything listens on loopback, and asks for a token that is made anew for each session and stands
  in the environment of its processes alone;
* its folder is private, and removed at the end but for that of a service, which holds its logs;
* autoscaler, dashboard server and log monitor, which only a cluster has a use for, are not started;
* a start may take `START_SECONDS`, as on a busy machine, as long as its processes live.
"""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray._private import node, ray_constants, services, state, utils
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from workers.run.watchdog import PRIVATE

START_SECONDS, POLL_SECONDS = 90.0, 0.02
KEPT = "tk-"
"""How the name of a folder begins that stays."""
# The longest path of a socket is 107 bytes; what Ray adds to its folder is about this long.
SOCKET_BYTES = 107
RAY_ADDS = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")

ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for clusters where it has none; off, everything listens on loopback alone."""

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextmanager
def local_node(*, keep: bool = False) -> Iterator[dict[str, Any]]:
    """Have a Ray that is started in the block be closed and small; arguments for `ray.init`.

    `keep` leaves its folder, with its logs, there at the end.
    `RAY_AUTH_MODE=disabled` in the environment is overruled: a Ray without authentication runs the
    code of anybody who reaches its ports.
    """
    folder = _private_folder(KEPT if keep else PRIVATE)
    closed = {ON_LOOPBACK: "0", MODE: "token", TOKEN: secrets.token_hex(32), TOKEN_PATH: None}
    try:
        with _environment(closed), _loopback():
            _read_environment()
            yield {"_temp_dir": os.path.join(folder, "ray"), "include_dashboard": False}
    finally:
        _read_environment()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def only_what_is_needed() -> Iterator[None]:
    """While Ray starts: without the processes of a cluster, and with patience."""
    raylets: list[Any] = []
    get_node: Any = services.get_node
    start_raylet: Any = node.Node.start_raylet
    until = time.monotonic() + START_SECONDS

    def start(self: Any, *args: Any, **more: Any) -> None:
        start_raylet(self, *args, **more)
        raylets.extend(self.all_processes.get(ray_constants.PROCESS_TYPE_RAYLET, ()))

    def patient(gcs_address: str, node_id: str) -> Any:
        """As `get_node`, which asks once a second, and gives up after half a minute."""
        theirs: Any = services
        table: Any = state.GlobalState()  # type: ignore[no-untyped-call]
        table._initialize_global_state(theirs._get_gcs_client_options(gcs_address))
        while not any(found["NodeID"] == node_id for found in table.node_table()):
            died = any(info.process.poll() is not None for info in raylets)
            if died or time.monotonic() > until:
                break
            time.sleep(POLL_SECONDS)
        return get_node(gcs_address, node_id)

    def no_server(self: Any, **_: Any) -> None:
        self._webui_url = ""

    with _replaced(
        (node.Node, "start_raylet", start),
        (node.Node, "start_monitor", lambda self: None),
        (node.Node, "start_log_monitor", lambda self: None),
        (node.Node, "start_api_server", no_server),
        (services, "get_node", patient),
        # Its agent then leaves out what only a dashboard asks for.
        (utils, "get_dashboard_dependency_error", lambda: ImportError("not wanted here")),
    ):
        yield


def _private_folder(prefix: str) -> str:
    """A new folder that this user alone may enter; Ray makes its own open to everybody."""
    folder = tempfile.mkdtemp(prefix=prefix)
    if len(folder) + len("/ray") + RAY_ADDS <= SOCKET_BYTES:
        return folder
    os.rmdir(folder)
    return tempfile.mkdtemp(prefix=prefix, dir="/tmp")


def _read_environment() -> None:
    """Have what of Ray runs in this process read the mode and the token from the environment."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _loopback() -> Iterator[None]:
    with _replaced((ray_constants, "ENABLE_RAY_CLUSTER", False)):
        yield


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _replaced(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
