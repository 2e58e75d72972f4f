"""Jobs on a Ray cluster, submitted and watched through its Jobs API (the dashboard's URL).

A job is its record in the output: the cluster is told only where that lies, reads the settings from
it and writes there how the job goes (`service.jobs.driver`). So a job may name thousands of takes,
nothing needs quoting, and what became of it is known when the cluster is gone. No credentials
travel: the cluster reaches S3 with its own, or with the profile that the job names.
"""

import asyncio
import contextlib
import logging
import os
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from configs.faults import did_you_mean
from configs.load import choose_encoder
from configs.schema import JobSpec
from service.jobs.rayjob import ray_sees
from service.jobs.records import JobRecord, Records, new_job_id, now
from takestream.errors import StorageError
from takestream.storage import S3Options, absolute
from workers.run.session import RayUnavailable

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
# What a job needs of the checkout; all else (.venv, .git, data lying about) stays here.
PARTS = ("service", "workers", "models", "configs", "takestream")

STOP_SECONDS = 60
"""From SIGTERM to SIGKILL: time to give up a unit and to write the record."""

# A record is written before its job is known to the cluster.
_SUBMITTING = timedelta(minutes=5)
_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 60.0


class ClusterError(RayUnavailable):
    """The cluster cannot be reached, does not let us in or does not know the job."""


class Cluster:
    """A Ray cluster's Jobs API. Methods raise ClusterError, and StorageError for a job's output.

    address: the dashboard's URL, `http://head:8265`. RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH
        (or RAY_AUTH_TOKEN) are honoured.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClusterError(
                f"'{address}' is no URL of a Ray dashboard, such as http://head:8265 (jobs are "
                "submitted there, not at the port that Ray's workers use)"
            )
        self.address = address.rstrip("/")
        self._client: Any = None
        with self._said(), _chosen(self.address):
            self._client = _Client(self.address)
        for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private"):
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)

    def submit(self, job: JobSpec, *, working_dir: bool = True) -> JobRecord:
        """Write the job's record and hand it to the cluster; it resumes by itself, as every job.

        working_dir: send this checkout's code along; otherwise the cluster's own takestream runs.
        Raises SettingsError for an unknown encoder.
        """
        for choice in job.encoders:
            choose_encoder(choice)
        job = _settled(job)
        s3 = job.reach_output
        records = Records(job.output, s3)
        record = JobRecord(
            job_id=new_job_id(),
            kind="ray",
            status="queued",
            submitted_at=now(),
            spec=job.model_dump(mode="json"),
            ray_address=self.address,
        )
        records.save(record)
        metadata = {
            "takestream": "job", "output": job.output, 
            "encoder": ", ".join(choice.preset for choice in job.encoders),
            "dataset": job.dataset, "takes": _which(job),
            "s3_profile": s3.profile, "endpoint_url": s3.endpoint_url,
        }  # fmt: skip
        environment: dict[str, Any] = {
            "env_vars": {
                "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
                "RAY_USAGE_STATS_ENABLED": "0",
            }
        }
        if working_dir:
            environment["working_dir"] = str(CHECKOUT)
            others = {path.name for path in CHECKOUT.iterdir()} - set(PARTS)
            environment["excludes"] = [f"/{name}" for name in sorted(others)]
        try:
            with self._said():
                self._client.submit_job(
                    entrypoint=entrypoint(record.job_id, job.output, s3),
                    submission_id=record.job_id,
                    runtime_env=environment,
                    metadata={name: value for name, value in metadata.items() if value},
                )
        except ClusterError as error:
            end = {"status": "failed", "finished_at": now(), "error": f"not submitted: {error}"}
            records.save(record.model_copy(update=end))
            raise
        return record

    def jobs(self, limit: int) -> list[JobRecord]:
        """The jobs that were submitted to this cluster, newest first."""
        with self._said():
            found = self._client.list_jobs()
        ours = [d for d in found if d.submission_id and (d.metadata or {}).get("takestream")]
        newest = sorted(ours, key=lambda d: str(d.submission_id), reverse=True)[:limit]
        away: set[str] = set()
        return [self._reconciled(details, away) for details in newest]

    def job(self, job_id: str) -> JobRecord:
        """How a job stands. An end that the job could not write down itself is written here."""
        return self._reconciled(self._details(job_id), set())

    def logs(self, job_id: str) -> str:
        """What the job printed so far."""
        submission = self._details(job_id).submission_id or job_id
        with self._said():
            return str(self._client.get_job_logs(submission))

    def follow(self, job_id: str, write: Callable[[str], None]) -> None:
        """Pass on what the job printed and prints, until it ends."""
        submission = self._details(job_id).submission_id or job_id

        async def tail() -> None:
            async for text in self._client.tail_job_logs(submission):
                write(text)

        with self._said():
            asyncio.run(tail())

    def stop(self, job_id: str) -> JobRecord:
        """Ask a job to stop at once; what it wrote is kept. An ended one is left as it is."""
        details = self._details(job_id)
        if details.submission_id is None:
            raise ClusterError(f"{job_id} was not submitted as a job: its own driver stops it")
        with self._said():
            stopping = self._client.stop_job(details.submission_id)
        record = self._reconciled(self._details(job_id), set())
        if stopping and not record.ended:
            return record.model_copy(update={"status": "stopping"})
        return record

    def settle(self, records: Records) -> None:
        """Write down the end of every job that this cluster ran, or forgot in a restart."""
        for record in records.unfinished():
            if record.kind != "ray" or record.ray_address != self.address:
                continue
            try:
                self.job(record.job_id)
            except UnknownJobError:
                age = datetime.now(UTC) - datetime.fromisoformat(record.submitted_at)
                if age > _SUBMITTING:
                    lost = "the cluster forgot it, as in a restart; submit it again to go on"
                    end = {"status": "failed", "finished_at": now(), "error": lost}
                    _write_end(records, record.job_id, end)

    def _details(self, job_id: str) -> JobDetails:
        try:
            with self._said():
                details: JobDetails = self._client.get_job_info(job_id)
                return details
        except UnknownJobError:
            with self._said():
                known = [str(d.submission_id) for d in self._client.list_jobs() if d.submission_id]
            near = did_you_mean(job_id, sorted(known)[-20:])
            raise UnknownJobError(
                f"the Ray cluster at {self.address} knows no job '{job_id}'{near} "
                "(`takestream jobs --output URI` shows the records of an output)"
            ) from None

    def _reconciled(self, details: JobDetails, away: set[str]) -> JobRecord:
        """The job's own record as far as it goes, else what Ray knows.

        away: outputs that could not be reached, not to be tried again.
        """
        seen = ray_sees(details, self.address)
        metadata = details.metadata or {}
        output = metadata.get("output", "")
        if not metadata.get("takestream") or output in away:
            return seen
        s3 = S3Options(metadata.get("s3_profile"), metadata.get("endpoint_url"))
        try:
            records = Records(output, s3)
            record = records.load(seen.job_id)
            if record is None:
                return seen
            if record.ended or not seen.ended:
                # Between the driver's last word and its exit Ray still calls it running.
                return record
            # The driver was killed, or never came to write: Ray knows how it ended.
            end = {"status": seen.status, "finished_at": seen.finished_at, "error": seen.error}
            record = _write_end(records, seen.job_id, end) or seen
            with contextlib.suppress(ClusterError), self._said():
                said = str(self._client.get_job_logs(seen.job_id))
                lines = ["what Ray kept of its output:", *said.splitlines()]
                records.append_log(seen.job_id, lines)
        except StorageError as error:
            away.add(output)
            log.warning("the records of %s cannot be reached: %s", output, error)
            return seen
        return record

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what Ray and HTTP raise into one line that says what to do."""
        try:
            yield
        except ClusterError:
            raise
        except AuthenticationError as error:
            raise ClusterError(
                f"the Ray cluster at {self.address} does not let us in: set RAY_AUTH_MODE=token, "
                "and RAY_AUTH_TOKEN_PATH to the file of its token unless that is ~/.ray/auth_token"
            ) from error
        except (requests.ConnectionError, ConnectionError, requests.Timeout) as error:
            raise ClusterError(
                f"no Ray dashboard answers at {self.address}: is that its URL, and is the "
                "cluster up?"
            ) from error
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError, KeyError) as error:
            words = " ".join(str(error).split())[:300] or type(error).__name__
            if "status code 404" in words and "does not exist" in words:
                raise UnknownJobError(words) from error
            raise ClusterError(
                f"what answers at {self.address} is no Ray dashboard, or too old a one: {words}"
                if self._client is None
                else f"the Ray cluster at {self.address}: {words}"
            ) from error


