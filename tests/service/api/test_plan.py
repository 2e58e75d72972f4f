"""The plan of a job over HTTP: what is to do, how the stores stand, what it takes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.context import ApiContext
from service.cli.main import run
from service.jobs.calibrations import keep
from takestream.storage import S3Options
from tests.service.api.test_api import SECRET, ring, root, spec_of
from tests.service.report.test_estimate import MEASURED
from workers.run.recipe import make_recipe

__all__ = ["root"]


@pytest.fixture
def places(root: Path, tmp_path: Path) -> Path:
    """A copy of the data set and the output, with a second take of ten seconds."""
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    takes = json.loads((tmp_path / "data" / "takes.json").read_text())
    more = {"take_uid": "uid-2", "take_name": "two", "duration_sec": 10.0}
    videos = {"cam01": {"0": {"relative_path": "cam01_0.mp4"}}}
    takes.append({**more, "frame_aligned_videos": videos, "root_dir": "two"})
    (tmp_path / "data" / "takes.json").write_text(json.dumps(takes))
    (tmp_path / "data" / "two").mkdir()
    (tmp_path / "data" / "two" / "cam01_0.mp4").write_bytes(bytes(5000))
    return tmp_path


@pytest.fixture
def client(places: Path) -> TestClient:
    context = ApiContext(spec_of(places), None, b"secret", None)
    return TestClient(create_app(context), "http://localhost", raise_server_exceptions=False)


def test_a_plan_says_what_is_there_and_what_is_to_do(client: TestClient, places: Path) -> None:
    answer = client.post("/v1/plan", json={})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["takes"] == 2
    assert found["states"] == {"current": 1, "missing": 1}
    # 300 frames: 17 windows of 32 every 16, and one more over the last 32; of one stream.
    assert found["clips_left"] == 18
    assert found["clips"] == 18 + 20 * 2
    assert found["bytes_left"] == 5000
    assert (found["estimate"], found["rates"], found["exact"]) == (None, None, False)
    assert len(found["words"]) == 1
    assert "about 18 of 58 clips to do" in found["words"][0]
    assert not list((places / "out").rglob("*uid-2*"))


def test_a_plan_has_a_price_by_the_calibration_as_the_terminal_has(
    client: TestClient, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(places / "out")
    recipe = make_recipe(spec_of(places).job)
    uri = keep(replace(MEASURED, encoder_ids=recipe.encoder_ids), out, S3Options())
    found = client.post("/v1/plan", json={"workers": 4, "instance": "g6.xlarge"}).json()
    flags = ["--dataset", str(places / "data"), "--output", out, "--workers", "4"]
    assert run(["plan", *flags, "--instance", "g6.xlarge", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert found["estimate"] == told["estimate"]
    assert found["clips_left"] == told["clips_left"]
    assert found["estimate"]["machines"] == 4
    assert found["rates"]["uri"] == uri
    assert found["rates"]["clips_per_s"] == list(MEASURED.clips_per_s)
    assert any("on 4 workers" in line for line in found["words"])
    own = client.post("/v1/plan", json={"workers": 4, "worker_price": 2.5}).json()["estimate"]
    assert own["cost"][1] == pytest.approx(own["worker_hours"][1] * 2.5)
    assert [one["name"] for one in found["instances"]].count("g6.xlarge") == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"instance": "g6.xlarg"}, 422, "did you mean 'g6.xlarge'?"),
        ({"workers": 0}, 422, "workers"),
        ({"worker_price": -1}, 422, "worker_price"),
        ({"run": {"workers": 2}}, 422, "'run.workers' is set by the service"),
        ({"select": {"take_names": ["thre"]}}, 404, "thre"),
        ({"encoder": "dinov9"}, 404, "offers no encoder 'dinov9'"),
    ],
)
def test_what_cannot_be_planned_is_told(
    client: TestClient, body: dict[str, object], status: int, words: str
) -> None:
    answer = client.post("/v1/plan", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(("scope", "status"), [("read", 200), ("jobs", 200), ("compute", 403)])
def test_a_plan_may_be_seen_by_whoever_may_see_jobs(places: Path, scope: str, status: int) -> None:
    context = ApiContext(spec_of(places), ring(scope), b"secret", None)
    with TestClient(create_app(context), "http://localhost") as client:
        sent = {"Authorization": f"Bearer {SECRET}"}
        assert client.post("/v1/plan", json={}, headers=sent).status_code == status
