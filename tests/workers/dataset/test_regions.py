"""Buckets in other regions: asked again when they did not answer, named when nobody says where."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from service.demo.s3server import ObjectStore
from takestream.errors import ErrorKind, StorageDenied
from takestream.storage import S3Options, open_filesystem
from tests.support.fault_proxy import Act, FaultProxy, fault_proxy, in_region, refused, sent_on
from workers.dataset import regions
from workers.dataset.regions import region_of
from workers.dataset.release import measured
from workers.dataset.take import Stream
from workers.media.source import Source


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def proxy(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    with fault_proxy(server.endpoint_url) as running:
        yield running


def test_a_bucket_that_did_not_answer_is_asked_again(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = S3Options(endpoint_url=proxy.endpoint_url)
    away = proxy.fault(refused(503, "SlowDown"), path="^/later")
    assert [region_of("later", s3) for _ in range(3)] == [None] * 3
    asked = away.met
    assert asked == len([path for _, path in proxy.seen if path == "/later"])
    proxy.heal()
    proxy.fault(in_region("eu-west-3"), path="^/later")
    assert region_of("later", s3) is None  # not with every object
    assert not proxy.seen
    regions._silent.clear()
    assert region_of("later", s3) == "eu-west-3"


WRONG = (
    "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is"
    " malformed; the region 'us-east-1' is wrong</Message></Error>"
)
ELSEWHERE: dict[str, Act] = {
    "301": refused(301, "PermanentRedirect"),
    "307": refused(307, "TemporaryRedirect", location="http://127.0.0.1:9/lost/a/b.mp4"),
    "400": lambda exchange: exchange.answer(400, {"content-type": "text/xml"}, WRONG.encode()),
}


@pytest.mark.parametrize("how", [*ELSEWHERE])
def test_a_bucket_elsewhere_that_says_not_where_refuses_and_no_keys_have_ended(
    proxy: FaultProxy, how: str
) -> None:
    proxy.fault(ELSEWHERE[how], path="^/lost")
    s3 = S3Options(endpoint_url=proxy.endpoint_url, patience=1)
    with pytest.raises(StorageDenied) as found:
        Source("s3://lost/a/b.mp4", s3).read(0, 10)
    assert found.value.kind is ErrorKind.DENIED
    assert "the bucket is in another region; name that as `region`" in str(found.value)


def test_a_redirection_with_an_address_is_signed_again(proxy: FaultProxy) -> None:
    """Whoever follows it as a browser does is refused for its signature, as with wrong keys."""
    s3 = S3Options(endpoint_url=proxy.endpoint_url)
    fs, _ = open_filesystem("s3://moved", s3)
    fs.pipe_file("moved/a.mp4", b"0123456789")
    proxy.fault(sent_on("http://127.0.0.1:9/moved/a.mp4", "eu-west-3"), path="^/moved")
    assert region_of("moved", s3) == "eu-west-3"
    for region in (None, "eu-west-3"):
        reached = replace(s3, region=region)
        assert Source("s3://moved/a.mp4", reached).read(2, 5) == b"234"


def test_a_silent_bucket_costs_the_sizes_of_its_own_objects(
    proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    s3 = S3Options(endpoint_url=proxy.endpoint_url, patience=0)
    fs, _ = open_filesystem("s3://near", s3)
    fs.pipe_file("near/a.mp4", b"0123")
    away = proxy.fault(refused(503, "SlowDown"), path="^/away")
    uris = ["s3://near/a.mp4", *(f"s3://away/{n}.mp4" for n in range(200))]
    streams = [Stream(f"cam{n}_0", f"cam{n}", "0", uri, False) for n, uri in enumerate(uris)]
    sizes = dict(measured(streams, lambda uri: s3))
    assert sizes == dict.fromkeys(uris) | {"s3://near/a.mp4": 4}
    assert caplog.text.count("s3://away does not answer, so sizes are not known there") == 1
    assert away.met < 100
