"""`takestream serve`: the service in the foreground, until it is interrupted."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from service.api.connections import CALLBACK, CALLBACK_VARIABLE

# Set before Ray Serve is imported. Ray hands the environment on to its HTTP proxy.
os.environ.setdefault("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", "1")
os.environ.setdefault(CALLBACK_VARIABLE, CALLBACK)

import httpx
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions

from configs.schema import ServeSpec
from service.app import NAME, build, checked, video_warning
from workers.run.session import RayUnavailable, logs_folder, ray_session

READY_SECONDS = 300.0
SERVE_FLAGS = (
    "host", "port", "encoders", "keys_file", "insecure", "videos", "replicas", "cors_origins",
    "root_path",
)  # fmt: skip


def run_service(
    spec: ServeSpec,
    say: Callable[[str], None],
    *,
    until: threading.Event | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> int:
    """Start the service, say where it is, and keep it until SIGINT or SIGTERM. The exit code.

    Port 0 is one that is free; `ready` is called with the URL once the service answers.

    Raises SettingsError, RayUnavailable.
    """
    spec = checked(spec)
    spec = spec.model_copy(update={"port": _free_port(spec.host, spec.port)})
    if warning := video_warning(spec):
        say(warning)
    if not os.environ.get("TAKESTREAM_DEBUG"):
        # What Serve says of its own start is Ray's business, and part of it is wrong.
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with ray_session(spec.job.run, keep_logs=True):
        ray_serve.start(
            http_options=HTTPOptions(host=spec.host, port=spec.port, keep_alive_timeout_s=75)
        )
        try:
            ray_serve.run(build(spec.model_dump(mode="json")), name=NAME, route_prefix="/")
            url = f"http://{_shown(spec.host)}:{spec.port}"
            _wait_until_ready(url, say)
            say(f"takestream serves {url} (page), {url}/docs (API); Ctrl-C stops it")
            if folder := logs_folder():
                say(f"its logs are in {folder}")
            ready(url)
            (until or _forever()).wait()
        finally:
            with suppress(Exception):
                ray_serve.shutdown()  # type: ignore[no-untyped-call]
    return 0


def _wait_until_ready(url: str, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    said: object = None
    with httpx.Client(timeout=10, trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                answer = client.get(f"{url}/readyz")
                if answer.status_code == 200:
                    return
                checks = {k: v for k, v in answer.json()["checks"].items() if v != "ok"}
                if checks != said and any("not " not in v[:4] for v in checks.values()):
                    said = checks
                    say("not ready: " + "; ".join(f"{k}: {v}" for k, v in checks.items()))
            except (httpx.HTTPError, ValueError, KeyError):
                pass
            time.sleep(0.25)
    say(f"not ready after {READY_SECONDS:.0f} s; {url}/readyz says why")


def _free_port(host: str, port: int) -> int:
    """The port, or for 0 one that is free. Raises RayUnavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RayUnavailable(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
            ) from error
        return int(probe.getsockname()[1])


def _shown(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def _forever() -> threading.Event:
    return threading.Event()
