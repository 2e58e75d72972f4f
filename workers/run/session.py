"""Ray, started here or joined: one session for a command, a demo or a service."""

import io
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

# Set before Ray is imported: it reads them then.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray._private import worker as ray_worker
from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET

from configs.run import RunSpec
from takestream.errors import ErrorKind, TakestreamError
from workers.run.node import START_SECONDS, local_node, only_what_is_needed
from workers.run.watchdog import marked_processes

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
STDERR = 2
# How long the head of a cluster must not answer: it may be restarted, but a driver without one for
# 60 s is ended by Ray, without a word.
LOST_SECONDS, ASK_SECONDS = 25.0, 5.0
# What Ray needs in its temporary folder; with little shared memory it uses that folder instead.
LEAST_MIB, LEAST_SHM_MIB = 128, 16
# With less in its temporary folder its processes cannot even write their logs.
HOPELESS_MIB = 8
# What may interrupt a session.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RayUnavailable(TakestreamError):
    """Ray could not be started or reached; the message says what to do."""

    kind = ErrorKind.ENGINE


@contextmanager
def ray_session(run: RunSpec, *, keep_logs: bool = False) -> Iterator[None]:
    """Ray, started here or joined at `run.address`; a Ray that was there already is left alone.

    What is started here leaves nothing behind, unless `keep_logs`.
    """
    if ray.is_initialized():
        yield
        return
    if run.address:
        _check_answers(run.address)
    # Ray prints what it thinks of dead workers and nodes to stdout and stderr, some of it only
    # while it shuts down.
    with ExitStack() as around:
        around.enter_context(_quiet_stderr())
        around.enter_context(redirect_stdout(_RayMessages()))
        if run.address:
            _join(run.address)
        else:
            # Processes of a cluster that was joined are not ours to end, nor is it ours to close.
            if full := full_folder(HOPELESS_MIB):
                raise RayUnavailable(f"Ray cannot be started: {full}")
            try:
                options = around.enter_context(local_node(keep=keep_logs))
            except OSError as error:
                raise RayUnavailable(_why_not(error)) from error
            writing_to = around.enter_context(marked_processes())
            _start_here(options)
            if (node := ray_worker._global_node) is not None:
                writing_to(node.get_session_dir_path())
        try:
            yield
        finally:
            ray.shutdown()


def logs_folder() -> str | None:
    """Where the processes of a Ray that was started here write their logs."""
    node: Any = ray_worker._global_node
    return None if node is None or not node.all_processes else str(node.get_logs_dir_path())


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what Ray's compiled part writes to the standard error from the reader of ours.

    It writes to the descriptor itself. Python's `sys.stderr` is left alone where it is another
    descriptor, as on our command line; where it is the same one nothing is done.
    """
    try:
        same = sys.stderr.fileno() == STDERR
        kept = None if same or os.environ.get("TAKESTREAM_DEBUG") else os.dup(STDERR)
    except (AttributeError, OSError, ValueError):
        kept = None
    if kept is None:
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, STDERR)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


def node_lost(*, ask: bool = True) -> str | None:
    """Why no work can go on in this session; None as long as its node, or cluster, is there.

    The raylet of a joined cluster on this machine belongs to it: where that one died, Ray ends all
    workers of this process some seconds later, and gives it no others.

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
    if not own and node is not None and _refuses(node.node_ip_address, node.node_manager_port):
        return (
            f"Ray's raylet on this machine ({socket.gethostname()}), by which this process is part "
            f"of the cluster at {node.gcs_address}, died: no work can go on from here. Run the "
            "same command again to go on, where Ray runs"
        )
    if own or node is None or not ask or _answers(node.gcs_address):
        return None
    return (
        f"the head of the Ray cluster at {node.gcs_address} does not answer any more. Run the same "
        "command again when it is back"
    )


def _start_here(options: dict[str, Any]) -> None:
    """Start Ray here, at a second try if need be. Raises RayUnavailable."""
    for last in (False, True):
        try:
            with only_what_is_needed():
                _init("local", **options)
        except Exception as error:
            if last or full_folder():
                raise RayUnavailable(_why_not(error)) from error
            log.warning("Ray did not start; trying once more")
        else:
            return


def _join(address: str) -> None:
    """Join the cluster at `address`. Raises RayUnavailable."""
    try:
        _init(address)
    except Exception as error:
        raise RayUnavailable(
            f"no Ray cluster lets us in at {address} (set RAY_AUTH_MODE=token if it uses token "
            f"authentication): {_in_short(error)}"
        ) from error


def _init(address: str, **options: Any) -> None:
    try:
        with _signals_wait():
            ray.init(
                address=address,
                namespace="takestream",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
    except BaseException:
        ray.shutdown()
        raise


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _why_not(error: Exception) -> str:
    words = _in_short(error)
    if full := full_folder():
        return f"Ray did not start: {full}"
    if "timed out during startup" in words:
        return (
            f"Ray did not start in {START_SECONDS:.0f} s: this machine is busy, or short of memory."
            " Try again when less runs on it"
        )
    return f"Ray did not start: {words}"


def full_folder(temporary_mib: int = LEAST_MIB) -> str | None:
    """Which folder that Ray needs has no space left, in words.

    Args:
        temporary_mib: What the folder for temporary files must have left.
    """
    for folder, least, other in (
        (tempfile.gettempdir(), temporary_mib, ", or name another folder by TMPDIR"),
        ("/dev/shm", LEAST_SHM_MIB, ""),
    ):
        try:
            free = shutil.disk_usage(folder).free // 2**20
        except OSError:
            continue
        if free < least:
            return f"{folder} has {free} MiB left, and Ray needs {least}: make room there{other}"
    return None


def _refuses(host: str, port: int) -> bool:
    """Whether nothing listens at a port of this machine; one that is only busy does."""
    try:
        # Not its socket in the file system: it writes a line about each that only looks.
        socket.create_connection((host, port), ASK_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


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
