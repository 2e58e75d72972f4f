"""Answers that are errors (RFC 9457), and answers that are not the service's."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from takestream import errors
from takestream.errors import TakestreamError
from takestream.protocol import REQUEST_ID_HEADER, RETRY_AFTER_HEADER

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


def torn(response: httpx.Response, why: object) -> errors.TornAnswer:
    """The error for an answer that broke off."""
    return errors.TornAnswer(
        f"the answer to {_what(response)} broke off: {why}",
        status=response.status_code,
        request_id=response.headers.get(REQUEST_ID_HEADER),
    )


def unexpected(response: httpx.Response, why: object) -> errors.UnexpectedAnswer:
    """The error for an answer that is not what this interface promises."""
    return errors.UnexpectedAnswer(
        f"the answer to {_what(response)} is not takestream's: {why}",
        status=response.status_code,
        request_id=response.headers.get(REQUEST_ID_HEADER),
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
        if response.status_code == 404:
            # The service's own have a body that says so.
            return errors.Unavailable(
                f"{_what(response)} was answered by: {reason}, but not by takestream: does the"
                " service start just now, or is it at another URL?",
                status=404,
            )
    request_id = response.headers.get(REQUEST_ID_HEADER)
    return of_problem(
        {"request_id": request_id, **problem},
        status=response.status_code,
        otherwise=f"{_what(response)} was answered by: {reason}",
        retry_after=_seconds(response.headers.get(RETRY_AFTER_HEADER)),
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
