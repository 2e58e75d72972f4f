"""What strangers send to a service: each by name, with the statuses that may answer it."""

import gzip
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

TAKE = "alpha_balance01_1"
FEATURES = f"/v1/takes/{TAKE}/features"
SECONDS = 40.0
REFUSED = frozenset(range(400, 500)) | {503, 505}
CLOSED = 0
"""In place of a status: the connection was closed without an answer."""


@dataclass(frozen=True)
class Attack:
    """Bytes on a connection of their own.

    Attributes:
        name: What it is.
        sent: All of it.
        allowed: Statuses that may come; `CLOSED` for none.
    """

    name: str
    sent: bytes
    allowed: frozenset[int] = field(default=REFUSED | {CLOSED})


def answered(url: str, attack: Attack) -> tuple[int, bytes]:
    """The status and all bytes that come back, until the connection is closed or silent.

    Raises:
        TimeoutError: Nothing came for `SECONDS`.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    got = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=SECONDS) as connection:
        try:
            connection.sendall(attack.sent)
            while len(got) < 2**20:
                part = connection.recv(65536)
                if not part:
                    break
                got += part
                if b"\r\n\r\n" in got:
                    connection.settimeout(0.5)  # the rest of it
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            if not got:
                raise
    line = got.split(b"\r\n", 1)[0].split(b" ")
    return (int(line[1]) if len(line) > 1 and line[0].startswith(b"HTTP/") else CLOSED), got


def head(method: str = "GET", path: str = "/healthz", *lines: str, version: str = "1.1") -> bytes:
    """A request's head."""
    return "\r\n".join(
        [f"{method} {path} HTTP/{version}", "Host: 127.0.0.1", "Connection: close", *lines, "", ""]
    ).encode("utf-8", "surrogateescape")


