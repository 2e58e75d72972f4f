"""The service over HTTP: features, search, takes and jobs.

with takestream.Client("http://127.0.0.1:8000") as client:
    ds = client.features("cmu_bike01_2", start=60, end=90, streams="aria*_rgb")
"""

import base64
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import httpx

from takestream import errors
from takestream.client import answers, jobs
from takestream.client.answers import FeatureStream
from takestream.client.jobs import Job
from takestream.client.problems import as_object, unexpected
from takestream.client.records import Encoder, SearchResult, TakeDetails, TakeSummary
from takestream.client.transport import Transport, lines, plain
from takestream.protocol import JOBS_PER_PAGE, NDJSON, NPZ, JobState, Record

if TYPE_CHECKING:
    import xarray

URL_VARIABLE = "TAKESTREAM_URL"
KEY_VARIABLE = "TAKESTREAM_API_KEY"
# How often an answer may be "a job computes that" after a job of the same take has ended.
ROUNDS = 3
PAGE = 200

Names = str | Sequence[str] | None
Segment = Mapping[str, Any] | tuple[str, float, float]
Kind = TypeVar("Kind", bound=Record)


class Client:
    """A takestream service. May be used from several threads; close it, or use it in `with`.

    What fails for a moment (502 to 504, a lost connection) is tried again up to four times, and a
    key that is busy (429) as often as the service's Retry-After says; all of that for a minute, or
    `timeout` for features and searches. It goes through fork and pickle, to the workers of a
    DataLoader or a pool; a pickle has the key.

    Args:
        url: Where the service is; without one the environment's TAKESTREAM_URL.
        key: An API key; without one the environment's TAKESTREAM_API_KEY. No message shows it.
        timeout: Seconds of silence after which features and searches are given up: what has to be
            computed first is silent until it is there. What is only looked up has a minute.

    Raises:
        ValueError: There is no URL, or what was given is none. Methods raise it too, for what
            makes no sense before it is asked.
        TakestreamError: Raised by methods; `takestream.errors` has one class for each thing to do.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 600.0
    ) -> None:
        url = url or os.environ.get(URL_VARIABLE)
        if not url:
            raise ValueError(f"which service? Give its URL, or set {URL_VARIABLE}")
        self._transport = Transport(url, key or os.environ.get(KEY_VARIABLE) or None, timeout)

    @property
    def url(self) -> str:
        return self._transport.url

    def __repr__(self) -> str:
        return f"<takestream Client of {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._transport.close()

    def features(
        self,
        take: str,
        *,
        start: float | None = None,
        end: float | None = None,
        streams: Names = None,
        encoder: str | None = None,
        fps: float | None = None,
        wait: bool = True,
    ) -> "xarray.Dataset":
        """Synchronised features of the clips that show any of `[start, end)` seconds of a take.

        Args:
            take: Its uid or name.
            start: Seconds on the take's clock; from the beginning by default.
            end: Seconds on the take's clock, exclusive; to the end by default.
            streams: Names or patterns; all but eye cameras by default.
            encoder: A preset or a whole encoder_id, the service's own by default.
            fps: Frames per second of the grid, instead of the encoder's own.
            wait: When a job has to compute the features, wait for it.

        Returns:
            A Dataset like one of `takestream.open`, in memory, with a coordinate `clip`: the clips'
            numbers in the take. Its `encoding` says what came from the store and what was computed:
            clips_cached and clips_computed (clips × streams), encoder_id, request_id.

        Raises:
            StillComputing: A job computes the features, and `wait` is False; it has the job.
            JobFailed: That job failed.
            TornAnswer: The answer broke off.
        """
        asked = _asked(start=start, end=end, streams=streams, encoder=encoder, fps=fps)
        path = f"/v1/takes/{_quoted(take)}/features"
        return self._computed("GET", path, wait, "clip", params=asked)

    def iter_features(
        self,
        take: str,
        *,
        start: float | None = None,
        end: float | None = None,
        streams: Names = None,
        encoder: str | None = None,
        fps: float | None = None,
    ) -> FeatureStream:
        """As `features`, clip by clip as they are ready; first what the store has.

        Leaving the stream early by `with` or `close()` frees the connection, and the service
        computes no more than it has begun.

        Args:
            take: Its uid or name.
            start: Seconds on the take's clock; from the beginning by default.
            end: Seconds on the take's clock, exclusive; to the end by default.
            streams: Names or patterns; all but eye cameras by default.
            encoder: A preset or a whole encoder_id, the service's own by default.
            fps: Frames per second of the grid, instead of the encoder's own.

        Returns:
            The clips, to iterate over once. Iterating raises TornAnswer when the answer breaks off.
        """
        asked = _asked(start=start, end=end, streams=streams, encoder=encoder, fps=fps)
        path = f"/v1/takes/{_quoted(take)}/features"
        with ExitStack() as stack:
            response = stack.enter_context(
                self._transport.stream(path, params=asked, accept=NDJSON)
            )
            _of_kind(response, NDJSON)
            # From its second line on the stream closes the response itself.
            return FeatureStream(response, lines(response), stack)

    def segments(
        self,
        segments: Mapping[str, Any] | Iterable[Segment] | str | os.PathLike[str],
        *,
        streams: Names = None,
        encoder: str | None = None,
        wait: bool = True,
    ) -> "xarray.Dataset":
        """One vector for each segment and stream.

        Args:
            segments: `{"take", "start", "end"}` mappings or `(take, start, end)` tuples, seconds on
                the take's clock; or an annotation file of keysteps, parsed or as its path.
            streams: Names or patterns; all but eye cameras by default.
            encoder: A preset or a whole encoder_id, the service's own by default.
            wait: When a job has to compute the features, wait for it.

        Returns:
            A Dataset with dims segment × stream × feature. Coordinates take, start_time, end_time
            and, where the annotation has them, step_id say which segment is which.

        Raises:
            TooLarge: More segments than the service takes at once, some thousand: ask take by take.
            StillComputing: As for `features`; likewise JobFailed and TornAnswer.
        """
        if isinstance(segments, str | os.PathLike):
            body = dict(json.loads(Path(segments).read_text(encoding="utf-8")))
        elif isinstance(segments, Mapping):
            body = dict(segments)
        else:
            body = {"segments": [_segment(entry) for entry in segments]}
        body |= _asked(streams=streams, encoder=encoder)
        return self._computed("POST", "/v1/features", wait, answers.SEGMENT, body=body)

    def search(
        self,
        take: str,
        *,
        text: str | None = None,
        image: bytes | str | os.PathLike[str] | None = None,
        moment: tuple[str, float] | None = None,
        streams: Names = None,
        encoder: str | None = None,
        top: int = 5,
    ) -> SearchResult:
        """Where in a take something is, by one of text, image and moment.

        Args:
            take: Its uid or name.
            text: Words, for an encoder of text and pictures (`encoders()` calls it joint).
            image: A picture, as its file's bytes or path; for such an encoder too.
            moment: `(stream, seconds)`: what looks like it.
            streams: Names or patterns; all but eye cameras by default.
            encoder: A preset or a whole encoder_id, the service's own by default.
            top: Moments for each stream.

        Returns:
            The moments of each stream, the best first.

        Raises:
            ValueError: None or several of text, image and moment are given.
        """
        given = {"text": text, "image": image, "moment": moment}
        queries = [name for name, value in given.items() if value is not None]
        if len(queries) != 1:
            raise ValueError(f"search by text, image or moment: one of them, not {queries}")
        body = {"take": take, "top": top} | _asked(streams=streams, encoder=encoder)
        if image is not None:
            data = image if isinstance(image, bytes) else Path(image).read_bytes()
            body["image"] = base64.b64encode(data).decode()
        elif moment is not None:
            body["moment"] = {"stream": moment[0], "time": float(moment[1])}
        else:
            body["text"] = text
        return answers.search_result(
            self._transport.ask("POST", "/v1/search", body=body, slow=True)
        )

    def takes(
        self,
        query: str | None = None,
        *,
        task: str | None = None,
        university: str | None = None,
        extracted: str | None = None,
        where: Sequence[str] = (),
    ) -> Iterator[TakeSummary]:
        """The data set's takes, asked for page by page as they are read.

        Args:
            query: Part of a uid or name.
            task: Only takes of this task.
            university: Only takes of this university.
            extracted: Only takes with features of this preset or encoder_id.
            where: `FACT=VALUE` with columns of `takestream.facts.COLUMNS`, such as `split=train`.
        """
        asked = _asked(q=query, task=task, university=university, extracted=extracted)
        offset = 0
        while True:
            page = {**asked, "where": list(where), "limit": PAGE, "offset": offset}
            response = self._transport.ask("GET", "/v1/takes", params=page)
            found = _records(TakeSummary, response, "takes")
            yield from found
            offset += len(found)
            total = as_object(response).get("total")
            if not found or (isinstance(total, int) and offset >= total):
                return

    def take(self, take: str) -> TakeDetails:
        """One take by its uid or name, with its streams and stores."""
        response = self._transport.ask("GET", f"/v1/takes/{_quoted(take)}")
        try:
            return TakeDetails.of(as_object(response))
        except (KeyError, TypeError, AttributeError) as error:
            raise unexpected(response, f"no take ({error!r})") from error

    def encoders(self) -> list[Encoder]:
        """The encoders on offer."""
        return _records(Encoder, self._transport.ask("GET", "/v1/encoders"), "encoders")

    def submit(self, spec: Mapping[str, Any] | None = None, **settings: Any) -> Job:
        """Start a job.

        It is asked for once: when the connection is lost, the job may have started all the same,
        and `jobs()` tells.

        Args:
            spec: The settings of a job file. Data set and output are the service's own.
            **settings: Win over those of `spec`.

        Returns:
            The job. The same job asked for twice is one.
        """
        body = {**(spec or {}), **settings}
        response = self._transport.ask("POST", "/v1/jobs", body=body, repeatable=False)
        return Job(self._transport, jobs.parsed(response))

    def jobs(self, limit: int = 50, **filters: str) -> list[Job]:
        """The service's jobs, the newest first; `filters` are status, encoder and by (a key)."""
        found: list[Job] = []
        asked = _asked(**filters)
        while len(found) < limit:
            asked["limit"] = min(limit - len(found), JOBS_PER_PAGE)
            response = self._transport.ask("GET", "/v1/jobs", params=asked)
            states = _records(JobState, response, "jobs")
            found += [Job(self._transport, state) for state in states]
            asked["cursor"] = as_object(response).get("next")
            if not asked["cursor"]:
                break
        return found

    def job(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            NotFound: There is none of that id.
        """
        return Job(self._transport, jobs.state_of(self._transport, job_id))

    def _computed(
        self, method: str, path: str, wait: bool, row: str, **options: Any
    ) -> "xarray.Dataset":
        # A job is of some takes, and other takes of the same request may need other jobs.
        rounds: Counter[str] = Counter()
        failed: dict[str, errors.JobFailed] = {}
        while True:
            response = self._transport.ask(method, path, accept=NPZ, slow=True, **options)
            if response.status_code != 202:
                return answers.dataset(response, row)
            told = as_object(response)
            if not isinstance(told.get("job_id"), str):
                raise unexpected(response, "202 without a job_id")
            job = Job(self._transport, jobs.state_of(self._transport, told["job_id"]))
            if not wait:
                words = str(told.get("detail") or "the features are not there yet")
                raise errors.StillComputing(f"{words} (job {job.id})", job, status=202)
            takes = _takes_of(job)
            for take in takes:
                if take in failed:
                    raise failed[take]
                if rounds[take] == ROUNDS:
                    raise errors.ServiceFault(
                        f"{ROUNDS} jobs in a row succeeded, and the features are not there (next:"
                        f" {job.id})"
                    )
            rounds.update(takes)
            try:
                job.wait()
            except errors.JobFailed as error:
                if job.status == "stopped":
                    raise
                # A job that failed somewhere may still have written what is wanted here.
                failed |= dict.fromkeys(takes, error)


def _asked(**values: Any) -> dict[str, Any]:
    """What was really given; one name becomes a list of one, a number Python's own."""
    asked = {name: value for name, value in values.items() if value is not None}
    for name, value in asked.items():
        if name == "streams":
            asked[name] = [value] if isinstance(value, str) else list(value)
            if not asked[name]:
                raise ValueError("streams=[] chooses none; leave it out for all")
        elif hasattr(value, "item"):
            asked[name] = plain(value)
    return asked


def _takes_of(job: Job) -> list[str]:
    """The uids of a job's takes; where its settings name none, one word for all takes."""
    select = job.spec.get("select")
    uids = select.get("uids") if isinstance(select, Mapping) else None
    return [str(uid) for uid in uids] if isinstance(uids, list) and uids else ["all"]


def _quoted(take: str) -> str:
    if not take.strip("."):
        raise ValueError(f"no take is called {take!r}")
    return quote(take, safe="")


def _segment(entry: Segment) -> dict[str, Any]:
    if isinstance(entry, Mapping):
        return dict(entry)
    take, start, end = entry
    return {"take": take, "start": float(start), "end": float(end)}


def _of_kind(response: httpx.Response, kind: str) -> None:
    found = response.headers.get("content-type", "no type")
    if not found.startswith(kind):
        raise unexpected(response, f"{found} instead of {kind}")


def _records(kind: type[Kind], response: httpx.Response, name: str) -> list[Kind]:
    try:
        return [kind.of(entry) for entry in as_object(response)[name]]
    except (KeyError, TypeError, AttributeError) as error:
        raise unexpected(response, f"no list of {name} ({error!r})") from error
