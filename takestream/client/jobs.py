"""Extraction jobs of the service, from afar."""

import json
import math
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx

from takestream import errors
from takestream.client.problems import as_object, unexpected
from takestream.client.progress import Line
from takestream.client.transport import Transport, lines
from takestream.protocol import END_EVENT, EVENTS, TEXT, JobFailure, JobState

# Connections in a row that bring nothing new before `events` gives up. After some seconds of
# silence the connection is made anew: the service says at least that it is there.
RECONNECTS = 4
SILENCE = 60.0
# Seconds that `wait` puts up with a service that is away: it is started anew now and then, and the
# job with it. Meanwhile what stands before it answers in all sorts of ways.
AWAY = 180.0
PASSING = (
    errors.ConnectionFailed,
    errors.Unavailable,
    errors.TooManyRequests,
    errors.TornAnswer,
    errors.ServiceFault,
)
# One look waits so long for its answer at least, and so long for the next look at most.
_LEAST, _MOST = 1.0, 30.0


class Job:
    """A job on the service, as it was when it was last looked at."""

    def __init__(self, transport: Transport, state: JobState) -> None:
        self._transport, self.state = transport, state

    @property
    def id(self) -> str:
        return self.state.job_id

    @property
    def status(self) -> str:
        """queued, running, stopping, succeeded, failed or stopped."""
        return self.state.status

    @property
    def progress(self) -> dict[str, float] | None:
        return self.state.progress

    @property
    def failures(self) -> list[JobFailure]:
        return self.state.failures

    @property
    def spec(self) -> dict[str, Any]:
        """The settings it runs with."""
        return self.state.spec

    def __repr__(self) -> str:
        return f"<takestream {self.state}>"

    def refresh(self) -> "Job":
        """Look again; itself."""
        self.state = state_of(self._transport, self.id)
        return self

    def events(self) -> Iterator[JobState]:
        """The job as it is now, and again whenever it changed, to its end.

        A lost connection is made again and goes on where it broke off.

        Raises:
            ConnectionFailed: Several connections in a row brought nothing; the job goes on.
        """
        last: str | None = None
        shown: JobState | None = None
        lost = 0
        while True:
            why: Exception | None = None
            try:
                for event in self._events(last):
                    if event is None:
                        lost = 0  # a word that the service is there
                        continue
                    number, state, ends = event
                    last, self.state = number or last, state
                    if state != shown:
                        lost, shown = 0, state
                        yield state
                    if ends:
                        return
            except PASSING as error:
                why = error
            lost += 1
            if lost > RECONNECTS:
                raise errors.ConnectionFailed(
                    f"the events of job {self.id} broke off {lost} times in a row; the job goes on"
                ) from why
            time.sleep(min(10.0, 0.25 * 2 ** (lost - 1)) * random.uniform(1, 1.5))

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> "Job":
        """Wait until it has ended. A service that is away for some minutes is waited for.

        Args:
            timeout: Seconds; None for as long as it takes.
            progress: Whether to say on stderr how far it is.

        Returns:
            Itself.

        Raises:
            JobFailed: It failed or was stopped.
            JobTimeout: It has not ended in time, and goes on.
        """
        heard = time.monotonic()
        until = math.inf if timeout is None else heard + timeout
        pause, away = 0.2, ""
        line = Line(progress)
        # Not by events: asking now and then gets through every proxy, and a job takes minutes.
        while True:
            asked = 0.0
            try:
                silence = max(_LEAST, until - time.monotonic())
                self.state = parsed(self._transport.look(_path(self.id), silence))
                line.show(self.state)
                if self.state.ended:
                    break
                heard, away = time.monotonic(), ""
            except PASSING as error:
                if time.monotonic() - heard > AWAY:
                    raise
                asked, away = getattr(error, "retry_after", None) or 0.0, f" ({error})"
            left = until - time.monotonic()
            if left <= 0:
                raise errors.JobTimeout(f"job {self.id} is {self.status} after {timeout} s{away}")
            time.sleep(min(left, _MOST, max(pause, asked)))
            pause = min(pause * 1.5, 5.0)
        if self.status != "succeeded":
            raise errors.JobFailed(f"job {self.id} {self.status}{_why(self.state)}", self)
        return self

    def logs(self) -> str:
        """Its log so far."""
        return self._transport.ask("GET", _path(self.id, "/logs"), accept=TEXT).text

    def stop(self) -> "Job":
        """Ask it to stop; itself. What is written is kept, and the same job again goes on there."""
        response = self._transport.ask("DELETE", _path(self.id))
        self.state = parsed(response)
        return self

    def _events(self, last: str | None) -> Iterator[tuple[str | None, JobState, bool] | None]:
        """(number, job, whether that is the end) for each event, None for a comment."""
        headers = {"Cache-Control": "no-cache"} | ({"Last-Event-ID": last} if last else {})
        with self._transport.stream(
            _path(self.id, "/events"), accept=EVENTS, headers=headers, silence=SILENCE
        ) as response:
            if not response.headers.get("content-type", "").startswith(EVENTS):
                raise unexpected(response, "no stream of events")
            name, number, data = "", last, list[str]()
            for line in lines(response):
                if line.startswith(b":"):
                    yield None
                elif line:
                    key, _, value = line.decode(errors="replace").partition(":")
                    value = value.removeprefix(" ")
                    if key == "event":
                        name = value
                    elif key == "id":
                        number = value
                    elif key == "data":
                        data.append(value)
                else:
                    # An event without the empty line after it is cut, and comes again.
                    if data:
                        try:
                            state = JobState.of(json.loads("\n".join(data)))
                        except (ValueError, KeyError, TypeError, AttributeError) as error:
                            why = f"an event that is no job ({error})"
                            raise unexpected(response, why) from error
                        yield number, state, name == END_EVENT or state.ended
                    name, data = "", []


def state_of(transport: Transport, job_id: str) -> JobState:
    """The job of that id. Raises NotFound."""
    return parsed(transport.ask("GET", _path(job_id)))


def parsed(response: httpx.Response) -> JobState:
    """The job in an answer. Raises UnexpectedAnswer."""
    try:
        return JobState.of(as_object(response))
    except (KeyError, TypeError, AttributeError) as error:
        raise unexpected(response, f"no job ({error!r})") from error


def _path(job_id: str, more: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{more}"


def _why(state: JobState) -> str:
    if state.error:
        return f": {state.error}"
    shown = [" ".join(filter(None, (f.take, f.stream))) + f": {f.reason}" for f in state.failures]
    more = f" (and {len(shown) - 3} more)" if len(shown) > 3 else ""
    return f": {'; '.join(shown[:3])}{more}" if shown else ""
