"""A client that a public generator makes of the service's OpenAPI document works."""

import asyncio
import importlib
import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn

from service.api.app import create_app
from service.api.context import ApiContext
from tests.service.api.test_api import CLIPS, STREAMS, root, spec_of
from tests.service.api.test_jobs import ID, Engine

__all__ = ["root"]

GENERATOR = "openapi_python_client"
CLIENT = "generated_takestream_client"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec(GENERATOR) is None,
        reason="pip install -r tests/service/api/requirements.txt",
    ),
]


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    """A service over HTTP, with an engine that has one job."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(ApiContext(spec_of(root), None, b"secret", Engine()))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    thread = Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def generated(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """From the name of a module of the generated client to the module."""
    folder = tmp_path_factory.mktemp("generated")
    # The generator knows no media type of videos and pictures.
    pictures = dict.fromkeys(("video/mp4", "image/jpeg"), "application/octet-stream")
    config = {"post_hooks": [], "content_type_overrides": pictures}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "openapi.json").write_text(httpx.get(f"{url}/openapi.json").text)
    made = subprocess.run(
        [sys.executable, "-m", GENERATOR, "generate", "--meta", "none", "--fail-on-warning",
         "--path", folder / "openapi.json", "--config", folder / "config.json",
         "--output-path", folder / CLIENT],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"{CLIENT}.{name}")
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == CLIENT]:
        del sys.modules[name]


def test_takes_features_and_jobs_are_read_by_a_generated_client(url: str, generated: Any) -> None:
    client = generated("client").Client(url)
    models = generated("models")
    page = generated("api.takes.takes").sync(client=client, limit=10)
    assert isinstance(page, models.TakesPage)
    assert [(take.take_name, sorted(take.streams)) for take in page.takes] == [
        ("one", sorted(STREAMS))
    ]
    take = generated("api.takes.take_detail").sync("one", client=client)
    assert isinstance(take, models.TakeDetails)
    assert [(store.status, store.clips) for store in take.stores] == [("complete", CLIPS)]
    found = generated("api.features.features").sync("one", client=client, start=1.0, end=2.0)
    assert isinstance(found, models.FeatureArrays)
    assert found.clip == [0, 1, 2, 3]
    assert len(found.features) == 4
    running = models.JobsStatusItem.RUNNING
    jobs = generated("api.jobs.jobs").sync(client=client, status=[running])
    assert [job.job_id for job in jobs.jobs] == [ID]
    assert jobs.next_ is None


def test_a_problem_is_one_too(url: str, generated: Any) -> None:
    client = generated("client").Client(url)
    answer = generated("api.takes.take_detail").sync_detailed("none", client=client)
    assert answer.status_code == 404
    assert isinstance(answer.parsed, generated("models").ProblemBody)
    assert answer.parsed.kind == "not_found"
    assert "no take 'none'" in answer.parsed.detail
