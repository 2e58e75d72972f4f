"""Ray, started here or joined: one session for a command, a demo or a service."""

import io
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

# Set before Ray is imported: it reads them then.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")

import ray
from ray.exceptions import RayError

from configs.schema import RunSpec
from takestream.errors import ErrorKind, TakestreamError

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
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
    local: dict[str, Any] = {} if run.address else {"include_dashboard": False}
    try:
        with _signals_wait():
            ray.init(
                address=run.address or "local",
                namespace="takestream",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **local,
            )
    except KeyboardInterrupt:
        ray.shutdown()
        raise
    except (RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = "Ray did not start"
        if run.address:
            where = (
                f"no Ray cluster lets us in at {run.address} (set RAY_AUTH_MODE=token if it uses "
                "token authentication)"
            )
        raise RayUnavailable(f"{where}: {' '.join(str(error).split())[:300]}") from error
    # Ray prints what it thinks of dead workers to stdout, which is for results; some of it only
    # while it shuts down.
    with redirect_stdout(_RayMessages()):
        try:
            yield
        finally:
            ray.shutdown()


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
    """Raise RayUnavailable for an address nobody listens at: Ray itself would try for minutes."""
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
