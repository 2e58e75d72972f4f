"""Reads that are short, late, refused or gone: retried, translated, and in order."""

import errno
import itertools
import random
import threading
import time
from collections import deque
from typing import ClassVar

import botocore.exceptions
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3fs.errors import translate_boto_error

from takestream import retry
from takestream.errors import CredentialsError, StorageDenied, StorageUnavailable
from takestream.storage import PATIENCE, S3Options
from workers.media.counters import Counters
from workers.media.source import IN_FLIGHT, ObjectIdentity, Source

DATA = random.Random(0).randbytes(100_000)


class Faulty(MemoryFileSystem):
    """A memory file system whose calls run through `plan` first."""

    protocol = "faulty"
    # As in the parent, shared by all instances.
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    plan: ClassVar[deque] = deque()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("faulty://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        data = super().cat_file(path, start=start, end=end)
        fault = Faulty.plan.popleft() if Faulty.plan else None
        if isinstance(fault, BaseException):
            raise fault
        return fault(data) if fault else data

    def info(self, path, **kwargs):
        if Faulty.plan and getattr(Faulty.plan[0], "of_head", False):
            raise Faulty.plan.popleft()
        return super().info(path, **kwargs)


@pytest.fixture
def delays(monkeypatch):
    """What was slept, instead of sleeping; the clock goes on by as much."""
    slept = []
    monkeypatch.setattr(retry, "sleep", slept.append)
    monkeypatch.setattr(retry, "monotonic", lambda: sum(slept))
    return slept


@pytest.fixture
def faulty():
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    Faulty.plan.clear()
    Faulty.store.clear()
    fsspec.filesystem("faulty").pipe("/d/a b.mp4", DATA)

    def make(*plan):
        Faulty.plan.extend(plan)
        return Source("faulty://d/a b.mp4")

    return make


def s3_error(code, message="", status=400, operation="GetObject"):
    """What s3fs raises when S3 answers with this code."""
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return translate_boto_error(botocore.exceptions.ClientError(response, operation))


def of_head(error):
    error.of_head = True
    return error


def test_a_read_is_exactly_the_bytes_asked_for(faulty):
    source = faulty()
    assert source.read(10, 25) == DATA[10:25]
    assert source.read(0, len(DATA)) == DATA
    assert isinstance(source.read(0, 1), bytes)
    counts = source.counters.snapshot()
    assert counts.pop("read_seconds") > 0
    assert counts == {"requests": 3, "bytes_read": 15 + len(DATA) + 1}


def test_identity_is_size_and_version(faulty):
    identity = faulty().identity()
    assert identity.size == len(DATA)
    assert identity == faulty().identity()
    fsspec.filesystem("faulty").pipe("/d/a b.mp4", DATA)
    assert faulty().identity() != identity, "the same bytes written again are another version"
    assert isinstance(identity, ObjectIdentity)


@pytest.mark.parametrize(
    "fault",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data + b"x",
        TimeoutError(),
        ConnectionResetError("reset by peer"),
        OSError(errno.EREMOTEIO, "We encountered an internal error"),
        s3_error("SlowDown", "Please reduce your request rate.", 503),
        s3_error("InternalError", "", 500),
        RuntimeError("anything that a driver may raise"),
    ],
)
def test_a_fault_is_retried(faulty, delays, fault):
    source = faulty(fault, fault)
    assert source.read(10, 25) == DATA[10:25]
    assert source.counters.snapshot()["retries"] == 2
    assert len(delays) == 2


def test_faults_without_end_are_given_up(faulty, delays):
    source = faulty(*[TimeoutError("too slow")] * 100)
    with pytest.raises(StorageUnavailable) as caught:
        source.read(0, 10)
    assert (
        str(caught.value) == "cannot read faulty://d/a b.mp4: the storage did not answer (too slow)"
    )
    tries = source.counters.snapshot()["requests"]
    assert 5 < tries < 20
    assert len(Faulty.plan) == 100 - tries
    assert 30 < sum(delays) < PATIENCE


def test_a_short_object_is_not_read_for_ever(faulty, delays):
    with pytest.raises(StorageUnavailable, match="5 bytes came back of 10 asked for"):
        faulty().read(len(DATA) - 5, len(DATA) + 5)


