"""What an error of the storage means: the same to whoever met it, and in exit codes and answers."""

import errno
import importlib
import pickle
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3fs.errors import translate_boto_error

import configs
import models
import service
import takestream
import workers
from configs.load import read_yaml
from models.weights import fetch
from service.api.problems import Problem
from service.cli import main as command_line
from takestream import retry
from takestream.errors import ErrorKind, TakestreamError, kind_of
from takestream.storage import S3Options, storage_error, translated
from workers.dataset.base import object_sizes
from workers.dataset.egoexo import read_takes
from workers.dataset.take import Stream, Take
from workers.media.source import Source
from workers.run.tasks import Failure
from workers.store.objects import Objects, probe_writable


def answered(code: str, status: int = 400, message: str = "") -> Exception:
    """What s3fs raises when S3 answers with this code."""
    response = {
        "Error": {"Code": code, "Message": message or code},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return translate_boto_error(botocore.exceptions.ClientError(response, "AnyOperation"))


EXPECTED: list[tuple[Exception, ErrorKind]] = [
    *[
        (answered(code, status), ErrorKind.CREDENTIALS)
        for code, status in [
            ("ExpiredToken", 400), ("InvalidToken", 400), ("TokenRefreshRequired", 400),
            ("RequestExpired", 400), ("InvalidAccessKeyId", 403), ("SignatureDoesNotMatch", 403),
            ("RequestTimeTooSkewed", 403), ("InvalidClientTokenId", 403), ("Unauthorized", 401),
        ]
    ],
    (PermissionError("The provided token has expired."), ErrorKind.CREDENTIALS),
    (botocore.exceptions.NoCredentialsError(), ErrorKind.CREDENTIALS),
    (botocore.exceptions.ProfileNotFound(profile="x"), ErrorKind.CREDENTIALS),
    (botocore.exceptions.TokenRetrievalError(provider="sso", error_msg="x"), ErrorKind.CREDENTIALS),
    (answered("AccessDenied", 403), ErrorKind.DENIED),
    (answered("OddButForbidden", 403), ErrorKind.DENIED),
    (PermissionError(errno.EACCES, "no", "/token/credentials"), ErrorKind.DENIED),
    (answered("MethodNotAllowed", 405), ErrorKind.DENIED),
    (OSError(errno.EROFS, "Read-only file system"), ErrorKind.DENIED),
    (answered("NoSuchKey", 404), ErrorKind.ABSENT),
    (answered("NoSuchBucket", 404), ErrorKind.ABSENT),
    (NotADirectoryError("a/b"), ErrorKind.ABSENT),
    (OSError(errno.EEXIST, "File exists"), ErrorKind.INVALID),
    (OSError(errno.ENAMETOOLONG, "File name too long"), ErrorKind.INVALID),
    (OSError(errno.ENOSPC, "No space left on device"), ErrorKind.FULL),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), ErrorKind.FULL),
    (answered("XMinioStorageFull", 507), ErrorKind.FULL),
    (answered("InvalidBucketName"), ErrorKind.INVALID),
    (botocore.exceptions.ParamValidationError(report="bad bucket"), ErrorKind.INVALID),
    (answered("SlowDown", 503), ErrorKind.UNAVAILABLE),
    (answered("InternalError", 500), ErrorKind.UNAVAILABLE),
    (answered("RequestTimeout", 400), ErrorKind.UNAVAILABLE),
    (ConnectionResetError("reset by peer"), ErrorKind.UNAVAILABLE),
    (TimeoutError(), ErrorKind.UNAVAILABLE),
    (botocore.exceptions.EndpointConnectionError(endpoint_url="http://h"), ErrorKind.UNAVAILABLE),
    (botocore.exceptions.ReadTimeoutError(endpoint_url="http://h"), ErrorKind.UNAVAILABLE),
    (EOFError("the answer broke off"), ErrorKind.UNAVAILABLE),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind"), EXPECTED, ids=lambda value: repr(value)[:60])
def test_what_an_error_means(error: Exception, kind: ErrorKind) -> None:
    found = storage_error(error, "s3://b/x", s3=S3Options("me", "http://h:1"))
    assert found is not None
    assert (found.kind, type(found).kind) == (kind, kind)
    assert str(found).startswith("cannot read s3://b/x (endpoint http://h:1, profile me): ")
    assert "\n" not in str(found)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), TypeError(), UserWarning("x")])
