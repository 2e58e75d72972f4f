"""The OpenAPI document says what is answered: for readers of /docs, and for generated clients."""

import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.api.app import create_app
from service.api.context import ApiContext
from service.api.openapi import EXAMPLES
from service.api.problems import KINDS
from service.engine.client import EngineUnavailable
from takestream.protocol import PROBLEM, PROBLEM_TYPE
from tests.service.api.test_api import root, spec_of
from tests.service.api.test_jobs import JOB, Engine, record

__all__ = ["root"]

# That an interval ends after it begins, or that a take is there, no schema says.
UNSAID = [positive_data_acceptance]
STATES = {"/readyz"}  # its 503 is no problem, but the same object as its 200


class Everlasting(Engine):
    """Its job can be followed as often as one likes."""

    async def ready(self) -> dict[str, str]:
        return {}

    async def status(self) -> Any:
        raise EngineUnavailable("not asked here")

    async def job_events(self, job_id: str) -> Any:
        yield record("succeeded")


@pytest.fixture
def app(root: Path) -> FastAPI:
    return create_app(ApiContext(spec_of(root, insecure=True), None, b"secret", Everlasting()))


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, "http://localhost", raise_server_exceptions=False)


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_the_documentation_names_routes_that_there_are(document: dict[str, Any]) -> None:
    known = [re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)) for path in document["paths"]]
    root = Path(__file__).parents[3]
    named = {}
    for path in (*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("deploy/**/*.md")):
        text = re.sub(r"\{[^}]*\}", "X", path.read_text())
        for route in re.findall(r"/(?:v1/[\w./*-]+|healthz|readyz|metrics)", text):
            named[route.rstrip("./")] = path.name
    assert len(named) > 10
    wrong = {r: file for r, file in named.items() if not any(k.fullmatch(r) for k in known)}
    assert not wrong


def test_every_route_says_what_it_is_and_what_it_answers(document: dict[str, Any]) -> None:
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert operation["summary"].lower() != operation["operationId"].replace("_", " ")
            assert operation["description"]
            for status, answer in operation["responses"].items():
                schemas = {kind: one["schema"] for kind, one in answer.get("content", {}).items()}
                if int(status) >= 400 and path not in STATES:
                    assert schemas == {PROBLEM: {"$ref": "#/components/schemas/ProblemBody"}}
                assert schemas or status == "304", (path, status)
                assert all(schemas.values()), (path, status, schemas)
                for schema in schemas.values():
                    Draft202012Validator.check_schema(schema)
    assert len(names) == len(set(names))
    assert all(name.isidentifier() for name in names)


def test_attributes_of_records_are_described_one_by_one(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert not [name for name, one in schemas.items() if "Attributes:" in str(one)]
    progress = schemas["JobState"]["properties"]["progress"]["description"]
    assert progress.startswith("Sums (takes,")
    assert progress.endswith("None before it has begun.")


def test_examples_are_what_they_are_examples_of(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(EXAMPLES) <= set(schemas)
    for name, example in EXAMPLES.items():
        check(document, schemas[name], example)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("get", "/v1/encoders", None, 200),
        ("get", "/v1/overview", None, 200),
        ("get", "/v1/takes", None, 200),
        ("get", "/v1/takes/one", None, 200),
        ("get", "/v1/takes/none", None, 404),
        ("get", "/v1/takes/one/annotations", None, 200),
        ("get", "/v1/takes/none/annotations", None, 404),
        ("get", "/v1/takes/one/features", None, 200),
        ("get", "/v1/takes/one/features?start=x", None, 422),
        ("get", "/v1/takes/one/timeline", None, 200),
        ("get", "/v1/takes/one/projection", None, 200),
        ("get", "/v1/takes/one/similarity?start=1", None, 200),
        ("get", "/v1/takes/one/similarity?start=2&end=1", None, 422),
        ("get", "/v1/takes/one/similarity?start=9999", None, 422),
        ("post", "/v1/features", {"segments": [{"take": "one", "start": 0, "end": 1}]}, 200),
        ("post", "/v1/search", {"take": "one", "moment": {"stream": "cam01_0", "time": 1}}, 200),
        ("post", "/v1/search/takes", {"text": "a bicycle"}, 422),
        ("post", "/v1/plan", {"workers": 2}, 200),
        ("post", "/v1/plan", {"workers": 0}, 422),
        ("post", "/v1/jobs", {}, 201),
        ("get", "/v1/jobs", None, 200),
        ("get", JOB, None, 200),
        ("delete", JOB, None, 202),
        ("get", "/healthz", None, 200),
        ("get", "/readyz", None, 200),
    ],
)
def test_answers_are_what_the_document_says(
    client: TestClient, document: dict[str, Any], method: str, path: str, body: Any, status: int
) -> None:
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    route = next(
        operations[method]
        for template, operations in document["paths"].items()
        if method in operations
        and len(template.split("/")) == len(path.split("/"))
        and all(
            part == given or part.startswith("{")
            for part, given in zip(
                template.split("/"), path.partition("?")[0].split("/"), strict=True
            )
        )
    )
    told = route["responses"][str(status)]
    kind = answer.headers["content-type"]
    check(document, told["content"][kind]["schema"], answer.json())
    problem = status >= 400
    assert not problem or answer.json()["type"] == PROBLEM_TYPE + answer.json()["kind"]
    assert not problem or answer.json()["kind"] in KINDS
    own = {"etag", "location", "x-takestream-clips", "x-takestream-encoder-id", "cache-status"}
    assert own & set(answer.headers) <= {name.lower() for name in told["headers"]}


@pytest.mark.slow
def test_what_is_made_of_the_document_is_answered_by_it(app: FastAPI) -> None:
    """Requests that schemathesis makes of the document, right ones and wrong ones."""
    faults = []
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            case.call_and_validate(excluded_checks=UNSAID)

        try:
            ask()
        except FailureGroup as group:
            faults.append(f"{operation.label}: {[str(one)[:600] for one in group.exceptions]}")
    assert not faults, "\n".join(faults)
