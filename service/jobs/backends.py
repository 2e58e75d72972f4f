"""Where jobs can be asked for: a Ray cluster, a takestream service, or the records of an output."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from configs.faults import did_you_mean
from configs.load import SettingsError, load_job, over_job, read_yaml
from service.jobs.records import ENDED, Records
from takestream.errors import ErrorKind, StorageDenied, StorageError, TakestreamError
from takestream.storage import S3Options, absolute, open_filesystem, translated

T = TypeVar("T")
Facts = dict[str, Any]
# How often a job is looked at: soon at first, then less and less often.
POLL_SECONDS, POLL_MOST_SECONDS = 0.3, 3.0
# A backend may be unreachable for so long while a job there is watched: services are restarted.
AWAY_SECONDS = 180.0
_HERE = {"localhost", "127.0.0.1", "::1"}


class JobRequestError(SettingsError):
    """The backend refuses the request, or it makes no sense."""


class BackendUnreachable(JobRequestError):
    """The backend cannot be reached at the moment."""


class WatchTimeout(TakestreamError):
    """A backend was unreachable for too long to go on watching its job; the job goes on."""

    kind = ErrorKind.UNAVAILABLE


class Backend(Protocol):
    """Where jobs are submitted, listed, followed and stopped.

    Facts are a job as JSON (`takestream.protocol.JobState`). Every method raises JobRequestError,
    BackendUnreachable, and StorageError for the records of an output.
    """

    def submit(self, file: str | None, given: Mapping[str, Any]) -> Facts:
        """Launch the job of a job file with the settings `given` over it."""
        ...

    def list(self, limit: int) -> Sequence[Facts]:
        """The newest jobs first."""
        ...

    def job(self, job_id: str) -> Facts:
        """One job."""
        ...

    def logs(self, job_id: str) -> str:
        """What the job said so far."""
        ...

    def follow(self, job_id: str, write: Callable[[str], None]) -> None:
        """Pass what the job said and says to `write`, until it has ended."""
        ...

    def stop(self, job_id: str) -> Facts:
        """Ask a job to stop; one that has ended stays as it is."""
        ...


class RayBackend:
    """Jobs of a Ray cluster; `records`, of an output, has those that the cluster has forgotten."""

    def __init__(self, address: str, records: Records | None, *, working_dir: bool) -> None:
        from service.jobs.raycluster import (
            Cluster,
        )  # with it comes Ray, which nothing else here needs

        self._cluster = Cluster(address)
        self._records, self._working_dir = records, working_dir
        if records is not None:
            self._cluster.settle(records)

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
        if self._records is not None:
            return [record.facts() for record in self._records.list(limit)]
        return [record.facts() for record in self._cluster.jobs(limit)]

    def job(self, job_id: str) -> Facts:
        from service.jobs.raycluster import ClusterError, UnknownJobError

        record = self._records.load(job_id) if self._records else None
        if record is not None and record.ended:
            return record.facts()
        try:
            # Only the cluster knows of a driver that was killed before it could write its end.
            return self._cluster.job(job_id).facts()
        except UnknownJobError:
            if record is None:
                raise
            return record.facts()
        except ClusterError as error:
            raise BackendUnreachable(str(error)) from error

    def logs(self, job_id: str) -> str:
        from service.jobs.raycluster import UnknownJobError

        try:
            return self._cluster.logs(job_id)
        except UnknownJobError:
            if self._records is None or self._records.load(job_id) is None:
                raise
            return self._records.log(job_id)

    def follow(self, job_id: str, write: Callable[[str], None]) -> None:
        self._cluster.follow(job_id, write)

    def stop(self, job_id: str) -> Facts:
        return self._cluster.stop(job_id).facts()


class RecordsBackend:
    """The records of an output, with no cluster or service at all."""

    def __init__(self, output: str, s3: S3Options) -> None:
        self._output, self._s3, self._records = output, s3, Records(output, s3)

    def submit(self, file: str | None, given: Mapping[str, Any]) -> Facts:
        raise SettingsError(
            "an output only keeps records; submit where jobs run: --address or --url"
        )

    def list(self, limit: int) -> Sequence[Facts]:
        found = [record.facts() for record in self._records.list(limit)]
        if not found:
            self._refuse_missing()
        return found

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
                "an output only keeps records; stop the job where it runs: --address or --url"
            )
        return facts

    def _refuse_missing(self) -> None:
        there = True
        with translated(self._output, "list", self._s3):
            fs, path = open_filesystem(absolute(self._output), self._s3)
            try:
                fs.ls(path)
            except (FileNotFoundError, NotADirectoryError):
                there = False
        if not there:
            raise SettingsError(f"{self._output}: there is no such output")


class HttpBackend:
    """Jobs of a takestream service, by its HTTP interface."""

    def __init__(self, url: str) -> None:
        # Imported late, and only its reader's half is needed otherwise.
        from takestream.client.client import Client

        try:
            self._client = Client(url, os.environ.get("TAKESTREAM_API_KEY") or None)
        except ValueError as error:
            raise JobRequestError(str(error)) from error

    def submit(self, file: str | None, given: Mapping[str, Any]) -> Facts:
        data = read_yaml(file) if file else {}
        if not isinstance(data, Mapping):
            raise SettingsError(f"{file}: a job file holds settings (key: value)")
        body = over_job(data, given, file or "job")
        return self._ask(lambda: self._client.submit(body))

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
    from takestream.client.jobs import PASSING

    try:
        yield
    except TakestreamError as error:
        # Each fault on a line of its own, where there are some; the message holds them all.
        lines = list(error.errors) or [str(error)]
        if error.status == 401:
            lines.append("set TAKESTREAM_API_KEY to a key of this service")
        raise (BackendUnreachable if isinstance(error, PASSING) else JobRequestError)(
            "\n".join(lines)
        ) from error
    except ValueError as error:
        raise JobRequestError(str(error)) from error


class Watch:
    """Asks for a job now and then, and bears a backend that is unreachable for a while."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._heard, self._away = time.monotonic(), False

    def ask(self, question: Callable[[], T]) -> T | None:
        """The answer, None while the backend is unreachable. Raises WatchTimeout."""
        try:
            found = question()
        except StorageDenied:
            raise
        except (BackendUnreachable, StorageError) as error:
            if time.monotonic() - self._heard > AWAY_SECONDS:
                raise WatchTimeout(
                    f"{error}\nso it is not watched any more; job {self._job_id} goes on, or is "
                    "taken up again when the service is back"
                ) from error
            if not self._away:
                print(f"takestream: {error}; trying again", file=sys.stderr, flush=True)
            self._away = True
            return None
        self._heard, self._away = time.monotonic(), False
        return found


def _follow(backend: Backend, job_id: str, write: Callable[[str], None]) -> None:
    """Pass on what is new in a log every now and then, until the job ends. Raises WatchTimeout."""
    backend.job(job_id)  # one that is unreachable from the start is a mistake
    watch = Watch(job_id)
    shown = ""
    for pause in pauses():
        facts = watch.ask(lambda: backend.job(job_id))
        text = watch.ask(lambda: backend.logs(job_id)) if facts else None
        if facts is None or text is None:
            time.sleep(pause)
            continue
        over = facts["status"] in ENDED
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