def test_waits_grow_and_differ(faulty, delays):
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            faulty(*[TimeoutError()] * 100).read(0, 1)
    first, second = delays[:4], delays[-4:]
    assert all(later > earlier for earlier, later in itertools.pairwise(first))
    assert first != second, "workers that failed together must not come back together"


def test_a_storage_that_asks_to_wait_is_given_the_time(faulty, delays):
    slow_down = s3_error("SlowDown", "Please reduce your request rate.", 503)
    slow_down.__cause__.response["ResponseMetadata"]["HTTPHeaders"] = {"retry-after": "17"}
    faulty(slow_down).read(0, 10)
    assert delays == [17]


def test_patience_is_a_setting(faulty, delays):
    Faulty.plan.extend([TimeoutError()] * 100)
    hasty = Source("faulty://d/a b.mp4", S3Options(patience=2))
    with pytest.raises(StorageUnavailable):
        hasty.read(0, 1)
    assert sum(delays) < 2
    Faulty.plan.clear()
    Faulty.plan.extend([TimeoutError()] * 100)
    with pytest.raises(StorageUnavailable):
        Source("faulty://d/a b.mp4", S3Options(patience=0)).read(0, 1)
    assert len(Faulty.plan) == 99


def test_heads_are_retried_too(faulty, delays):
    assert faulty(of_head(TimeoutError())).identity().size == len(DATA)
    assert len(delays) == 1


# What S3 says


KEY_TROUBLE = {
    "ExpiredToken": "The provided token has expired.",
    "InvalidToken": "The provided token is malformed or otherwise invalid.",
    "TokenRefreshRequired": "The provided token must be refreshed.",
    "InvalidAccessKeyId": "The AWS Access Key Id you provided does not exist in our records.",
    "SignatureDoesNotMatch": "The request signature we calculated does not match yours.",
    "RequestExpired": "Request has expired.",
}


@pytest.mark.parametrize("code", KEY_TROUBLE)
def test_expired_or_wrong_keys_are_named_in_the_data_sets_terms(faulty, delays, code):
    with pytest.raises(CredentialsError) as caught:
        faulty(s3_error(code, KEY_TROUBLE[code], 403)).read(0, 10)
    assert "faulty://d/a b.mp4" in str(caught.value)
    assert "Ego-Exo4D keys live 14 days: renew them, then run the same command again" in str(
        caught.value
    )
    assert delays == []


# S3 answers a HEAD without a body: 403 for a wrong key, 400 for an expired token.
@pytest.mark.parametrize(("code", "words"), [("403", "Forbidden"), ("400", "Bad Request")])
def test_a_head_refused_without_a_word_is_asked_again_as_a_get(faulty, delays, code, words):
    expired = s3_error("ExpiredToken", "The provided token has expired.")
    with pytest.raises(CredentialsError, match="token has expired"):
        faulty(of_head(s3_error(code, words)), expired).identity()
    with pytest.raises(StorageDenied, match=r"Access Denied") as caught:
        faulty(of_head(s3_error(code, words)), s3_error("AccessDenied", "Access Denied")).identity()
    assert type(caught.value) is StorageDenied
    assert delays == []


def test_a_head_may_be_refused_where_a_get_is_not(faulty, delays):
    with pytest.raises(StorageDenied, match=r"access denied .Forbidden"):
        faulty(of_head(s3_error("403", "Forbidden"))).identity()


@pytest.mark.parametrize(
    "error", [s3_error("AccessDenied", "Access Denied", 403), PermissionError("/credentials/a")]
)
def test_a_refusal_is_no_matter_of_the_keys(faulty, delays, error):
    with pytest.raises(StorageDenied, match="access denied") as caught:
        faulty(error).read(0, 10)
    assert type(caught.value) is StorageDenied
    assert delays == []


@pytest.mark.parametrize(
    "name", ["NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"]
)
def test_no_keys_at_all(faulty, delays, name):
    missing = {
        "NoCredentialsError": {},
        "PartialCredentialsError": {"provider": "env", "cred_var": "AWS_SECRET_ACCESS_KEY"},
        "ProfileNotFound": {"profile": "egoexo"},
    }[name]
    with pytest.raises(CredentialsError, match="set a profile or AWS keys"):
        faulty(getattr(botocore.exceptions, name)(**missing)).read(0, 10)
    assert delays == []


