"""The output's own record of its jobs: their history outlives the head node and the service.

`<output>/jobs/<job_id>.json` says how a job stands, `<output>/jobs/<job_id>.log` what it said.
"""

import json
import logging
import re
import secrets
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from configs.faults import did_you_mean
from service.errors import Unknown
from takestream.protocol import ENDED as ENDED
from takestream.protocol import JOB_FIELDS, JobStatus
from takestream.storage import S3Options, join
from workers.store.versioned import VersionedObjects

log = logging.getLogger(__name__)

JOBS = "jobs"
"""The folder of the records, beside the folders of the encoders."""

RECORD_VERSION: Literal[1] = 1

Status = JobStatus

LOG_BYTES = 256 * 1024
"""So much of a job's log is kept: its end."""

_ID = "[0-9]{8}-[0-9]{6}-[0-9a-f]{6}"
_DROPPED = "… (what came before was dropped)\n"
_LONGEST_LINE = 10_000
# Records read at once for a list.
_PAGE = 100


def new_job_id() -> str:
    """`20261124-054233-a1b2c3`: UTC time to the second and chance; ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def is_job_id(text: str) -> bool:
    """Whether `text` is a job id of ours, and so may become part of a path."""
    return re.fullmatch(_ID, text) is not None


def is_short_id(text: str) -> bool:
    """Whether `text` may be short for a job id."""
    return not is_job_id(text) and re.fullmatch("[0-9a-f-]{3,21}", text) is not None


def whole_id(given: str, ids: Iterable[str]) -> str:
    """The one job id of `ids` that `given` is short for: its beginning, or that of its last part.

    Raises:
        Unknown: None, or several.
    """
    known = list(ids)
    found = [one for one in known if one.startswith(given) or one.split("-")[-1].startswith(given)]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:3]) + (" …" if len(found) > 3 else "")
        raise Unknown(f"'{given[:100]}' is short for {len(found)} jobs: {some}")
    raise Unknown(f"there is no job '{given[:100]}'{did_you_mean(given[:100], known)}")


def now() -> str:
    """This second, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class JobRecord(BaseModel):
    """How a job stands.

    Attributes:
        kind: `service` jobs run on the workers of an HTTP service, `ray` jobs were submitted to a
            cluster, whose dashboard was at `ray_address`; Ray knows them by the same job id.
        submitted_at: ISO 8601, UTC, as are `started_at`, `finished_at` and `alive_at`.
        spec: The JobSpec as JSON.
        progress: The sums of `workers.run.job.Progress`.
        failures: Of {take, stream, reason, kind}; the first hundreds.
        owner: The process that runs it, None when anyone may claim it (`service.jobs.ownership`).
        alive_at: The owner's last heartbeat.
        report: The URI of the run's report, once it has ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    record_version: Literal[1] = RECORD_VERSION
    job_id: Annotated[str, Field(pattern=f"^{_ID}$")]
    kind: Literal["service", "ray"]
    status: Status
    submitted_at: str
    started_at: str | None = None
    finished_at: str | None = None
    submitted_by: str | None = None
    spec: dict[str, Any]
    encoder_ids: tuple[str, ...] = ()
    progress: dict[str, Any] | None = None
    failures: list[dict[str, Any]] = Field(default_factory=list)
    error: str | None = None
    ray_address: str | None = None
    owner: str | None = None
    alive_at: str | None = None
    report: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ENDED

    def facts(self) -> dict[str, Any]:
        """The job as everybody may see it, JSON-able; the keys are always the same."""
        facts = self.model_dump(mode="json", include=set(JOB_FIELDS))
        # For those who ask about a job with one encoder, as most are.
        return {**facts, "encoder_id": self.encoder_ids[0] if self.encoder_ids else None}

    @model_validator(mode="before")
    @classmethod
    def _of_one_encoder(cls, data: Any) -> Any:
        """Records of before a job could have several encoders name one."""
        if isinstance(data, dict) and "encoder_id" in data:
            data = dict(data)
            one = data.pop("encoder_id")
            data.setdefault("encoder_ids", [] if one is None else [one])
        return data


class Records:
    """The records of one output. Methods raise StorageError.

    A record that cannot be read, because it was half written or comes from a later version, counts
    as none: it is told once in the log, and a writer of that job replaces it.

    Args:
        output: A path or any fsspec URI.
        s3: How to reach it.
    """

    def __init__(self, output: str, s3: S3Options | None = None) -> None:
        self._objects = VersionedObjects(join(output, JOBS), s3)
        self._lock = threading.Lock()
        # What has ended stays so, and what cannot be read is nobody's to take up.
        self._settled: set[str] = set()
        self._told: set[str] = set()

    def save(self, record: JobRecord) -> None:
        """Write the record, whole or not at all, over whatever was there."""
        self._objects.put(_key(record.job_id), _text(record))

    def replace(self, record: JobRecord, version: str | None) -> str | None:
        """Write the record if the one on the storage still has `version` (None: there is none).

        Returns:
            The new version; None when it was another by now. Exact where `exact` is true.
        """
        return self._objects.replace(_key(record.job_id), _text(record), version)

    def read(self, job_id: str) -> tuple[JobRecord | None, str | None]:
        """The record of a job, None as for `load`, and its version, None when there is no object.

        The version is that of an unreadable record, too.
        """
        if not is_job_id(job_id):
            return None, None
        found = self._objects.read(_key(job_id))
        return (None, None) if found is None else (self._parsed(job_id, found.data), found.version)

    @property
    def exact(self) -> bool:
        """Whether `replace` lets exactly one of several writers win on this storage."""
        return self._objects.exact

    def load(self, job_id: str) -> JobRecord | None:
        """The record of a job; None when there is none that this version can read."""
        if not is_job_id(job_id):
            return None
        return self._parsed(job_id, self._objects.get(_key(job_id)))

    def list(self, limit: int) -> Sequence[JobRecord]:
        """The newest `limit` records, newest first."""
        return self.search(lambda record: record, limit)[0]

    def search(
        self,
        known: Callable[[JobRecord], JobRecord | None],
        limit: int,
        before: str | None = None,
        *,
        most: int | None = None,
    ) -> tuple[Sequence[JobRecord], str | None]:
        """The newest records that are wanted.

        Args:
            known: From a record to what is known of the job, None where it is not wanted.
            limit: So many records at most.
            before: A job id; only older records are read.
            most: So many records are read at most.

        Returns:
            The records, newest first, and the id of the last that was read: older ones follow.
            None instead of it where there are none.
        """
        found: list[JobRecord] = []
        ids = [job_id for job_id in self._ids() if before is None or job_id < before]
        if limit <= 0 or not ids:
            return found, None
        last = ids[0]
        for job_id, record in self._read(ids[:most], _PAGE if most else min(limit, _PAGE)):
            last = job_id
            job = None if record is None else known(record)
            if job is not None:
                found.append(job)
            if len(found) == limit:
                break
        return found, last if last != ids[-1] else None

    def unfinished(self) -> Sequence[JobRecord]:
        """The jobs that have not ended, oldest first: the order in which they were submitted.

        Asked again, it reads only what may have changed.
        """
        found: list[JobRecord] = []
        for job_id, record in self._read(self._ids(self._settled), _PAGE):
            if record is not None and not record.ended:
                found.append(record)
            else:
                self._settled.add(job_id)
        return found[::-1]

    def append_log(self, job_id: str, lines: Iterable[str]) -> None:
        """Add lines to a job's log, of which the last `LOG_BYTES` are kept; long ones are cut."""
        text = "".join(f"{line.rstrip()[:_LONGEST_LINE]}\n" for line in lines)
        if not is_job_id(job_id):
            raise ValueError(f"'{job_id}' is no job id")
        with self._lock:
            before = self._objects.get(f"{job_id}.log") or b""
            data = before + text.encode(errors="replace")
            if len(data) > LOG_BYTES:
                dropped = _DROPPED.encode()
                kept = data[len(data) - LOG_BYTES + len(dropped) :]
                data = dropped + kept[kept.find(b"\n") + 1 :]  # from the beginning of a line
            self._objects.put(f"{job_id}.log", data)

    def log(self, job_id: str) -> str:
        """What the job said; empty when it said nothing."""
        data = self._objects.get(f"{job_id}.log") if is_job_id(job_id) else None
        return (data or b"").decode(errors="replace")

    def _ids(self, without: Container[str] = ()) -> Sequence[str]:
        """The ids of all records, newest first."""
        names = (
            key.removesuffix(".json") for key in self._objects.listing() if key.endswith(".json")
        )
        return sorted((n for n in names if is_job_id(n) and n not in without), reverse=True)

    def _read(self, ids: Sequence[str], page: int) -> Iterator[tuple[str, JobRecord | None]]:
        for start in range(0, len(ids), page):
            batch = ids[start : start + page]
            objects = self._objects.get_many(f"{job_id}.json" for job_id in batch)
            for job_id in batch:
                yield job_id, self._parsed(job_id, objects[f"{job_id}.json"])

    def _parsed(self, job_id: str, data: bytes | None) -> JobRecord | None:
        if data is None:
            return None
        try:
            record = JobRecord.model_validate_json(data)
        except ValidationError as error:
            self._tell(job_id, f"is no job record of this version: {_first(error)}")
            return None
        if record.job_id != job_id:
            self._tell(job_id, f"is the record of another job: {record.job_id}")
            return None
        return record

    def _tell(self, job_id: str, what: str) -> None:
        if job_id not in self._told:
            self._told.add(job_id)
            log.warning("%s/%s.json %s", JOBS, job_id, what)


def _key(job_id: str) -> str:
    return f"{job_id}.json"


def _text(record: JobRecord) -> bytes:
    text = json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False)
    # File names and the errors that quote them may hold bytes that are no text.
    return text.encode(errors="replace")


def _first(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip()
