"""Requests to the service: the key, retries, and answers that are errors."""

import json
import logging
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Any

import httpx

from takestream import errors
from takestream.errors import TakestreamError

log = logging.getLogger("takestream.client")
TRIES = 5
# Seconds that one call waits in all between its tries; asked to wait longer, it gives up at once.
PATIENCE = 60.0
LONGEST_LINE = 256 * 2**20

# The request cannot have reached anybody.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# It may have, but the connection was lost. Silence (ReadTimeout) is another matter: what took too
# long once takes as long again.
_LOST = (*_NEVER_SENT, httpx.NetworkError, httpx.RemoteProtocolError)
_BY_STATUS: Mapping[int, type[TakestreamError]] = {
    401: errors.Unauthorised,
    403: errors.Forbidden,
    404: errors.NotFound,
    413: errors.TooLarge,
    429: errors.TooManyRequests,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


class Transport:
    """HTTP to one service. May be used from several threads.

    url: where it is, with the path before `/v1` if it has one. key: sent with each request and
    shown nowhere. timeout: seconds of silence after which a request is given up.

    Raises ValueError for a URL or a key that cannot be one.
    """

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        self.url = _checked_url(url)
        headers = {"User-Agent": f"takestream/{_version()}"}
        if key is not None:
            headers["Authorization"] = f"Bearer {_checked_key(key)}"
        self.timeout = httpx.Timeout(timeout, connect=min(timeout, 10.0))
        self._http = httpx.Client(headers=headers, timeout=self.timeout)

    def close(self) -> None:
        self._http.close()

    def get_json(self, path: str, **options: Any) -> dict[str, Any]:
        """The object that a GET answers."""
        return as_object(self.ask("GET", path, **options))

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        repeatable: bool = True,
    ) -> httpx.Response:
        """A whole answer, its status 2xx; what fails for a moment is tried again.

        repeatable: whether asking twice does no harm. If not, only what was surely not carried out
        is tried again. Raises TakestreamError.
        """
        waits = _Waits()
        while True:
            try:
                with self._send(method, path, params, body, accept, repeatable) as response:
                    self._read(response)
                    return response
            except TakestreamError as error:
                if not _passing(error, repeatable) or not waits.wait(error):
                    raise

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        accept: str,
        headers: Mapping[str, str] | None = None,
        silence: float | None = None,
    ) -> Iterator[httpx.Response]:
        """An answer that is still to be read, its status 2xx; tried again until it begins.

        silence: seconds without a byte after which it is given up, instead of `timeout`.
        """
        waits = _Waits()
        while True:
            sending = self._send("GET", path, params, None, accept, True, headers, silence)
            try:
                response = sending.__enter__()
            except TakestreamError as error:
                if not _passing(error, True) or not waits.wait(error):
                    raise
                continue
            try:
                yield response
            finally:
                sending.__exit__(None, None, None)
            return

    @contextmanager
    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        accept: str,
        repeatable: bool,
        headers: Mapping[str, str] | None = None,
        silence: float | None = None,
    ) -> Iterator[httpx.Response]:
        content = None
        sent = {"Accept": accept, **(headers or {})}
        if body is not None:
            content = json.dumps(body, allow_nan=False).encode()
            sent["Content-Type"] = "application/json"
        timeout = self.timeout if silence is None else httpx.Timeout(silence, connect=10.0)
        request = self._http.build_request(
            method, self.url + path, params=params, content=content, headers=sent, timeout=timeout
        )
        try:
            response = self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, request, error, repeatable) from error
        try:
            if not response.is_success:
                self._read(response)
                raise of_response(response)
            yield response
        finally:
            response.close()

    def _read(self, response: httpx.Response) -> None:
        try:
            response.read()
        except httpx.HTTPError as error:
            raise torn(response, str(error) or type(error).__name__) from error


class _Waits:
    """The waits between the tries of one call."""

    def __init__(self) -> None:
        self._tries, self._left = 1, PATIENCE

    def wait(self, error: TakestreamError) -> bool:
        """Wait as long as `error` asks or as is usual; False when it is time to give up."""
        asked = getattr(error, "retry_after", None)
        # Some more than asked, by chance, so that those who were refused together part.
        seconds = max(asked or 0.0, 0.25 * 2 ** (self._tries - 1)) * random.uniform(1, 1.5)
        if self._tries >= TRIES or seconds > self._left:
            return False
        log.info("try %d failed (%s); again in %.1f s", self._tries, error, seconds)
        self._tries += 1
        self._left -= seconds
        time.sleep(seconds)
        return True


def _passing(error: TakestreamError, repeatable: bool) -> bool:
    if isinstance(error, errors.TooManyRequests):
        return True  # refused before anything was done
    if isinstance(error, errors.ConnectionFailed | errors.TornAnswer):
        cause = error.__cause__
        return isinstance(cause, _LOST if repeatable else _NEVER_SENT)
    return repeatable and isinstance(error, errors.Unavailable)