def with_body(path: str, body: bytes, key: str | None, *lines: str, method: str = "POST") -> bytes:
    """A request with a JSON body, and a key if any."""
    known = [f"Authorization: Bearer {key}"] if key else []
    sized = [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    return head(method, path, *known, *sized, *lines) + body


def attacks(key: str, weak: str) -> Iterator[Attack]:
    """All of them.

    Args:
        key: That may do everything.
        weak: That may only read.
    """
    ok = frozenset({200})
    mine = f"Authorization: Bearer {key}"
    yield from _heads()
    yield from _framing(key)
    yield from _bodies(key)
    yield from _fields(key)
    for name, lines in {
        "no key": (),
        "another scheme": ("Authorization: Basic dTpw",),
        "a wrong key": ("Authorization: Bearer ts_wrong",),
        "a key of a megabyte": ("Authorization: Bearer " + "k" * 60_000,),
        "a key with an end of line": ("Authorization: Bearer a\x0bb",),
        "a key that is no ASCII": ("Authorization: Bearer ké",),
        "two keys": ("Authorization: Bearer wrong", mine),
        "a key in a cookie": (f"Cookie: key={key}",),
        "an empty key": ("Authorization: Bearer ",),
    }.items():
        allowed = frozenset({400, 401, 403, 431, CLOSED})
        if name == "two keys":
            allowed |= ok
        yield Attack(name, head("GET", FEATURES, *lines), allowed)
    yield Attack("a key in the query", head("GET", f"{FEATURES}?key={key}"), frozenset({401, 422}))
    scope = f"Authorization: Bearer {weak}"
    for name, path in {"compute": "/v1/features", "jobs": "/v1/jobs"}.items():
        told = frozenset({403, 422})
        yield Attack(f"a reading key that {name}", with_body(path, b"{}", weak), told)
    yield Attack(
        "a reading key that stops a job",
        head("DELETE", "/v1/jobs/20261124-000000-abcdef", scope),
        frozenset({403}),
    )


def _heads() -> Iterator[Attack]:
    yield Attack("an endless header", head("GET", "/", "A: " + "a" * 2_000_000))
    yield Attack("an endless line", b"GET /" + b"a" * 2_000_000)
    yield Attack("a line without end", b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 200_000)
    yield Attack("ten thousand headers", head("GET", "/", *(f"A{n}: b" for n in range(10_000))))
    yield Attack("a folded header", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\r\n c\r\n\r\n")
    yield Attack("a header without a name", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n: b\r\n\r\n")
    yield Attack("a space before the colon", b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n")
    yield Attack("NUL in a header", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\0c\r\n\r\n")
    # The page is everybody's.
    yield Attack("no version", b"GET /\r\n\r\n", REFUSED | {200, CLOSED})
    yield Attack("version 9.9", head(version="9.9"))
    yield Attack("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(200) + b"\r\n\r\n")
    yield Attack("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))
    yield Attack("noise", bytes(range(256)) * 40 + b"\r\n\r\n")
    yield Attack("ends of lines alone", b"\n" * 5000 + b"x\r\n\r\n")
    yield Attack("no host", b"GET /v1/takes HTTP/1.1\r\nConnection: close\r\n\r\n")
    yield Attack("two hosts", head("GET", "/v1/takes", "Host: evil.example"))
    for method in ("TRACE", "CONNECT", "PUT", "PATCH", "FOO", "A" * 5000):
        path = "x:1" if method == "CONNECT" else "/v1/takes"
        yield Attack(f"the method {method[:9]}", head(method, path))
    yield Attack("a proxy's form", head("GET", "http://169.254.169.254/latest/meta-data"))
    yield Attack("a path of stars", head("OPTIONS", "*"))
    yield Attack(
        "another method in a header", head("GET", "/v1/jobs", "X-HTTP-Method-Override: DELETE")
    )
    yield Attack(
        "an upgrade",
        head("GET", "/v1/takes", "Upgrade: websocket", "Sec-WebSocket-Key: eA==",
             "Sec-WebSocket-Version: 13"),
    )  # fmt: skip


def _framing(key: str) -> Iterator[Attack]:
    mine = f"Authorization: Bearer {key}"
    start = head("POST", "/v1/features", mine, "Content-Type: application/json").removesuffix(
        b"\r\n"
    )
    inner = b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n"
    for name, lines in {
        "both lengths": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "two lengths": b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + inner,
        "a length below zero": b"Content-Length: -1\r\n\r\n{}",
        "a length that is a word": b"Content-Length: two\r\n\r\n{}",
        "a length of 20 digits": b"Content-Length: 99999999999999999999\r\n\r\n{}",
        "a signed length": b"Content-Length: +2\r\n\r\n{}",
        "chunks of no size": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
        "a chunk below zero": b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        "a huge chunk": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
        "an endless extension": b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 300_000,
        "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    }.items():
        yield Attack(name, start + lines)


def _bodies(key: str) -> Iterator[Attack]:
    big = b'{"take": "' + b"a" * (9 * 2**20) + b'"}'
    yield Attack("a large body without a key", with_body("/v1/features", big, None))
    yield Attack("a large body", with_body("/v1/features", big, key))
    bomb = gzip.compress(b" " * 50_000_000)
    yield Attack(
        "a compressed bomb", with_body("/v1/features", bomb, key, "Content-Encoding: gzip")
    )
    for name, body in {
        "deep lists": b"[" * 100_000 + b"]" * 100_000,
        "deep objects": b'{"a":' * 100_000,
        "a number of a million digits": b'{"top": ' + b"9" * 1_000_000 + b"}",
        "NaN": b'{"take": "x", "moment": {"stream": "a", "time": NaN}}',
        "no JSON": b"\xff\xfe\x00",
        "a list": b"[]",
        "half a character": rb'{"take": "\ud800"}',
        "NUL": rb'{"take": "a\u0000b"}',
        "ends of lines": rb'{"take": "a\r\nX: y"}',
        "names of objects": b'{"__proto__": 1, "__class__": 2, "constructor": 3}',
        "many keys": json.dumps({f"k{n}": n for n in range(50_000)}).encode(),
    }.items():
        for path in ("/v1/search", "/v1/jobs"):
            yield Attack(f"{name} to {path}", with_body(path, body, key))
    jobs: dict[str, object] = {
        "200,000 views": {"select": {"views": ["ego"] * 200_000}},
        "100,000 uids": {"select": {"uids": [f"u{n}" for n in range(100_000)]}},
        "a place elsewhere": {"output": "/etc", "dataset": "s3://other"},
        "an endpoint": {"s3": {"endpoint_url": "http://169.254.169.254"}},
        "weights elsewhere": {"encoder": {"preset": "efficientnet_lite", "weights": "/etc/passwd"}},
        "a code to run": {"entrypoint": "sh", "runtime_env": {"pip": ["x"]}},
        "a window of a billion": {"grid": {"window": 10**9, "stride": 10**9}},
    }
    for name, job in jobs.items():
        body = json.dumps(job).encode()
        # Views are folded: one asked for often is one asked for.
        more = frozenset({201}) if "views" in name else frozenset[int]()
        yield Attack(name, with_body("/v1/jobs", body, key), REFUSED | {CLOSED} | more)


def _fields(key: str) -> Iterator[Attack]:
    mine = f"Authorization: Bearer {key}"
    for name, path in {
        "a path upwards": "/v1/takes/..%2f..%2f..%2fetc%2fpasswd/features",
        "a path upwards twice encoded": "/v1/takes/..%252f..%252fetc/features",
        "an overlong path upwards": "/v1/takes/%c0%ae%c0%ae%c0%af/features",
        "files upwards": "/static/../../../../etc/passwd",
        "files upwards encoded": "/static/%2e%2e/%2e%2e/etc/passwd",
        "a video upwards": f"/v1/takes/{TAKE}/streams/..%2f..%2ftakes.json/video",
        "NUL in a path": "/v1/takes/a%00b",
        "an end of line in a path": "/v1/takes/a%0d%0aX:y",
        "a name of 60,000 letters": "/v1/takes/" + "a" * 60_000,
        "a take of patterns": "/v1/takes/" + "*" * 200 + "/features",
        "streams of patterns": f"{FEATURES}?streams=" + "%2A" * 3000 + "x",
        "a start beyond all": f"{FEATURES}?start=1e308",
        "a start that is no number": f"{FEATURES}?start=nan",
        "a rate of zero": f"{FEATURES}?fps=0",
        "a rate beyond all": f"{FEATURES}?fps=1e300",
        "an encoder upwards": f"{FEATURES}?encoder=..%2f..%2fetc-0123456789",
        "a pattern that takes long": "/v1/takes?q=" + "(a%2B)%2B" * 500,
        "a limit beyond all": "/v1/takes?limit=99999999999999999999",
        "an offset below zero": "/v1/takes?offset=-1",
        "a job's id upwards": "/v1/jobs/..%2f..%2fx",
        "a job's id of 60,000 digits": "/v1/jobs/" + "1" * 60_000,
        "a parameter ten thousand times": f"{FEATURES}?" + "&".join(["streams=x"] * 5_000),
    }.items():
        found = frozenset({200}) if name == "a pattern that takes long" else frozenset[int]()
        yield Attack(name, head("GET", path, mine), REFUSED | {CLOSED} | found)
    for name, line in {
        "a range below zero": "Range: bytes=-0",
        "ranges without end": "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(5000)),
        "a range backwards": "Range: bytes=9-1",
    }.items():
        video = f"/v1/takes/{TAKE}/streams/cam01_0/video"
        yield Attack(name, head("GET", video, mine, line), REFUSED | {200, 206, CLOSED})
