"""Requests to the service: the key, retries, and answers that are errors."""

import json
import logging
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from takestream import errors
from takestream.client.problems import of_response, torn, unexpected
from takestream.client.proxies import proxy_of
from takestream.errors import TakestreamError
from takestream.protocol import JSON
from takestream.version import own_version

log = logging.getLogger("takestream.client")
TRIES = 5
# Seconds of silence that are long enough for a connection, and for what is only looked up.
CONNECT = 10.0
QUICK = 60.0
LONGEST_LINE = 256 * 2**20

# The request cannot have reached anybody.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# It may have, but the connection was lost. Silence (ReadTimeout) is another matter: what took too
# long once takes as long again.
_LOST = (*_NEVER_SENT, httpx.NetworkError, httpx.RemoteProtocolError)


class Transport:
    """HTTP to one service. For several threads; goes through fork, and through pickle with its key.

    url: where it is, with the path before `/v1` if it has one. key: sent with each request and
    shown nowhere. timeout: seconds of silence after which a request is given up.

    Raises ValueError for a URL or a key that cannot be one, and for a proxy that cannot be used.
    """

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        self.url, self.timeout = _checked_url(url), timeout
        self._key = None if key is None else _checked_key(key)
        self._pid, self._http = os.getpid(), self._connected()

    def __getstate__(self) -> tuple[str, str | None, float]:
        return self.url, self._key, self.timeout

    def __setstate__(self, state: tuple[str, str | None, float]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def close(self) -> None:
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = JSON,
        repeatable: bool = True,
        slow: bool = False,
    ) -> httpx.Response:
        """A whole answer, its status 2xx; what fails for a moment is tried again.

        repeatable: whether asking twice does no harm. If not, only what was surely not carried out
        is tried again. slow: something may have to be computed first. Raises TakestreamError, and
        ValueError for a body that is not JSON.
        """
        silence = self.timeout if slow else min(self.timeout, QUICK)
        waits = _Waits(silence)
        request = self._request(method, path, params, body, accept, {}, silence)
        while True:
            try:
                return self._whole(request, repeatable)
            except TakestreamError as error:
                if not _passing(error, repeatable) or not waits.wait(error):
                    raise

    def look(self, path: str, silence: float) -> httpx.Response:
        """A whole answer to a GET that is tried once, with so many seconds of silence at most."""
        silence = min(silence, self.timeout, QUICK)
        request = self._request("GET", path, None, None, JSON, {}, silence)
        return self._whole(request, True)

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
        silence = silence or self.timeout
        waits = _Waits(silence)
        request = self._request("GET", path, params, None, accept, headers or {}, silence)
        while True:
            sending = self._send(request, True)
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

    def _connected(self) -> httpx.Client:
        headers = {"User-Agent": f"takestream/{own_version()}"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            # With a transport of our own httpx does not look for proxies itself.
            transport = httpx.HTTPTransport(proxy=proxy_of(self.url))
            return httpx.Client(headers=headers, transport=transport)
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise ValueError(
                f"the environment's proxy (ALL_PROXY, HTTPS_PROXY, HTTP_PROXY) cannot be used: "
                f"{error} NO_PROXY={httpx.URL(self.url).host} goes without it"
            ) from error

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        accept: str,
        headers: Mapping[str, str],
        silence: float,
    ) -> httpx.Request:
        content = None
        sent = {"Accept": accept, **headers}
        if body is not None:
            try:
                content = json.dumps(body, allow_nan=False, default=plain).encode()
            except (TypeError, ValueError) as error:
                raise ValueError(f"what is asked cannot be sent as JSON: {error}") from error
            sent["Content-Type"] = JSON
        if self._pid != os.getpid():
            # Forked: on the parent's connections our answers and its own would be mixed up. They
            # are not closed either, which would say goodbye in its name.
            self._pid, self._http = os.getpid(), self._connected()
        return self._http.build_request(
            method,
            self.url + path,
            params=params,
            content=content,
            headers=sent,
            timeout=httpx.Timeout(silence, connect=min(silence, CONNECT)),
        )

    def _whole(self, request: httpx.Request, repeatable: bool) -> httpx.Response:
        with self._send(request, repeatable) as response:
            self._read(response)
            return response

    @contextmanager
    def _send(self, request: httpx.Request, repeatable: bool) -> Iterator[httpx.Response]:
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
    """The waits between the tries of one call: so many seconds in all."""

    def __init__(self, seconds: float) -> None:
        self._tries, self._left = 1, seconds

    def wait(self, error: TakestreamError) -> bool:
        """Wait as long as `error` asks or as is usual; False when it is time to give up."""
        asked = getattr(error, "retry_after", None)
        # A key that is busy is refused as often as it asks, until its other requests are through.
        busy = asked is not None and isinstance(error, errors.TooManyRequests)
        usual = 0.25 if busy else 0.25 * 2 ** (self._tries - 1)
        # Some more than asked, by chance, so that those who were refused together part.
        seconds = max(asked or 0.0, usual) * random.uniform(1, 1.5)
        if seconds > self._left or (self._tries >= TRIES and not busy):
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


def plain(value: Any) -> Any:
    """A single number of numpy, xarray or torch as Python's own. Raises TypeError, ValueError."""
    if not hasattr(value, "item"):
        raise TypeError(f"{type(value).__name__} {value!r} is not JSON")
    return value.item()


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