def _unreachable(
    url: str, request: httpx.Request, error: httpx.HTTPError, repeatable: bool
) -> TakestreamError:
    why = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        why = f"no answer in time ({type(error).__name__})"
    more = ""
    if not repeatable and not isinstance(error, _NEVER_SENT):
        more = "; it may have been carried out all the same"
    return errors.ConnectionFailed(f"{request.method} {request.url.path} at {url}: {why}{more}")


def torn(response: httpx.Response, why: object) -> errors.TornAnswer:
    """The error for an answer that broke off."""
    return errors.TornAnswer(
        f"the answer to {_what(response)} broke off: {why}",
        status=response.status_code,
        request_id=response.headers.get("x-request-id"),
    )


def unexpected(response: httpx.Response, why: object) -> errors.UnexpectedAnswer:
    """The error for an answer that is not what this interface promises."""
    return errors.UnexpectedAnswer(
        f"the answer to {_what(response)} is not takestream's: {why}",
        status=response.status_code,
        request_id=response.headers.get("x-request-id"),
    )


def as_object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer that was read. Raises UnexpectedAnswer."""
    try:
        value = json.loads(response.content)
    except ValueError as error:
        kind = response.headers.get("content-type", "no type")
        raise unexpected(response, f"{kind} instead of JSON") from error
    if not isinstance(value, dict):
        raise unexpected(response, "no JSON object")
    return value


def of_response(response: httpx.Response) -> TakestreamError:
    """The error that an answer which was read stands for."""
    problem: Any = None
    if "json" in response.headers.get("content-type", ""):
        try:
            problem = json.loads(response.content)
        except ValueError:
            problem = None
    reason = f"{response.status_code} {response.reason_phrase}".strip()
    if not isinstance(problem, dict):
        problem = {}
        location = response.headers.get("location")
        if response.is_redirect and location:
            reason = f"moved to {location}; give that URL"
    request_id = response.headers.get("x-request-id")
    return of_problem(
        {"request_id": request_id, **problem},
        status=response.status_code,
        otherwise=f"{_what(response)} was answered by: {reason}",
        retry_after=_seconds(response.headers.get("retry-after")),
    )


def of_problem(
    problem: Mapping[str, Any], *, status: int, otherwise: str, retry_after: float | None = None
) -> TakestreamError:
    """The error that an RFC 9457 problem stands for; `otherwise` is said if it says nothing."""
    detail, listed = problem.get("detail"), problem.get("errors")
    if not isinstance(detail, str) or not detail.strip():
        title = problem.get("title")
        detail = f"{otherwise} ({title})" if isinstance(title, str) and title else otherwise
    request_id = problem.get("request_id")
    facts: dict[str, Any] = {
        "status": status,
        "request_id": request_id if isinstance(request_id, str) else None,
        "errors": tuple(map(str, listed)) if isinstance(listed, list) else (),
    }
    kind = _BY_STATUS.get(status)
    if kind is None:
        kind = errors.ServiceFault if status >= 500 else errors.InvalidRequest
        if status < 400:
            kind = errors.UnexpectedAnswer
    if kind in (errors.TooManyRequests, errors.Unavailable):
        facts["retry_after"] = retry_after
    return kind(detail, **facts)


def lines(response: httpx.Response) -> Iterator[bytes]:
    """The lines of an answer as they come, without their ends; a last one without its end too.

    Not httpx's own, which also break at U+2028 and the like, inside of JSON. Raises TornAnswer.
    """
    rest = bytearray()
    try:
        for piece in response.iter_bytes():
            rest += piece
            if len(rest) > LONGEST_LINE:
                raise unexpected(response, f"a line of more than {LONGEST_LINE} bytes")
            if b"\n" in piece:
                *whole, last = rest.split(b"\n")
                rest = bytearray(last)
                for line in whole:
                    yield bytes(line.removesuffix(b"\r"))
    except httpx.HTTPError as error:
        raise torn(response, str(error) or type(error).__name__) from error
    if rest:
        yield bytes(rest)


def _what(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url.copy_with(query=None)}"


def _seconds(text: str | None) -> float | None:
    """A Retry-After: seconds, or a date. None when it is neither."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"not a URL: {error}") from error
    if parsed.userinfo:
        raise ValueError("no user or password in the URL of a takestream service: use key=")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query:
        raise ValueError(f"{url!r} is no URL of a service, such as http://127.0.0.1:8000")
    return str(parsed).rstrip("/")


def _checked_key(key: str) -> str:
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("that is no API key: keys are printable ASCII without spaces")
    return key


def _version() -> str:
    try:
        return metadata.version("takestream")
    except metadata.PackageNotFoundError:
        return "checkout"
