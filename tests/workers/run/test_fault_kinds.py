"""A whole job under each kind of fault of its storage: bounded, true, named, healed by a rerun."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from service.demo.s3server import ObjectStore
from tests.support.fault_kinds import KINDS, LIST, READ, WRITE, Kind
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.faulty_job import FaultyJob, media_apart, short_silences

LONGEST = 60.0
OUTPUTS = itertools.count()
# Which requests: all of one kind, from which on, and how many.
ONE_STREAM = r"/data/takes/a/.*cam02_0\.mp4$"
SCOPES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    READ: [
        ("once", {"path": r"\.mp4$", "times": 1, "after": 2}),
        ("one stream", {"path": ONE_STREAM}),
        ("one stream, later", {"path": ONE_STREAM, "after": 1}),
        ("all videos", {"path": r"\.mp4$"}),
        ("stores", {"path": r"/out-\d+/.*zarr"}),
        ("list of takes", {"path": r"takes\.json$"}),
    ],
    WRITE: [
        ("once", {"path": r"/features/c/", "times": 1, "after": 1}),
        ("one stream", {"path": r"uid-a\.zarr/features/c/\d+/1/"}),
        ("chunks", {"path": r"/c/\d"}),
        ("metadata", {"path": r"zarr\.json$"}),
        ("roots", {"path": r"\.zarr/zarr\.json$", "after": 2}),
        ("claims", {"path": r"claims/"}),
        ("all", {}),
        ("all, later", {"after": 12}),
    ],
    LIST: [("once", {"times": 1}), ("all", {})],
}  # fmt: skip
# Of the whole matrix, what `make test` runs: one scope of the kinds that have fooled us.
QUICK = {READ: "one stream, later", WRITE: "chunks", LIST: "once"}
FOOLED = (
    "flipped bytes",
    "lost PUT",
    "torn PUT",
    "half a listing",
)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyJob]:
    with (
        ObjectStore(tmp_path_factory.mktemp("s3")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in server.environment().items():
            patch.setenv(name, value)
        patch.delenv("AWS_ENDPOINT_URL")

        def either(place: Any, name: str, value: Any) -> None:
            (patch.setitem if isinstance(place, dict) else patch.setattr)(place, name, value)

        short_silences(either)
        media_apart(either)
        yield FaultyJob(tmp_path_factory.mktemp("data"), server)


@pytest.fixture(scope="module")
def one_proxy(job: FaultyJob) -> Iterator[FaultProxy]:
    # One for all: clients of a new address take longer to make than the job takes.
    with fault_proxy(job.s3.endpoint_url) as running:
        yield running


@pytest.fixture
def proxy(one_proxy: FaultProxy) -> Iterator[FaultProxy]:
    yield one_proxy
    one_proxy.heal()


def cases() -> Iterator[Any]:
    for kind in KINDS:
        for scope, which in SCOPES[kind.of]:
            quick = scope == QUICK[kind.of] and kind.name in FOOLED
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(kind, which, scope, marks=marks, id=f"{kind.of}-{kind.name}-{scope}")


@pytest.mark.parametrize(("kind", "which", "scope"), list(cases()))
def test_whatever_the_storage_does(
    job: FaultyJob, proxy: FaultProxy, kind: Kind, which: dict[str, Any], scope: str
) -> None:
    job.undisturbed  # noqa: B018 - made before anything fails
    output = f"out-{next(OUTPUTS)}"
    if kind.of == LIST:
        met = proxy.fault(kind.make(job.direct), method="GET", path=r"[?&]list-type=2", **which)
    elif kind.of == WRITE:
        met = proxy.fault(kind.make(job.direct), method="PUT", **which)
    else:
        met = proxy.fault(kind.make(job.direct), method="GET", **which)
    outcome = job.run(proxy.endpoint_url, output)
    assert met.met
    job.assert_bounded_and_true(outcome, output, LONGEST)
    if scope == "once" and kind.passing:
        assert outcome.exit_code == 0, outcome
    proxy.heal()
    job.assert_healed(proxy.endpoint_url, output)