def test_a_mistake_in_a_program_is_no_matter_of_the_storage(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated("s3://b/x"):
        raise error
    assert caught.value is error


def test_what_is_translated_once_stays_as_it_is() -> None:
    inner = storage_error(TimeoutError(), "s3://b/x")
    assert inner is not None
    with pytest.raises(TakestreamError) as caught, translated("s3://b"):
        raise inner
    assert caught.value is inner


class Refusing(MemoryFileSystem):  # type: ignore[misc]
    """A file system whose every call raises `error`."""

    protocol = "refusing"
    cachable = False
    error: Exception

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise type(self).error

    cat_file = pipe_file = info = ls = find = get_file = _refuse


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> type[Refusing]:
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    slept: list[float] = []
    monkeypatch.setattr(retry, "sleep", slept.append)
    monkeypatch.setattr(retry, "monotonic", lambda: sum(slept))
    return Refusing


ROOT = "refusing://out"
TAKE = Take("u", "t", None, None, None, None, (Stream("c_0", "c", "0", f"{ROOT}/c.mp4", False),))
READS: dict[str, Callable[[], object]] = {
    "a video": lambda: Source(f"{ROOT}/v.mp4").read(0, 10),
    "its version": lambda: Source(f"{ROOT}/v.mp4").identity(),
    "a data set": lambda: read_takes(ROOT),
    "the videos of a data set": lambda: object_sizes([TAKE]),
    "a store's object": lambda: Objects(ROOT).get("zarr.json"),
    "a store's listing": lambda: Objects(ROOT).listing(),
    "a store in the wheel": lambda: takestream.open(ROOT),
    "windows in the wheel": lambda: takestream.Windows(ROOT),
    "weights": lambda: fetch(f"{ROOT}/w.safetensors"),
    "a job file": lambda: read_yaml(f"{ROOT}/job.yaml"),
}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answered("InvalidToken"), ErrorKind.CREDENTIALS),
        (answered("RequestExpired"), ErrorKind.CREDENTIALS),
        (botocore.exceptions.NoCredentialsError(), ErrorKind.CREDENTIALS),
        (answered("AccessDenied", 403), ErrorKind.DENIED),
        (answered("SlowDown", 503), ErrorKind.UNAVAILABLE),
    ],
    ids=str,
)
@pytest.mark.parametrize("reading", READS)
def test_it_means_the_same_whatever_is_read(
    refusing: type[Refusing], reading: str, error: Exception, kind: ErrorKind
) -> None:
    refusing.error = error
    with pytest.raises(TakestreamError) as caught:
        READS[reading]()
    assert caught.value.kind is kind
    assert ROOT in str(caught.value)


@pytest.mark.parametrize(
    ("on_s3", "on_disk", "kind"),
    [
        (answered("AccessDenied", 403), PermissionError(errno.EACCES, "no"), ErrorKind.UNWRITABLE),
        (answered("MethodNotAllowed", 405), OSError(errno.EROFS, "no"), ErrorKind.UNWRITABLE),
        (answered("XMinioStorageFull", 507), OSError(errno.ENOSPC, "no"), ErrorKind.FULL),
        (answered("NoSuchBucket", 404), NotADirectoryError("f/x"), ErrorKind.ABSENT),
    ],
    ids=str,
)
def test_a_refused_output_is_the_same_on_s3_and_on_disk(
    refusing: type[Refusing],
    on_s3: Exception,
    on_disk: Exception,
    kind: ErrorKind,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> int:
        raise on_disk

    refusing.error = on_s3
    monkeypatch.setattr(Path, "write_bytes", refuse)
    for output in (ROOT, str(tmp_path)):
        with pytest.raises(TakestreamError, match="cannot write to") as caught:
            probe_writable(output)
        assert caught.value.kind is kind


# The table


def every_error() -> list[type[TakestreamError]]:
    """All subclasses there are in the tree."""
    for package in (takestream, configs, models, workers, service):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in ("takestream.__main__", "service.demo.serve"):
                importlib.import_module(module.name)
    found, new = set[type[TakestreamError]](), [TakestreamError]
    while new:
        below = new.pop().__subclasses__()
        new += below
        found |= set(below)
    return sorted(found, key=lambda cls: cls.__qualname__)


def test_every_kind_says_what_it_is_for_a_command_and_over_http(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ErrorKind:
        error = TakestreamError("what is wrong", kind=kind)

        def fail(_: object, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr("service.cli.commands.encoders", fail)
        assert command_line.run(["encoders"]) == kind.exit_code
        assert kind.exit_code in (1, 2)
        assert capsys.readouterr().err == "takestream: error: what is wrong\n"
        problem, failure = Problem.of(error), Failure.of("take", error)
        assert (problem.status, problem.kind) == (kind.status, kind)
        assert (problem.status < 500) is (kind.retry_after is None and kind.status < 500)
        assert problem.headers.get("Retry-After") == (
            None if kind.retry_after is None else str(kind.retry_after)
        )
        assert failure.facts()["kind"] == kind
        assert failure.fatal is kind.fatal
        assert pickle.loads(pickle.dumps(kind)) is kind  # noqa: S301 - our own


def test_every_error_of_ours_has_a_kind_and_survives_a_pickle() -> None:
    kinds = {c.__qualname__: c.kind for c in every_error() if not c.__name__.startswith("_")}
    assert len(kinds) > 25
    # A fault is what nobody foresaw; only the service's own 5xx are told as one.
    assert [name for name, kind in kinds.items() if kind is ErrorKind.FAULT] == ["ServiceFault"]
    error = storage_error(answered("AccessDenied", 403), "s3://b/x", "write to")
    assert error is not None
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), str(again), again.kind) == (type(error), str(error), ErrorKind.UNWRITABLE)


def test_errors_that_are_not_ours() -> None:
    assert kind_of(RuntimeError("x")) is ErrorKind.FAULT
    assert kind_of(ModuleNotFoundError("x")) is ErrorKind.PACKAGE
    wrapped = RuntimeError("x")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert kind_of(wrapped) is ErrorKind.FULL
