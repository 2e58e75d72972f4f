"""Where submitted jobs are: on a Ray cluster, on a takestream service, or in an output's memory."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol
from urllib.parse import urlsplit

from configs.load import SettingsError, did_you_mean, load_job, merge, read_yaml
from service.cluster import Cluster, UnknownJobError
from service.records import ENDED, Records
from takestream.storage import S3Options

Facts = dict[str, Any]
# How often a job is looked at: soon at first, then less and less often.
POLL_SECONDS, POLL_MOST_SECONDS = 0.3, 3.0
_HERE = {"localhost", "127.0.0.1", "::1"}


class JobsAway(SettingsError):
    """The service cannot be reached, or refuses."""


class Place(Protocol):
    """Somewhere jobs are. Facts are a job as JSON."""

    def submit(self, file: str | None, given: Mapping[str, Any]) -> Facts: ...
    def list(self, limit: int) -> Sequence[Facts]: ...
    def job(self, job_id: str) -> Facts: ...
    def logs(self, job_id: str) -> str: ...
    def follow(self, job_id: str, write: Callable[[str], None]) -> None: ...
    def stop(self, job_id: str) -> Facts: ...


class OnCluster:
    """Jobs of a Ray cluster; `memory` is asked for those that it has forgotten."""

    def __init__(self, address: str, memory: Records | None, *, working_dir: bool) -> None:
        self._cluster = Cluster(address)
        self._memory, self._working_dir = memory, working_dir
        if memory is not None:
            self._cluster.settle(memory)

    def submit(self, file: str | None, given: Mapping[str, Any]) -> Facts:
        job = load_job(file, given)
        elsewhere = urlsplit(self._cluster.address).hostname not in _HERE
        if elsewhere and "://" not in job.output.removeprefix("file://"):
            print(
                f"takestream: every node of the cluster must see {job.output} as its own folder",
                file=sys.stderr,
            )
        return self._cluster.submit(job, working_dir=self._working_dir).facts()

    def list(self, limit: int) -> Sequence[Facts]:
        if self._memory is not None:
            return [record.facts() for record in self._memory.list(limit)]
        return [record.facts() for record in self._cluster.jobs(limit)]

    def job(self, job_id: str) -> Facts:
        record = self._memory.load(job_id) if self._memory else None
        return (record or self._cluster.job(job_id)).facts()

    def logs(self, job_id: str) -> str:
        try:
            return self._cluster.logs(job_id)
        except UnknownJobError:
            if self._memory is None or self._memory.load(job_id) is None:
                raise
            return self._memory.log(job_id)

    def follow(self, job_id: str, write: Callable[[str], None]) -> None:
        self._cluster.follow(job_id, write)

    def stop(self, job_id: str) -> Facts:
        return self._cluster.stop(job_id).facts()


class InOutput:
    """What an output remembers, with no cluster or service at all."""

    def __init__(self, output: str, s3: S3Options) -> None:
        self._output, self._records = output, Records(output, s3)

    def submit(self, file: str | None, given: Mapping[str, Any]) -> Facts:
        raise SettingsError("an output only remembers; submit where jobs run: --address or --url")

    def list(self, limit: int) -> Sequence[Facts]:
        return [record.facts() for record in self._records.list(limit)]

    def job(self, job_id: str) -> Facts:
        record = self._records.load(job_id)
        if record is None:
            known = [record.job_id for record in self._records.list(20)]
            near = did_you_mean(job_id, known)
            raise SettingsError(f"{self._output} has no record of a job '{job_id}'{near}")
        return record.facts()

    def logs(self, job_id: str) -> str:
        self.job(job_id)
        return self._records.log(job_id)

    def follow(self, job_id: str, write: Callable[[str], None]) -> None:
        _follow(self, job_id, write)

    def stop(self, job_id: str) -> Facts:
        facts = self.job(job_id)
        if facts["status"] not in ENDED:
            raise SettingsError(
                "an output only remembers; stop the job where it runs: --address or --url"
            )
        return facts


class OnService:
    """Jobs of a takestream service, by its HTTP interface."""

    def __init__(self, url: str) -> None:
        # Imported late, and only its reader's half is needed otherwise.
        from takestream.client import Client

        try:
            self._client = Client(url, os.environ.get("TAKESTREAM_API_KEY") or None)
        except ValueError as error:
            raise JobsAway(str(error)) from error

    def submit(self, file: str | None, given: Mapping[str, Any]) -> Facts:
        data = read_yaml(file) if file else {}
        if not isinstance(data, Mapping):
            raise SettingsError(f"{file}: a job file holds settings (key: value)")
        if isinstance(data.get("encoder"), str):
            data = {**data, "encoder": {"preset": data["encoder"]}}
        return self._ask(lambda: self._client.submit(merge(data, given)))

    def list(self, limit: int) -> Sequence[Facts]:
        with _answers():
            return [asdict(job.state) for job in self._client.jobs(limit)]

    def job(self, job_id: str) -> Facts:
        return self._ask(lambda: self._client.job(job_id))

    def logs(self, job_id: str) -> str:
        with _answers():
            return str(self._client.job(job_id).logs())

    def follow(self, job_id: str, write: Callable[[str], None]) -> None:
        _follow(self, job_id, write)

    def stop(self, job_id: str) -> Facts:
        return self._ask(lambda: self._client.job(job_id).stop())

    def _ask(self, ask: Callable[[], Any]) -> Facts:
        with _answers():
            return asdict(ask().state)


@contextmanager
def _answers() -> Iterator[None]:
    """Turn the client's errors into lines for a terminal."""
    from takestream.errors import TakestreamError

    try:
        yield
    except TakestreamError as error:
        lines = [str(error), *error.errors]
        if error.status == 401:
            lines.append("set TAKESTREAM_API_KEY to a key of this service")
        raise JobsAway("\n".join(lines)) from error


def _follow(place: Place, job_id: str, write: Callable[[str], None]) -> None:
    """Pass on what is new in a log every now and then, until the job ends."""
    shown = ""
    for pause in pauses():
        over = place.job(job_id)["status"] in ENDED
        text = place.logs(job_id)
        # A long log loses its beginning: then go on after the last line that was shown.
        last = shown[-200:]
        at = text.rfind(last) + len(last) if last and last in text else 0
        write(text[at:])
        shown = text
        if over:
            return
        time.sleep(pause)


def pauses() -> Iterator[float]:
    """Seconds to wait before each look at a job."""
    pause = POLL_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.3, POLL_MOST_SECONDS)
