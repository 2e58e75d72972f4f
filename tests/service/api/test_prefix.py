"""A service below a path of a proxy, which takes that path off its requests or does not."""

import re
from pathlib import Path

import pytest

from configs.load import SettingsError, parse
from configs.schema import ServeSpec
from service.api.keys import KeyRing
from service.jobs.records import JobRecord, new_job_id, now
from tests.service.api.test_middleware import Served


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path, root_path="/lab/features")


@pytest.mark.parametrize("left_on", ["", "/lab/features"])
def test_the_page_and_docs_find_their_files(served: Served, left_on: str) -> None:
    def get(path: str) -> str:
        answer = served.client.get(left_on + path)
        assert answer.status_code == 200, path
        return answer.text

    docs = get("/docs")
    files = re.findall(r"""['"](/[^'"]+)['"]""", docs)
    files.remove("/docs/oauth2-redirect")  # of schemes that the service has not
    assert "/lab/features/openapi.json" in files
    for file in files:
        assert file.startswith("/lab/features/"), docs
        get(file.removeprefix("/lab/features"))
    assert '"/v1/takes"' in get("/openapi.json")
    assert "static/" in get("/")
    get("/static/app.js")
    assert get("/v1/takes")
    assert served.client.get(f"{left_on}/lab").status_code == 404


@pytest.mark.parametrize("left_on", ["", "/lab/features"])
def test_locations_are_where_the_client_can_ask(served: Served, left_on: str) -> None:
    record = JobRecord(
        job_id=new_job_id(), kind="service", status="queued", submitted_at=now(), spec={}
    )
    served.engine.outcome = record
    answer = served.client.post(f"{left_on}/v1/jobs", json={})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/lab/features/v1/jobs/{record.job_id}"
    assert served.client.get(f"{left_on}/healthz").status_code == 200
    wrong = served.client.put(f"{left_on}/v1/jobs")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, POST")


def test_keys_are_asked_for_below_the_path_too(tmp_path: Path) -> None:
    served = Served(tmp_path, KeyRing([]), root_path="/lab")
    for path in ("/lab/v1/takes", "/v1/takes"):
        assert served.client.get(path).status_code == 401
    assert served.client.get("/lab/healthz").status_code == 200


def test_what_is_no_path_is_refused() -> None:
    for wrong in ("features", "/features/", "//host", "/a b", "/a?b"):
        with pytest.raises(SettingsError, match="root_path"):
            parse(ServeSpec, {"job": {"dataset": "d", "output": "o"}, "root_path": wrong}, "test")
