"""`doctor`: what it finds, what it exits with, and what it never shows."""

import http.server
import json
import re
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from service.cli.main import run
from service.report import checks
from workers.run import session
from workers.run.session import RayUnavailable

Usage = namedtuple("Usage", "total used free")
Found = tuple[int, dict[str, Any]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., Found]:
    """doctor(*arguments) → exit code, checks by name."""

    def call(*arguments: object, ray: bool = False) -> Found:
        code = run(["doctor", *map(str, arguments), "--json", *([] if ray else ["--no-ray"])])
        facts = json.loads(capsys.readouterr().out)
        assert facts["ok"] == (code == 0)
        return code, {check["name"]: check for check in facts["checks"]}

    return call


@contextmanager
def storage_at(ahead: timedelta) -> Iterator[str]:
    """An endpoint whose clock is ahead."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(403)
            self.send_header("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
            self.end_headers()

        do_GET = do_PUT = do_HEAD

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_a_sound_machine_passes(doctor: Callable[..., Found], tmp_path: Path) -> None:
    code, found = doctor(tmp_path, "--output", tmp_path / "out")
    assert code == 0
    assert list(found) == [*checks.HERE, "reading", "writing"]
    assert re.search(r"FFmpeg \d+\.\d+\S* \(libavcodec \d+", found["FFmpeg"]["words"])
    assert "efficientnet_lite" in found["encoder"]["words"]
    assert "ray 2." in found["packages"]["words"]
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("free", "status"), [(10**12, "ok"), (200 * 2**20, "warning"), (10**6, "fault")]
)
def test_space_that_is_short_is_told(
    free: int, status: str, doctor: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(free, 0, free))
    code, found = doctor()
    assert found["space"]["status"] == status
    assert code == (status == "fault")


def test_what_cannot_be_reached_stops_a_job(doctor: Callable[..., Found], tmp_path: Path) -> None:
    code, found = doctor(tmp_path / "absent", "--output", "/proc/none")
    assert code == 1
    assert "there is nothing" in found["reading"]["words"]
    assert "cannot write to /proc/none" in found["writing"]["words"]


@pytest.mark.parametrize(
    ("minutes", "status"), [(0, "ok"), (3, "warning"), (-3, "warning"), (20, "fault")]
)
def test_a_clock_that_is_wrong_is_told(
    minutes: int, status: str, doctor: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    with storage_at(timedelta(minutes=minutes)) as endpoint:
        _, found = doctor("s3://bucket/x", "--endpoint-url", endpoint)
    assert found["clock"]["status"] == status
    seconds, _, words = found["clock"]["words"].partition(" s ")
    assert abs(int(seconds) - 60 * abs(minutes)) < 5
    assert words.startswith("behind" if minutes > 0 else "ahead of" if minutes else "")
    assert found["reading"]["status"] == "fault"  # it answers 403 to all
    assert "wJalrXUtnFEMI" not in json.dumps(found)


def test_no_secret_is_shown(doctor: Callable[..., Found], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://me:" + "hunter2@proxy.example:3128")
    monkeypatch.setenv("TAKESTREAM_API_KEY", "hunter2")
    _, found = doctor()
    assert found["network"]["words"] == "HTTP_PROXY proxy.example, HTTPS_PROXY proxy.example"
    assert "hunter2" not in json.dumps(found)


def test_a_ray_that_does_not_start_is_a_fault(
    doctor: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: object) -> None:
        raise RayUnavailable("Ray did not start: no room")

    monkeypatch.setattr(session, "ray_session", fail)
    code, found = doctor(ray=True)
    assert code == 1
    assert found["Ray"] == {"name": "Ray", "status": "fault", "words": "Ray did not start: no room"}


def test_packages_that_are_not_as_locked_are_named(
    doctor: Callable[..., Found], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.1.0\nnot-here==1.0\n")
    monkeypatch.setattr(checks, "LOCK", lock)
    code, found = doctor()
    assert code == 0
    assert found["packages"]["status"] == "warning"
    assert "(locked 0.1.0)" in found["packages"]["words"]
    assert "not-here" not in found["packages"]["words"]


def test_in_print_it_is_a_line_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--no-ray"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(checks.HERE) + 1
    assert lines[-1].startswith("a job can run here")
