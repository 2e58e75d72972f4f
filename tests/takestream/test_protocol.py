"""The wire protocol's own records."""

import subprocess
import sys

import pytest

from takestream.protocol import ENDED, ClipCounts, JobState, ProblemBody, clips_of


def test_it_needs_the_standard_library_alone() -> None:
    code = (
        "import sys, takestream.protocol;"
        "known = sys.stdlib_module_names | {'takestream', '__main__'};"
        "print(*sorted({n.partition('.')[0] for n in sys.modules} - known))"
    )
    before = "import sys; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    found = [
        set(subprocess.check_output([sys.executable, "-c", each], text=True).split())
        for each in (code, before)
    ]
    # What `site` loads for every program (editable installs) is not the protocol's.
    assert found[0] <= found[1]


@pytest.mark.parametrize(
    ("header", "counts"),
    [
        ("cached=6; computed=14", ClipCounts(6, 14)),
        ("computed=2", ClipCounts(None, 2)),
        ("cached=-1;computed=x; other=3", ClipCounts()),
        ("", ClipCounts()),
    ],
)
def test_counts_of_clips_are_read_from_the_header(header: str, counts: ClipCounts) -> None:
    assert ClipCounts.of_header(header) == counts
    assert ClipCounts.of_header(ClipCounts(3, 4).header()) == ClipCounts(3, 4)


def test_a_job_of_a_later_service_is_understood() -> None:
    facts = {
        "job_id": "20261124-000000-abcdef",
        "status": "failed",
        "spec": None,
        "failures": [{"take": "one", "reason": "gone", "severity": 3}],
        "invented_later": 1,
    }
    job = JobState.of(facts)
    assert (job.ended, job.spec, job.failures[0].stream) == (True, {}, None)
    assert not JobState("x", "stopping").ended
    assert "running" not in ENDED
    with pytest.raises(KeyError, match="status"):
        JobState.of({"job_id": "x"})


def test_a_problem_leaves_out_what_it_does_not_say() -> None:
    body = ProblemBody("Not Found", 404, "no such take", kind="not_found").body()
    assert body == {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "no such take",
        "kind": "not_found",
    }  # fmt: skip
    assert ProblemBody.of(body).kind == "not_found"


def test_how_far_a_job_is() -> None:
    assert clips_of(None) is clips_of({}) is None
    now = {"clips": 10, "clips_done": 2, "clips_skipped": 1, "clips_reached": 5, "clips_asked": 20}
    assert clips_of(now) == (5, 20)
    # What services sent before there was a count within a unit.
    assert clips_of({"clips": 10, "clips_done": 2, "clips_skipped": 1}) == (3, 10)
