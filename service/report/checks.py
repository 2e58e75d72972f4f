"""What is on this machine, and whether a job could run here: one check after the other."""

import os
import platform
import re
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from configs.load import choose_encoder
from configs.run import RunSpec
from configs.schema import EncoderChoice
from takestream.errors import TakestreamError
from takestream.storage import S3Options, open_filesystem, translated
from takestream.version import own_version
from workers.run.memory import RAY_MIB, WORKER_MIB, cores, free_mib
from workers.run.recipe import git_commit
from workers.store.objects import probe_writable

Status = Literal["ok", "warning", "fault"]
Found = tuple[Status, str]

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
# Packages that decide what a job does and gives.
SHOWN = (
    "av", "fsspec", "numpy", "pydantic", "ray", "s3fs", "torch", "transformers", "xarray", "zarr",
    "openvino", "onnxruntime",
)  # fmt: skip
CODECS = ("h264", "hevc", "vp9", "av1")
# S3 refuses requests whose time is off by a quarter of an hour.
SKEW_WARNING, SKEW_FAULT = 60.0, 840.0
LEAST_TEMP_MIB, LEAST_SHM_MIB, LEAST_FILES = 1024, 64, 1024
REACH_SECONDS = 5.0
MIB = 2**20


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: What was looked at.
        status: `fault` stops a job, `warning` may.
        words: What was found, and what to do about it.
    """

    name: str
    status: Status
    words: str


def checks_of(
    uris: list[str], output: str | None, s3: S3Options, *, start_ray: bool
) -> Iterator[Check]:
    """Every check, one after the other, as it is done; none of them raises.

    Args:
        uris: What is to be reached for reading.
        output: Where a small object is written and removed.
        s3: How to reach them.
        start_ray: Also start Ray, and stop it again.
    """
    for name, check in HERE.items():
        yield _done(name, check)
    if start_ray:
        yield _done("Ray", _ray)
    for uri in uris:
        yield _done("reading", partial(_reached, uri, s3))
    if output:
        yield _done("writing", partial(_written, output, s3))
    for place in dict.fromkeys(filter(None, (_endpoint(uri, s3) for uri in (*uris, output or "")))):
        yield _done("clock", partial(_clock, place))


def _done(name: str, check: Callable[[], Found]) -> Check:
    try:
        return Check(name, *check())
    except TakestreamError as error:
        return Check(name, "fault", str(error))
    except Exception as error:  # noqa: BLE001 - a check that fails is a finding
        return Check(name, "fault", f"{type(error).__name__}: {error}")


def _machine() -> Found:
    words = f"{platform.system()} {platform.release()} {platform.machine()}, {cores()} cores"
    commit = git_commit() or "no commit"
    return ("ok", f"{own_version()} ({commit[:12]}), Python {platform.python_version()}, {words}")


def _packages() -> Found:
    """Installed versions, and where they differ from the lock."""
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", _lock_text(), re.M))
    others = []
    for name, version in locked.items():
        found = _version(name)
        if found is not None and found != version:
            others.append(f"{name} {found} (locked {version})")
    shown = [f"{name} {found} ({_day(name)})" for name in SHOWN if (found := _version(name))]
    words = f"{', '.join(shown)}, each with the day it was installed"
    if locked:
        words += f"; {len(locked)} are locked"
    if others:
        return ("warning", f"{words}; not as locked: {', '.join(others[:8])}")
    return ("ok", words)


def _lock_text() -> str:
    try:
        return LOCK.read_text()
    except OSError:
        return ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _day(name: str) -> str:
    """When a package was installed; its files do not say when it was published."""
    file = Path(str(metadata.distribution(name).locate_file(""))) / (
        f"{name.replace('-', '_')}-{metadata.version(name)}.dist-info"
    )
    try:
        return f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%d}"
    except OSError:
        return "?"


def _video() -> Found:
    import av
    from av.codec.codec import Codec, UnknownCodecError

    missing = []
    for name in CODECS:
        try:
            Codec(name, "r")
        except UnknownCodecError:
            missing.append(name)
    libraries = {name: ".".join(map(str, number)) for name, number in av.library_versions.items()}
    words = (
        f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"
        f" (libavcodec {libraries.get('libavcodec', '?')})"
    )
    if "h264" in missing:
        return ("fault", f"{words} cannot decode H.264: install PyAV's own wheel")
    lacks = (
        f"; no decoder for {', '.join(missing)}" if missing else f"; decodes {', '.join(CODECS)}"
    )
    return ("ok", words + lacks)


def _torch() -> Found:
    import torch

    words = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        return ("ok", f"none that torch sees; {words}")
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    free = [torch.cuda.mem_get_info(n)[0] // MIB for n in range(len(names))]
    devices = ", ".join(f"{name} ({mib} MiB free)" for name, mib in zip(names, free, strict=True))
    return ("ok", f"{devices}; {words}")


def _encoder() -> Found:
    """The default encoder, which needs no network."""
    from models.resolve import resolve_encoder

    encoder = resolve_encoder(choose_encoder(EncoderChoice()))
    return "ok", f"{encoder.name}, weights {(encoder.sha256 or '')[:10]}, {encoder.dim} numbers"


def _network() -> Found:
    """Proxies, whose addresses may hold passwords: only their hosts are shown."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    found = {n: os.environ.get(n) or os.environ.get(n.lower()) for n in names}
    hosts = [
        f"{name} {urlsplit(value).hostname if '://' in value else value.rpartition('@')[2]}"
        for name, value in found.items()
        if value
    ]
    return "ok", ", ".join(hosts) or "no proxy is set"


