"""Jobs on a real Ray cluster, through its Jobs API: stopped, gone on with, remembered."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import xarray as xr
from ray.job_submission import JobDetails

from configs.run import RunSpec
from configs.schema import JobSpec
from service.cli.main import run
from service.jobs.raycluster import CHECKOUT, PARTS, Cluster, ClusterError, entrypoint
from service.jobs.rayjob import why_it_failed
from service.jobs.records import Records
from takestream.storage import S3Options

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """say(*arguments) → exit code, stdout, stderr."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "TAKESTREAM_URL"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def free_ports(count: int) -> list[int]:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in listening]
    for one in listening:
        one.close()
    return ports


class Head:
    """A Ray cluster of one node, its own in everything, so that no other Ray notices it."""

    def __init__(self, folder: str) -> None:
        gcs, dashboard, agent, client = free_ports(4)
        self.address = f"http://127.0.0.1:{dashboard}"
        binaries = Path(sys.executable).parent
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_")
        }
        self._log = Path(folder, "head.log").open("wb")  # noqa: SIM115 - closed in stop()
        self._process = subprocess.Popen(
            [
                binaries / "ray", "start", "--head", "--block", f"--temp-dir={folder}",
                f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
                f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
                "--num-cpus=2", "--object-store-memory=100000000",
            ],
            env={
                **environment, "PATH": f"{binaries}:{os.environ['PATH']}",
                "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
            },
            stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self._ready():
            assert self._process.poll() is None, Path(folder, "head.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.address}/api/jobs/", timeout=5).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """Stop it by its own process group; drivers have sessions of their own, and follow it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


@pytest.fixture
def head() -> Iterator[Head]:
    # Not pytest's folder: the path of a socket has about 100 characters.
    with tempfile.TemporaryDirectory(prefix="ts-", ignore_cleanup_errors=True) as folder:
        head = Head(folder)
        try:
            yield head
        finally:
            head.stop()


def test_a_stopped_job_goes_on_and_the_output_remembers(
    head: Head,
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    say: Say,
    tmp_path: Path,
) -> None:
    take = {"cam01_0": make_video(frames=320), "cam02_0": make_video(frames=320, seed=2)}
    output = tmp_path / "the features"
    job = (
        "--dataset", make_dataset({"a": take}), "--output", output,
        "--unit-frames", "64", "--workers", "1",
    )  # fmt: skip
    where = ("--address", head.address)

    code, out, err = say("submit", *job, *where)
    assert code == 0, err
    first = out.strip()
    assert f"takestream stop {first} --address {head.address}" in err
    deadline = time.monotonic() + 150
    while not list(output.glob("*/*.zarr/features/c/*/*/*")):
        assert time.monotonic() < deadline, say("logs", first, *where)
        time.sleep(0.05)
    code, out, _ = say("stop", first, *where)
    assert (code, out.partition(":")[0]) == (0, "stopped")
    assert "of 38 clips are written" in out
    (store,) = output.glob("*/*.zarr")
    assert xr.open_zarr(store).attrs["status"] == "partial"
    record = json.loads((output / "jobs" / f"{first}.json").read_text())
    assert (record["status"], record["ray_address"]) == ("stopped", head.address)
    assert 0 < record["progress"]["clips_done"] < record["progress"]["clips"]

    code, out, err = say("submit", *job, *where, "--wait", "--json")
    assert code == 0, err
    done = json.loads(out)
    second, progress = done["job_id"], done["progress"]
    assert progress["clips_skipped"] > 0
    assert progress["clips_skipped"] + progress["clips_done"] == progress["clips"] == 38
    assert xr.open_zarr(store).attrs["status"] == "complete"
    assert f"1 takes with {done['encoder_id']}" in (output / "jobs" / f"{second}.log").read_text()
    assert "1 of 1 take complete" in say("logs", second, "--follow", *where)[1]
    listed = json.loads(say("jobs", *where, "--json")[1])
    assert [(j["job_id"], j["status"]) for j in listed] == [
        (second, "succeeded"), (first, "stopped"),
    ]  # fmt: skip
    code, _, err = say("logs", f"{first[:-1]}x", *where)
    assert code == 2
    assert "did you mean" in err

    head.stop()
    code, _, err = say("jobs", *where)
    assert code == 2
    assert err.count("\n") == 1
    assert head.address in err
    assert json.loads(say("jobs", "--output", output, "--json")[1]) == listed
    assert "stopped; what was written is kept" in say("logs", first, "--output", output)[1]
    code, out, _ = say("verify", output)
    assert code == 0, out


class FakeJobs:
    """The part of Ray's Jobs API that is used, in memory."""

    def __init__(self, address: str) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.full = False

    def submit_job(self, **job: Any) -> None:
        if self.full:
            raise RuntimeError("Request failed with status code 500: no agent")
        facts = {name: job[name] for name in ("entrypoint", "submission_id", "metadata")}
        self.known[job["submission_id"]] = {"type": "SUBMISSION", "status": "PENDING", **facts}
        self.environment = job["runtime_env"]

    def get_job_info(self, job_id: str) -> JobDetails:
        if job_id not in self.known:
            raise RuntimeError(f"Request failed with status code 404: Job {job_id} does not exist")
        return JobDetails(**self.known[job_id])

    def list_jobs(self) -> list[JobDetails]:
        return [self.get_job_info(job_id) for job_id in self.known]

    def get_job_logs(self, job_id: str) -> str:
        return "Killed\n"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr("service.jobs.raycluster._Client", FakeJobs)
    return Cluster("http://head:8265/")


def test_ends_that_a_job_could_not_write_down(cluster: Cluster, tmp_path: Path) -> None:
    api = cluster._client
    job = JobSpec(dataset="data", output=str(tmp_path), run=RunSpec(address="http://head:8265"))
    killed, forgotten, young = (cluster.submit(job) for _ in range(3))
    records = Records(str(tmp_path))
    assert records.load(killed.job_id) == killed
    # What the job is lies in its record, as another machine can use it; no more goes along.
    assert JobSpec.model_validate(killed.spec).run.address is None
    assert killed.spec["dataset"] == os.path.abspath("data")
    assert set(api.environment) == {"env_vars", "working_dir", "excludes"}
    assert all(name.startswith("RAY_") for name in api.environment["env_vars"])
    kept = {path.name for path in CHECKOUT.iterdir() if f"/{path.name}" not in
            api.environment["excludes"]}  # fmt: skip
    assert kept == set(PARTS)
    assert cluster.job(killed.job_id).status == "queued"

    said = "Job entrypoint command failed with exit code 137, last available logs:\nfoo\nKilled"
    api.known[killed.job_id] |= {
        "status": "FAILED", "message": said, "driver_exit_code": 137,
        "start_time": 1764000000000, "end_time": 1764000060000,
    }  # fmt: skip
    record = cluster.job(killed.job_id)
    assert (record.status, record.error) == ("failed", "Killed (exit code 137)")
    signalled = api.get_job_info(killed.job_id).model_copy(update={"driver_exit_code": -9})
    assert "killed by signal 9" in why_it_failed(signalled)
    assert record.finished_at == "2025-11-24T16:01:00+00:00"
    assert records.load(killed.job_id) == record
    assert records.log(killed.job_id).endswith("Killed\n")

    long_ago = forgotten.model_copy(update={"submitted_at": "2026-01-01T00:00:00+00:00"})
    records.save(long_ago)
    del api.known[forgotten.job_id], api.known[young.job_id]
    cluster.settle(records)
    assert records.load(forgotten.job_id).status == "failed"
    assert "the cluster forgot it" in records.load(forgotten.job_id).error
    assert records.load(young.job_id).status == "queued"

    api.full = True
    with pytest.raises(ClusterError, match="no agent"):
        cluster.submit(job)
    errors = {record.error for record in records.list(9) if record.status == "failed"}
    assert any(error.startswith("not submitted: ") for error in errors)


@pytest.fixture
def answering() -> Iterator[Callable[[int], str]]:
    """answering(status) → URL of a server that answers everything so."""
    servers = []

    def start(status: int) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_what_is_no_open_dashboard_is_one_line(answering: Callable[[int], str], say: Say) -> None:
    cases = {
        "http://127.0.0.1:1": "no Ray dashboard answers",
        answering(401): "RAY_AUTH_MODE=token",
        answering(404): "is no Ray dashboard",
        answering(200): "is no Ray dashboard",
        "127.0.0.1:6379": "such as http://head:8265",
    }
    for address, words in cases.items():
        code, _, err = say("jobs", "--address", address)
        assert code == 2
        assert err.count("\n") == 1
        assert words in err
    code, _, err = say("jobs")
    assert code == 2
    assert "--address" in err


def test_the_entry_point_quotes() -> None:
    s3 = S3Options("my profile", "http://h:1/?a&b")
    said = entrypoint("20261124-054233-a1b2c3", "s3://b/it's $HOME", s3)
    shown = subprocess.run(
        ["/bin/sh", "-c", said.replace("exec python -m takestream", "printf '%s\\n'")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.splitlines()[2:] == [
        "--output", "s3://b/it's $HOME", "--s3-profile", "my profile",
        "--endpoint-url", "http://h:1/?a&b",
    ]  # fmt: skip
