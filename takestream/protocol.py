"""The HTTP interface as data: the words that the service, its page and the client must share.

Only the standard library, so that the wheel stays light. The page gets `page_facts` as a module.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Final, Literal, Self

# Media types.
JSON: Final = "application/json"
NPZ: Final = "application/x-npz"
ARROW: Final = "application/vnd.apache.arrow.stream"
NDJSON: Final = "application/x-ndjson"
EVENTS: Final = "text/event-stream"
TEXT: Final = "text/plain"
PROBLEM: Final = "application/problem+json"

# Headers of answers. Names are compared without case.
CLIPS_HEADER: Final = "X-Takestream-Clips"
ENCODER_ID_HEADER: Final = "X-Takestream-Encoder-Id"
REQUEST_ID_HEADER: Final = "X-Request-ID"
RETRY_AFTER_HEADER: Final = "Retry-After"
CACHE_STATUS_HEADER: Final = "Cache-Status"

# What the `type` of a problem begins with; its `kind` follows.
PROBLEM_TYPE: Final = "urn:takestream:problem:"
# The `kind` of a problem that no layer below has named. The phrases of some statuses change with
# the version of Python.
STATUS_KINDS: Final[Mapping[int, str]] = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found",
    405: "method_not_allowed", 406: "not_acceptable", 413: "too_large", 416: "no_such_range",
    422: "invalid", 429: "too_many_requests", 503: "service_unavailable",
}  # fmt: skip

# Names of server-sent events of a job: one `progress` for each change, one `end`.
PROGRESS_EVENT: Final = "progress"
END_EVENT: Final = "end"

# Limits of a request. Characters of a name, names in a list, entries on one page of a list.
NAME_LENGTH: Final = 200
NAMES: Final = 100
TAKES_PER_PAGE: Final = 500
JOBS_PER_PAGE: Final = 500


# Where a job stands.
JobStatus = Literal["queued", "running", "stopping", "succeeded", "failed", "stopped"]
# A job with one of these will not change any more.
ENDED: Final[frozenset[str]] = frozenset({"succeeded", "failed", "stopped"})


@dataclass(frozen=True)
class Record:
    """A JSON object of the interface, as a dataclass."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The record in a JSON object. Unknown keys are ignored: a later service may send more.

        Raises:
            KeyError: a field without a default is missing.
        """
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        needed = {
            f.name
            for f in fields(cls)
            if f.default is MISSING and f.default_factory is MISSING and f.name not in known
        }
        if needed:
            raise KeyError(*sorted(needed))
        return cls(**known)


@dataclass(frozen=True)
class ProblemBody(Record):
    """The body of an answer that is an error: RFC 9457 with three members of our own.

    Attributes:
        type: `urn:takestream:problem:` and the kind: a name, with nothing to be fetched there.
        title: The status in words.
        status: The HTTP status.
        detail: What is wrong, with which take, stream or setting, and what to do.
        kind: One word for programs, such as `not_found`, `storage` or `queue_full`.
        request_id: The id of the request in the service's log.
        errors: One line for each value that is wrong.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    kind: str | None = None
    request_id: str | None = None
    errors: list[str] | None = None

    def body(self) -> dict[str, Any]:
        """The JSON object, without the members that have no value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class JobFailure(Record):
    """Something that a job could not extract.

    Attributes:
        take: The take's name.
        reason: Why, in words.
        stream: `<cam_id>_<stream>`, None when it is the whole take.
        kind: One word for programs, such as `unavailable`, `unreadable` or `crash`.
    """

    take: str
    reason: str
    stream: str | None = None
    kind: str | None = None


def clips_of(progress: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """How far a job is: clips reached, also within a unit, of the clips asked for.

    Args:
        progress: Of a job's state; services before this one sent sums alone.
    """
    if not progress or "clips" not in progress:
        return None
    sums = progress.get("clips_skipped", 0) + progress.get("clips_done", 0)
    reached = progress.get("clips_reached", sums)
    return int(reached), int(progress.get("clips_asked", progress["clips"]))


@dataclass(frozen=True)
class JobState(Record):
    """A job at one moment.

    Attributes:
        job_id: `20261124-054233-a1b2c3`; ids sort by time of submission.
        status: A `JobStatus`.
        submitted_at: ISO 8601, UTC; likewise `started_at` and `finished_at`.
        submitted_by: The name of the key.
        encoder_ids: Of the stores that it writes, one for each encoder; empty before it has begun.
        encoder_id: The first of them, None before it has begun.
        error: Why it failed.
        spec: The job's settings, as a job file holds them.
        progress: Sums (takes, takes_done, units, units_done, units_failed, clips, clips_done, …),
            how far it is (clips_reached of clips_asked, also within a unit), seconds since it
            began, clips_per_s (lately; once it has ended, over all its time) and seconds_left;
            None before it has begun.
        failures: What could not be extracted; at most some hundred.
        report: URI of the report of the run in the output, once it has ended; the page of it is at
            `/v1/jobs/{job_id}/report`.
    """

    job_id: str
    status: JobStatus
    submitted_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    submitted_by: str | None = None
    encoder_ids: list[str] = field(default_factory=list)
    encoder_id: str | None = None
    error: str | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, float] | None = None
    failures: list[JobFailure] = field(default_factory=list)
    report: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.status in ENDED

    def __str__(self) -> str:
        """A line: its id, where it stands, clips, rate and time left, the first trouble."""
        parts = [f"job {self.job_id} {self.status}", *_far(self.progress, ended=self.ended)]
        if self.error:
            parts.append(self.error)
        elif self.failures:
            first = self.failures[0]
            where = " ".join(filter(None, (first.take, first.stream)))
            parts.append(f"{len(self.failures)} failures, first {where}: {first.reason}")
        return ", ".join(parts)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The job in a JSON object.

        Raises:
            KeyError: `job_id` or `status` is missing.
        """
        failures = [JobFailure.of(entry) for entry in values.get("failures") or []]
        return super().of({**values, "spec": values.get("spec") or {}, "failures": failures})


