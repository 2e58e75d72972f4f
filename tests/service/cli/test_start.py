"""What is known before Ray and torch are loaded, which takes seconds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.encoder import load_encoder
from tests.support.brightness import STREAMS, Job, video
from workers.run.ahead import done_already
from workers.run.extract import UnitExtractor

HEAVY = ("av.video", "matplotlib", "pyarrow", "ray", "torch", "transformers")
SCRIPT = """
import json, sys
from service.cli.main import run
try:
    code = run(sys.argv[2:])
except SystemExit as stop:
    code = stop.code or 0
heavy = sorted(set(json.loads(sys.argv[1])) & set(sys.modules))
print(json.dumps([code, heavy]), file=sys.__stderr__)
"""
Started = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A data set of one take and its complete store, made with the default encoder."""
    job = Job(tmp_path_factory.mktemp("start"))
    device = torch.device("cpu")
    (target,) = job.recipe.targets
    extractor = UnitExtractor(job.recipe, [load_encoder(target.encoder, device)], device)
    _, prepared = job.prepare()
    prepared = extractor.prepare(prepared.take, STREAMS)
    for unit in prepared.units:
        extractor.extract(unit)
    assert extractor.finish(prepared.take).complete
    return job


@pytest.fixture
def started() -> Started:
    """started(*arguments) → exit code, heavy packages that were loaded, what was printed."""

    def run(*arguments: object) -> tuple[int, list[str], str]:
        heavy = json.dumps([name for name in HEAVY if name != "av.video"])
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, heavy, *map(str, arguments)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        *said, last = done.stderr.splitlines()
        code, loaded = json.loads(last)
        return code, loaded, done.stdout + "\n".join(said)

    return run


def test_commands_that_only_look_load_neither_torch_nor_ray(
    extracted: Job, started: Started
) -> None:
    places = ["--dataset", extracted.root, "--output", extracted.output]
    store = next(extracted.output.glob("*/u.zarr"))
    for arguments in (
        ["--help"],
        ["extract", "--help"],
        ["encoders"],
        ["takes", extracted.root],
        ["plan", *places],
        ["plan", *places, "--probe"],
        ["inspect", store],
        ["verify", extracted.output],
        ["doctor", "--help"],
    ):
        assert started(*arguments)[:2] == (0, []), arguments


def test_nothing_to_do_is_known_without_ray(extracted: Job, started: Started) -> None:
    places = ["--dataset", extracted.root, "--output", extracted.output]
    code, heavy, said = started("extract", *places)
    assert (code, heavy) == (0, [])
    assert "Nothing to do: 1 take complete already" in said
    assert len(list(extracted.output.glob("*/reports/*.json"))) >= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--output", "/proc/none"], "cannot write"),
        (["--output", "s3://bucket/x", "--output-endpoint-url", "http://127.0.0.1:9"], "127.0.0.1"),
        pytest.param(["--dataset", "/nowhere"], "no such object", marks=pytest.mark.slow),
        (["--encoder", "efficientnet_lit"], "did you mean 'efficientnet_lite'?"),
        pytest.param(["--take-names", "tt"], "did you mean 't'?", marks=pytest.mark.slow),
        pytest.param(["--streams", "cam03_0"], "cam03_0", marks=pytest.mark.slow),
        (["--job", "/nowhere.yaml"], "job file"),
    ],
)
def test_bad_input_is_refused_without_ray(
    changes: list[str], words: str, extracted: Job, started: Started
) -> None:
    places = ["--dataset", extracted.root, "--output", extracted.output]
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "x")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "x")
    code, heavy, said = started("extract", *places, *changes)
    assert code in (1, 2)
    assert heavy == []
    assert words in said


def test_what_is_done_is_not_done_when_a_video_or_a_chunk_changed(tmp_path: Path) -> None:
    job = Job(tmp_path)
    extractor, prepared = job.prepare()
    takes = [(prepared.take, STREAMS)]
    assert done_already(job.recipe, takes).report(takes) is None
    for unit in prepared.units:
        extractor.extract(unit)
    assert extractor.finish(prepared.take).complete
    report = done_already(job.recipe, takes).report(takes)
    assert report is not None
    assert report.ok
    assert report.untouched == report.progress.takes_done == 1
    assert report.progress.clips_skipped == report.progress.clips == prepared.clips
    chunk = next(tmp_path.glob("features/*/u.zarr/features/c/*/0/0"))
    data = chunk.read_bytes()
    chunk.unlink()
    assert done_already(job.recipe, takes).report(takes) is None
    chunk.write_bytes(data)
    assert done_already(job.recipe, takes).report(takes) is not None
    video(job.path(STREAMS[0]), 45)
    assert done_already(job.recipe, takes).report(takes) is None
    # Another take that is not done, after one that is.
    other = replace(prepared.take, uid="v", name="v")
    more = [*takes, (other, STREAMS)]
    assert done_already(job.recipe, more).report(more) is None
