"""The app's OpenAPI document, as programs that generate clients and readers of /docs need it."""

import re
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from service.api.problems import KINDS
from takestream.protocol import PROBLEM_TYPE, REQUEST_ID_HEADER, ProblemBody

JOB_ID = "20261124-054233-a1b2c3"
STORE_ID = "efficientnet_lite0-0123456789"
EXAMPLES: dict[str, dict[str, Any]] = {
    "ProblemBody": {
        "type": f"{PROBLEM_TYPE}not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "the data set has no take 'cmu_bike01_3'; did you mean 'cmu_bike01_2'?",
        "kind": "not_found",
        "request_id": "5f2c9d0e1a7b3c48",
    },
    "JobState": {
        "job_id": JOB_ID,
        "status": "running",
        "submitted_at": "2026-11-24T05:42:33+00:00",
        "started_at": "2026-11-24T05:42:34+00:00",
        "submitted_by": "ann",
        "encoder_ids": [STORE_ID],
        "encoder_id": STORE_ID,
        "spec": {"select": {"universities": ["cmu"]}},
        "progress": {"takes": 12, "takes_done": 3, "clips": 9000, "clips_done": 2250},
    },
    "TakeSummary": {
        "take_uid": "3c0dffd0-e38e-4643-bc48-d513943dc20b",
        "take_name": "cmu_bike01_2",
        "task_name": "Fix a Flat Tire",
        "university_name": "cmu",
        "duration_sec": 92.4,
        "streams": ["aria01_rgb", "cam01_0"],
        "encoders": [STORE_ID],
    },
    "SearchBody": {
        "take": "cmu_bike01_2",
        "moment": {"stream": "aria01_rgb", "time": 12.5},
        "top": 5,
    },
    "TakesSearchBody": {
        "moment": {"take": "cmu_bike01_2", "stream": "aria01_rgb", "time": 12.5},
        "top": 20,
    },
    "SegmentsBody": {
        "segments": [{"take": "cmu_bike01_2", "start": 3.0, "end": 7.5, "step_id": 12}],
        "streams": ["aria*"],
    },
    "PlanBody": {
        "select": {"universities": ["cmu"]},
        "encoder": "efficientnet_lite0",
        "instance": "g6.xlarge",
        "workers": 8,
    },
    "JobBody": {"select": {"universities": ["cmu"]}, "encoder": "efficientnet_lite0"},
}
"""By the name of a schema."""

_ATTRIBUTES = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def operation_id(route: Any) -> str:
    """What a generated client calls a route: the name of its function."""
    return str(route.name)


def describe(app: FastAPI, *, with_keys: bool) -> None:
    """Have the app's OpenAPI say what FastAPI does not know.

    Args:
        app: With all its routes.
        with_keys: Whether routes ask for a key.
    """
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            components = schema.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            schemas["ProblemBody"] = _problem()
            for name, one in schemas.items():
                _explain(one)
                if name in EXAMPLES:
                    one["examples"] = [EXAMPLES[name]]
            identified = {"description": "names the request in the service's log"}
            for path in schema["paths"].values():
                for operation in path.values():
                    for response in operation["responses"].values():
                        headers = response.setdefault("headers", {})
                        headers[REQUEST_ID_HEADER] = {**identified, "schema": {"type": "string"}}
            if with_keys:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _problem() -> dict[str, Any]:
    """The schema of every error. `type` and `kind` always come, others are the record's own."""
    schema = TypeAdapter(ProblemBody).json_schema()
    words = f"One word for programs; a later service may know more than {', '.join(KINDS)}"
    schema["properties"]["kind"] = {"type": "string", "description": words}
    schema["required"] = ["type", "title", "status", "detail", "kind"]
    return schema


def _explain(schema: dict[str, Any]) -> None:
    """Give properties the descriptions that the docstring of their class has."""
    head, found, attributes = schema.get("description", "").partition("\n\nAttributes:\n")
    if not found:
        return
    schema["description"] = head
    for names, words in _ATTRIBUTES.findall(attributes.partition("\n\n")[0]):
        for name in names.split(", "):
            if name in schema["properties"]:
                schema["properties"][name].setdefault("description", " ".join(words.split()))