def _far(progress: Mapping[str, Any] | None, *, ended: bool) -> list[str]:
    far = clips_of(progress)
    if progress is None or far is None:
        return []
    reached, asked = far
    share = f" ({reached / asked:.0%})" if asked and not ended else ""
    parts = [f"{reached} of {asked} clips{share}"]
    if rate := progress.get("clips_per_s"):
        parts.append(f"{rate:.3g} clips/s")
    left = progress.get("seconds_left")
    if left is not None and not ended:
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        shown = f"{hours}:{minutes:02}" if hours else f"{minutes}"
        parts.append(f"{shown}:{seconds:02} left")
    return parts


JOB_FIELDS: Final = frozenset(f.name for f in fields(JobState))


@dataclass(frozen=True)
class ClipCounts:
    """Where the clips of an answer came from, as its header says.

    Attributes:
        cached: Clips × streams that were read from the store or a cache.
        computed: Clips × streams that were computed for this answer.
    """

    cached: int | None = None
    computed: int | None = None

    def header(self) -> str:
        """The value of `CLIPS_HEADER`."""
        return f"cached={self.cached}; computed={self.computed}"

    @classmethod
    def of_header(cls, value: str) -> Self:
        """The counts in a value of `CLIPS_HEADER`; None for what it does not say."""
        found: dict[str, int] = {}
        for part in value.split(";"):
            name, _, count = part.strip().partition("=")
            if name in ("cached", "computed") and count.isdecimal():
                found[name] = int(count)
        return cls(**found)


def page_facts() -> dict[str, Any]:
    """What the page needs of this module, JSON-able; it is served as `static/protocol.js`."""
    return {
        "JSON_TYPE": JSON,
        "EVENTS_TYPE": EVENTS,
        "REQUEST_ID_HEADER": REQUEST_ID_HEADER,
        "RETRY_AFTER_HEADER": RETRY_AFTER_HEADER,
        "END_EVENT": END_EVENT,
        "ENDED_STATUSES": sorted(ENDED),
        "TAKES_PER_PAGE": TAKES_PER_PAGE,
    }
