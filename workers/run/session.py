"""Ray, started here or joined: one session for a command, a demo or a service."""

import io
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

# Set before Ray is imported: it reads them then.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")

import ray
from ray._private import worker as ray_worker
from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET

from configs.schema import RunSpec
from takestream.errors import ErrorKind, TakestreamError
from workers.run.watchdog import marked_processes

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
# How long the head of a cluster must not answer: it may be restarted, but a driver without one for
# 60 s is ended by Ray, without a word.
LOST_SECONDS, ASK_SECONDS = 25.0, 5.0
# What Ray needs in its temporary folder; with little shared memory it uses that folder instead.
LEAST_MIB, LEAST_SHM_MIB = 128, 16
# What may interrupt a session.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RayUnavailable(TakestreamError):
    """Ray could not be started or reached; the message says what to do."""

    kind = ErrorKind.ENGINE


@contextmanager
def ray_session(run: RunSpec) -> Iterator[None]:
    """Ray, started here or joined at `run.address`; a Ray that was there already is left alone."""
    if ray.is_initialized():
        yield
        return
    if run.address:
        _check_answers(run.address)
    with nullcontext(_nowhere) if run.address else marked_processes() as writing_to:
        _start(run.address)
        if (node := ray_worker._global_node) is not None:
            writing_to(node.get_session_dir_path())
        # Ray prints what it thinks of dead workers and nodes to stdout and stderr, some of it only
        # while it shuts down.
        with redirect_stdout(_RayMessages()):
            try:
                yield
            finally:
                ray.shutdown()


def _nowhere(folder: str) -> None:
    """Processes of a cluster that was joined are not ours to end."""


def node_lost(*, ask: bool = True) -> str | None:
    """Why no work can go on in this session; None as long as its node, or cluster, is there.

    Args:
        ask: Also connect to the head of a joined cluster, for `LOST_SECONDS` where none answers.
    """
    if not ray.is_initialized():
        return None
    node: Any = ray_worker._global_node
    own = {} if node is None else node.all_processes
    for kind in (PROCESS_TYPE_RAYLET, PROCESS_TYPE_GCS_SERVER):
        for info in own.get(kind, ()):
            if (code := info.process.poll()) is not None:
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                return (
                    f"Ray's {kind.replace('_', ' ')} process on this machine died ({how}); if the "
                    "machine ran out of memory, use fewer --workers. Run the same command again to "
                    "go on"
                )
    if own or node is None or not ask or _answers(node.gcs_address):
        return None
    return (
        f"the head of the Ray cluster at {node.gcs_address} does not answer any more. Run the same "
        "command again when it is back"
    )


def _start(address: str | None) -> None:
    """Start Ray here, at a second try if need be, or join the cluster at `address`.

    Raises RayUnavailable.
    """
    local: dict[str, Any] = {} if address else {"include_dashboard": False}
    for last in (bool(address), True):
        try:
            with _signals_wait():
                ray.init(
                    address=address or "local",
                    namespace="takestream",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **local,
                )
        except KeyboardInterrupt:
            ray.shutdown()
            raise
        except Exception as error:
            ray.shutdown()
            if last or _full_folder():
                raise RayUnavailable(_why_not(address, error)) from error
            log.warning("Ray did not start; trying once more")
        else:
            return


def _why_not(address: str | None, error: Exception) -> str:
    words = " ".join(str(error).split())[:300]
    if address:
        return (
            f"no Ray cluster lets us in at {address} (set RAY_AUTH_MODE=token if it uses token "
            f"authentication): {words}"
        )
    if full := _full_folder():
        return f"Ray did not start: {full}"
    if "timed out during startup" in words:
        return (
            "Ray did not start in a minute: this machine is busy, or short of memory. Try again "
            "when less runs on it"
        )
    return f"Ray did not start: {words}"


def _full_folder() -> str | None:
    """Which folder that Ray needs has no space left, in words."""
    for folder, least, other in (
        (tempfile.gettempdir(), LEAST_MIB, ", or name another folder by TMPDIR"),
        ("/dev/shm", LEAST_SHM_MIB, ""),
    ):
        try:
            free = shutil.disk_usage(folder).free // 2**20
        except OSError:
            continue
        if free < least:
            return f"{folder} has {free} MiB left, and Ray needs {least}: make room there{other}"
    return None


def _answers(address: str) -> bool:
    """Whether a process listens at HOST:PORT, asked until it does or `LOST_SECONDS` have passed."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + LOST_SECONDS
    while time.monotonic() < until:
        try:
            socket.create_connection((host.strip("[]"), int(port)), ASK_SECONDS).close()
        except OSError:
            time.sleep(1)
        else:
            return True
    return False


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals are acted on at the end of the block, by the handlers from before it.

    Interrupted while it starts, Ray can end in a segmentation fault; and it takes SIGTERM for
    itself, with a stack on stderr and exit code 15.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.getsignal(n) for n in SIGNALS}
    for number in (n for n, handler in before.items() if callable(handler)):
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    except SystemExit as error:  # Ray's own answer to SIGTERM
        raise KeyboardInterrupt from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _check_answers(address: str) -> None:
    """Raise RayUnavailable at once where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        if address in ("auto", "local"):
            return
        raise RayUnavailable(f"'{address}' is no Ray address; give HOST:PORT, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise RayUnavailable(f"no Ray cluster answers at {address}: {error}") from error


class _RayMessages(io.TextIOBase):
    """Passes what is printed on to the log."""

    def write(self, text: str) -> int:
        if text.strip():
            log.debug("%s", text.strip())
        return len(text)