class UnknownJobError(ClusterError):
    """The cluster does not know a job."""


class _Client(JobSubmissionClient):
    """Ray's client, which itself would wait for ever."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        # The first question is whether anybody is there.
        answer = _CONNECT_SECONDS if endpoint == "/api/version" else _ANSWER_SECONDS
        options.setdefault("timeout", (_CONNECT_SECONDS, answer))
        return super()._do_request(method, endpoint, **options)


def _write_end(records: Records, job_id: str, end: dict[str, Any]) -> JobRecord | None:
    """Write the end of a job that could not write it itself, unless it has ended by now.

    Returns:
        The record as it stands; None when there is none.
    """
    while True:
        record, version = records.read(job_id)
        if record is None or record.ended:
            return record
        ended = record.model_copy(update=end)
        if records.replace(ended, version) is not None:
            return ended


def entrypoint(job_id: str, output: str, s3: S3Options) -> str:
    """The shell command that runs on the head; replaced by Python, so that signals reach it."""
    words = ["python", "-m", "takestream", "perform", job_id, "--output", output]
    for flag, value in (("--s3-profile", s3.profile), ("--endpoint-url", s3.endpoint_url)):
        words += [flag, value] if value else []
    return f"exec {shlex.join(words)}"


@contextlib.contextmanager
def _chosen(address: str) -> Iterator[None]:
    """Ray's own variables would win over the address that was given."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _settled(job: JobSpec) -> JobSpec:
    """The job as another machine can run it: paths absolute, the cluster its own."""
    update: dict[str, Any] = {
        "dataset": absolute(job.dataset),
        "output": absolute(job.output),
        "run": job.run.model_copy(update={"address": None}),
    }
    update["encoders"] = tuple(
        choice.model_copy(update={"weights": absolute(choice.weights)})
        if choice.weights and os.path.exists(choice.weights)
        else choice
        for choice in job.encoders
    )
    if job.segments:
        update["segments"] = absolute(job.segments)
    return job.model_copy(update=update)


def _which(job: JobSpec) -> str:
    """The filters, for the dashboard's list."""
    select = job.select.model_dump(mode="json", exclude_defaults=True)
    words = " ".join(f"{k}={','.join(v) if isinstance(v, list) else v}" for k, v in select.items())
    return words if len(words) <= 200 else f"{words[:199]}…"
