"""Service, page and client spell the interface as `takestream.protocol` does."""

import json
import re

import pytest

from service.api.operation import MODULE_PATH, PAGE
from service.jobs.records import JobRecord, now
from takestream.protocol import JOB_FIELDS, PROBLEM, PROBLEM_TYPE, JobState, ProblemBody, page_facts
from tests.service.api.test_middleware import Served, served

__all__ = ["served"]


def test_the_page_gets_the_protocol_as_a_module(served: Served) -> None:
    answer = served.client.get(MODULE_PATH)
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "no-cache"
    lines = [re.fullmatch(r"export const (\w+) = (.*);", x) for x in answer.text.splitlines()]
    assert {line[1]: json.loads(line[2]) for line in lines if line} == page_facts()


def test_the_page_imports_names_that_the_protocol_has_and_copies_none() -> None:
    imported: set[str] = set()
    for file in PAGE.glob("*.js"):
        text = file.read_text()
        for names in re.findall(r'import \{([^}]*)\} from "./protocol.js"', text):
            imported |= {name.strip() for name in names.split(",")}
        for value in page_facts().values():
            assert not isinstance(value, str) or f'"{value}"' not in text, (file.name, value)
    assert imported == set(page_facts())


def test_a_job_of_the_service_is_the_client_s_job() -> None:
    record = JobRecord(
        job_id="20261124-000000-abcdef", kind="service", status="running", submitted_at=now(),
        spec={"dataset": "x"}, failures=[{"take": "one", "stream": None, "reason": "gone"}],
    )  # fmt: skip
    facts = record.facts()
    assert set(facts) == JOB_FIELDS
    job = JobState.of(json.loads(json.dumps(facts)))
    assert (job.status, job.spec, job.failures[0].take) == ("running", {"dataset": "x"}, "one")


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/takes/none", "not_found"), ("/v1/jobs?x=1", "invalid")]
)
def test_a_problem_says_its_kind(served: Served, path: str, kind: str) -> None:
    answer = served.client.get(path)
    assert answer.headers["content-type"] == PROBLEM
    problem = ProblemBody.of(answer.json())
    assert (problem.status, problem.type) == (answer.status_code, f"{PROBLEM_TYPE}{kind}")
    assert problem.kind == kind
