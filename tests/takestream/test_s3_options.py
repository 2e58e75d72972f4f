"""What laboratories need of S3, as it goes over the wire: who pays, encryption, ACL."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from configs.load import SettingsError, load_job
from takestream.errors import InvalidStorage
from takestream.storage import S3Options
from workers.media.source import Source
from workers.store.objects import Objects

DATA, BODY = b"0123456789", b"{}"


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers as S3 does for one object, and keeps what it was asked."""

    seen: list[tuple[str, str, dict[str, str]]]
    written: dict[str, bytes]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(200, DATA)

    def do_GET(self) -> None:
        written = self.written.get(self.path.partition("?")[0])
        self._answer(*((206, DATA[:4]) if written is None else (200, written)))

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # Small bodies come in chunks with their own signatures.
        self.written[self.path.partition("?")[0]] = BODY if BODY in data else data
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.command, self.path.partition("?")[0], headers))
        self.send_response(status)
        self.send_header("ETag", '"abc"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Recorder]]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")

    class Here(Recorder):
        seen: list[tuple[str, str, dict[str, str]]] = []  # noqa: RUF012 - of this test alone
        written: dict[str, bytes] = {}  # noqa: RUF012

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", Here
    server.shutdown()


def test_readers_pay_and_writers_encrypt(s3: tuple[str, type[Recorder]]) -> None:
    endpoint, recorder = s3
    source = Source("s3://videos/a.mp4", S3Options(endpoint_url=endpoint, requester_pays=True))
    assert source.identity().size == len(DATA)
    assert source.read(0, 4) == DATA[:4]
    asked = {method: headers for method, _, headers in recorder.seen}
    assert asked["HEAD"]["x-amz-request-payer"] == "requester"
    assert asked["GET"]["x-amz-request-payer"] == "requester"
    assert "x-amz-acl" not in asked["GET"]

    key, acl = "arn:aws:kms:us-east-1:1:key/k", "bucket-owner-full-control"
    options = S3Options(endpoint_url=endpoint, sse="aws:kms", kms_key=key, acl=acl, patience=0)
    Objects("s3://mine/features", options).put("zarr.json", BODY)
    puts = [headers for method, _, headers in recorder.seen if method == "PUT"]
    assert puts
    for headers in puts:
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == key
        assert headers["x-amz-acl"] == acl
        assert "x-amz-request-payer" not in headers


def test_data_set_and_output_are_reached_apart() -> None:
    paid = load_job(None, {"dataset": "s3://d", "output": "s3://o", "s3": {"requester_pays": True}})
    assert (paid.s3.requester_pays, paid.reach_output.requester_pays) == (True, False)
    output = {"sse": "aws:kms", "acl": "bucket-owner-full-control"}
    apart = load_job(None, {"dataset": "s3://d", "output": "s3://o", "output_s3": output})
    assert (apart.s3.sse, apart.reach_output.sse) == (None, "aws:kms")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sse": "des"}, "AES256 or aws:kms"),
        ({"kms_key": "k"}, "needs sse"),
        ({"anon": True, "requester_pays": True}, "nobody to pay"),
    ],
)
def test_what_makes_no_sense_is_told(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidStorage, match=words):
        S3Options(**settings)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=words):
        load_job(None, {"dataset": "s3://d", "output": "s3://o", "s3": settings})