def _memory() -> Found:
    free = free_mib()
    if free is None:
        return ("warning", "nobody says here how much is free")
    least = RAY_MIB + WORKER_MIB
    words = f"{free} MiB free; a job of one worker takes about {least} MiB and more"
    return ("ok" if free >= least else "fault", words)


def _space() -> Found:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free // MIB
    words = f"{folder} {free} MiB free"
    status: Status = "ok" if free >= LEAST_TEMP_MIB else "warning"
    if free < 16:
        status = "fault"
    try:
        shm = shutil.disk_usage("/dev/shm").free // MIB
    except OSError:
        return ("warning", f"{words}; there is no /dev/shm")
    words += f", /dev/shm {shm} MiB free"
    if shm < LEAST_SHM_MIB:
        status = "fault" if shm < 16 else "warning"
        words += " (in a container: --shm-size)"
    return (status, words)


def _files() -> Found:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    words = f"a process may open {soft} files (at most {hard})"
    if soft < LEAST_FILES:
        return ("warning", f"{words}: `ulimit -n {min(hard, 65536)}` raises it")
    return ("ok", words)


def _ray() -> Found:
    from workers.run.session import ray_session

    began = time.monotonic()
    with ray_session(RunSpec()):
        took = time.monotonic() - began
    return ("ok", f"starts here, in {took:.1f} s")


def _reached(uri: str, s3: S3Options) -> Found:
    began = time.monotonic()
    brief = S3Options(s3.profile, s3.endpoint_url, patience=REACH_SECONDS, region=s3.region)
    with translated(uri, "read", brief):
        fs, path = open_filesystem(uri, brief, tries=1)
        there = fs.exists(path)
    took = 1000 * (time.monotonic() - began)
    if not there:
        return ("fault", f"{uri}: there is nothing")
    return ("ok", f"{uri}: reached in {took:.0f} ms")


def _written(uri: str, s3: S3Options) -> Found:
    began = time.monotonic()
    probe_writable(uri, s3)
    took = 1000 * (time.monotonic() - began)
    return ("ok", f"{uri}: a small object written and removed in {took:.0f} ms")


def _endpoint(uri: str, s3: S3Options) -> str | None:
    """Where requests for an S3 URI go."""
    if not uri.startswith(("s3://", "s3a://")):
        return None
    own = (
        s3.endpoint_url
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    return own or f"https://{urlsplit(uri).netloc}.s3.amazonaws.com"


def _clock(endpoint: str) -> Found:
    """How far this machine's clock is from that of the storage."""
    import httpx

    host = urlsplit(endpoint).hostname
    try:
        answer = httpx.head(endpoint, timeout=REACH_SECONDS)
        there = parsedate_to_datetime(answer.headers["Date"])
    except (httpx.HTTPError, KeyError, ValueError, socket.gaierror) as error:
        return ("warning", f"{host} does not say its time ({type(error).__name__})")
    skew = (datetime.now(UTC) - there).total_seconds()
    words = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {host}"
    if abs(skew) > SKEW_WARNING:
        late: Status = "fault" if abs(skew) > SKEW_FAULT else "warning"
        return (late, f"{words}: from 15 minutes on S3 refuses requests")
    return ("ok", words)


HERE: Mapping[str, Callable[[], Found]] = {
    "takestream": _machine,
    "packages": _packages,
    "FFmpeg": _video,
    "encoder": _encoder,
    "GPU": _torch,
    "memory": _memory,
    "space": _space,
    "open files": _files,
    "network": _network,
}
"""The checks of this machine."""
