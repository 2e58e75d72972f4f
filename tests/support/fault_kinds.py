"""Every kind of fault of a storage, as what a `fault_proxy` does to a request.

A kind is made for a bucket: some of them write into the server beside the proxy.
"""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.support import fault_proxy as faults
from tests.support.fault_proxy import Act, Exchange

READ, LIST, WRITE = "GET", "LIST", "PUT"


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: For reports of tests.
        of: Which requests it is about: `GET` (and HEAD) of objects, `PUT`, or `LIST`.
        make: The act, from a filesystem that reaches the server directly.
        passing: Whether a job outlives it when it meets a few requests only.
    """

    name: str
    of: str
    make: Callable[[Any], Act]
    passing: bool = True


def _plain(act: Act) -> Callable[[Any], Act]:
    return lambda direct: act


def _refused(status: int, code: str, **headers: str) -> Callable[[Any], Act]:
    return _plain(faults.refused(status, code, **headers))


def stalled_at(seconds: float, *, last: bool) -> Act:
    """The whole body but its last byte, or none of it, then nothing for so long."""

    def act(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        sent = body[:-1] if last else b""
        exchange.answer(status, headers | {"content-length": str(len(body))}, sent)
        time.sleep(seconds)
        exchange.hang_up()

    return act


def whole_object(exchange: Exchange) -> None:
    """The range is ignored: 200 with all of the object."""
    exchange.headers.pop("range", None)
    signed = "range" in exchange.headers.get("authorization", "")
    # A signed header cannot be left out; nobody signs a range here.
    assert not signed
    exchange.answer(*exchange.forward())


def shorter_range(exchange: Exchange) -> None:
    """A byte less than asked for, told truly."""
    status, headers, body = exchange.forward()
    given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("content-range", ""))
    if given is None or len(body) < 2:
        exchange.answer(status, headers, body)
        return
    told = f"bytes {given[1]}-{int(given[2]) - 1}/{given[3]}"
    changed = {"content-range": told, "content-length": str(len(body) - 1)}
    exchange.answer(status, headers | changed, body[:-1])


def moved(direct: Any) -> Callable[[bool], Act]:
    """Other bytes of the same object, one further; honest: and Content-Range says so."""

    def of(honest: bool) -> Act:
        def act(exchange: Exchange) -> None:
            data = direct.cat_file(_object(exchange))
            faults.moved_range(data, honest=honest)(exchange)

        return act

    return of


def overwritten(direct: Any, content: bytes) -> Act:
    """The object is another one from this request on."""

    def act(exchange: Exchange) -> None:
        direct.pipe_file(_object(exchange), content)
        exchange.answer(*exchange.forward())

    return act


def stored_instead(direct: Any, change: Callable[[bytes], bytes], *, tag: str) -> Act:
    """A PUT that stores other bytes and answers 200.

    tag: whether the answer's ETag is of what was `sent`, of what was `stored`, or there is `none`.
    """

    def act(exchange: Exchange) -> None:
        stored = change(exchange.body)
        direct.pipe_file(_object(exchange), stored)
        of = {"sent": exchange.body, "stored": stored}.get(tag)
        etag = {} if of is None else {"etag": f'"{hashlib.md5(of).hexdigest()}"'}
        exchange.answer(200, etag, b"")

    return act


def put_not_stored(*, tag: bool) -> Act:
    """A PUT that is answered with 200, with the right ETag or none, and not stored."""

    def act(exchange: Exchange) -> None:
        etag = {"etag": f'"{hashlib.md5(exchange.body).hexdigest()}"'} if tag else {}
        exchange.answer(200, etag, b"")

    return act


def cut_listing(how: str) -> Act:
    """A listing without its second half: `half XML`, `truncated` without a token, or `silent`."""

    def act(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        headers.pop("content-length", None)
        if how == "half XML":
            exchange.answer(status, headers, body[: len(body) // 2])
            return
        entries = re.findall(rb"<Contents>.*?</Contents>", body, re.DOTALL)
        for entry in entries[len(entries) // 2 :]:
            body = body.replace(entry, b"")
        if how == "truncated":
            body = body.replace(
                b"<IsTruncated>false</IsTruncated>", b"<IsTruncated>true</IsTruncated>"
            )
        exchange.answer(status, headers, body)

    return act


def _object(exchange: Exchange) -> str:
    return unquote(exchange.path.partition("?")[0]).lstrip("/")


def _inverted(data: bytes) -> bytes:
    damaged = bytearray(data)
    damaged[::7] = bytes(byte ^ 0xFF for byte in damaged[::7])
    return bytes(damaged)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


_EVERYWHERE = [
    ("500", _refused(500, "InternalError")),
    ("503", _refused(503, "SlowDown")),
    ("503 with Retry-After", _refused(503, "SlowDown", Retry_After="1")),
    ("reset", _plain(faults.reset)),
    ("slow", _plain(faults.slow(0.1))),
    ("unanswered", _plain(faults.unanswered(8))),
]
_FOR_GOOD = [
    ("ExpiredToken", _refused(400, "ExpiredToken")),
    ("AccessDenied", _refused(403, "AccessDenied")),
]

KINDS = [
    *(Kind(name, of, make) for name, make in _EVERYWHERE for of in (READ, WRITE, LIST)),
    *(Kind(name, of, make, passing=False) for name, make in _FOR_GOOD for of in (READ, WRITE)),
    Kind("404", READ, _refused(404, "NoSuchKey"), passing=False),
    Kind("short body", READ, _plain(faults.short_body)),
    Kind("stalled body", READ, _plain(faults.stalled(8))),
    Kind("stalled first byte", READ, _plain(stalled_at(8, last=False))),
    Kind("stalled last byte", READ, _plain(stalled_at(8, last=True))),
    Kind("whole object for a range", READ, _plain(whole_object)),
    Kind("a byte less", READ, _plain(shorter_range)),
    Kind("moved range", READ, lambda direct: moved(direct)(False), passing=False),
    Kind("moved range, told", READ, lambda direct: moved(direct)(True)),
    Kind("flipped bytes", READ, _plain(faults.flipped), passing=False),
    Kind("changed ETag", READ, _plain(faults.other_etag), passing=False),
    Kind("lost answer", WRITE, _plain(faults.lost_answer)),
    Kind("lost PUT", WRITE, _plain(put_not_stored(tag=False)), passing=False),
    Kind("lost PUT, right ETag", WRITE, _plain(put_not_stored(tag=True)), passing=False),
    Kind("torn PUT", WRITE, lambda direct: stored_instead(direct, _half, tag="none"), False),
    Kind("torn PUT, its ETag", WRITE, lambda direct: stored_instead(direct, _half, tag="stored"),
         False),
    Kind("lying PUT", WRITE, lambda direct: stored_instead(direct, _inverted, tag="stored"),
         False),
    Kind("412", WRITE, _refused(412, "PreconditionFailed"), passing=False),
    Kind("half a listing", LIST, _plain(cut_listing("silent")), passing=False),
    Kind("half XML", LIST, _plain(cut_listing("half XML"))),
    Kind("truncated without a token", LIST, _plain(cut_listing("truncated"))),
]  # fmt: skip