@pytest.mark.parametrize(
    "error", [s3_error("NoSuchKey"), s3_error("404"), s3_error("NoSuchBucket")]
)
def test_an_absent_object(faulty, delays, error):
    with pytest.raises(FileNotFoundError):
        faulty(error).read(0, 10)
    with pytest.raises(FileNotFoundError):
        Source("faulty://d/other.mp4").identity()
    with pytest.raises(FileNotFoundError):
        Source("faulty://d/other.mp4").read(0, 10)
    assert delays == []


def test_a_folder_is_no_object(faulty, tmp_path):
    with pytest.raises(FileNotFoundError):
        Source("faulty://d").identity()
    with pytest.raises(FileNotFoundError):
        Source(str(tmp_path)).read(0, 1)


def test_a_bug_is_not_an_outage(faulty, delays):
    with pytest.raises(TypeError):
        faulty(TypeError("a bug")).read(0, 10)
    assert delays == []


def test_long_answers_are_cut_to_a_line(faulty, delays):
    with pytest.raises(StorageDenied) as caught:
        faulty(PermissionError("no\n" * 500)).read(0, 10)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_local_files(folder):
    path = folder / "A B.mp4"
    path.write_bytes(DATA)
    source = Source(str(path))
    assert source.read(5, 50) == DATA[5:50]
    before = source.identity()
    assert (before.size, before.etag != "") == (len(DATA), True)
    path.write_bytes(DATA[:-1])
    assert source.identity() != before


# Reading ahead


SPANS = [(at, at + 1000) for at in range(0, 40_000, 1000)]


def test_the_answers_come_in_order_whatever_order_they_arrive_in(faulty):
    source = faulty()
    whole = source.read
    chance = random.Random(1)

    def late(start, stop):
        time.sleep(chance.uniform(0, 0.01))
        return whole(start, stop)

    source.read = late
    assert b"".join(source.read_ahead(SPANS)) == DATA[:40_000]


def test_requests_really_are_ahead_and_never_more_than_agreed(faulty):
    source = faulty()
    whole = source.read
    together = threading.Barrier(IN_FLIGHT)
    asked = []

    def met(start, stop):
        asked.append(start)
        if start < IN_FLIGHT * 1000:
            together.wait(timeout=5)  # breaks unless all of the first requests are in flight
        return whole(start, stop)

    source.read = met
    answers = source.read_ahead(SPANS)
    for number in range(len(SPANS)):
        assert next(answers) == DATA[number * 1000 : number * 1000 + 1000]
        time.sleep(0.002)
        assert len(asked) <= number + IN_FLIGHT
    assert next(answers, None) is None
    assert sorted(asked) == [start for start, _ in SPANS]


def test_left_early_it_asks_no_more(faulty):
    source = faulty()
    answers = source.read_ahead(SPANS)
    next(answers)
    answers.close()
    time.sleep(0.02)
    asked = source.counters.snapshot()["requests"]
    assert asked <= IN_FLIGHT
    time.sleep(0.02)
    assert source.counters.snapshot()["requests"] == asked


def test_a_failure_comes_in_its_turn(faulty, delays):
    source = faulty()
    whole = source.read

    def fail(start, stop):
        if start == 2000:
            raise StorageDenied("no")
        return whole(start, stop)

    source.read = fail
    answers = source.read_ahead(SPANS)
    assert [next(answers), next(answers)] == [DATA[:1000], DATA[1000:2000]]
    with pytest.raises(StorageDenied):
        next(answers)


def test_nothing_to_read(faulty):
    assert list(faulty().read_ahead([])) == []


def test_counts_from_many_threads_add_up():
    counters = Counters()

    def add():
        for _ in range(5000):
            counters.add(one=1, half=0.5)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot() == {"one": 20_000, "half": 10_000}
    counters.snapshot()["one"] = 0
    assert counters.snapshot()["one"] == 20_000
