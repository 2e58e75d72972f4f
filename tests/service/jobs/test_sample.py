"""Clips extracted once more from their videos, and compared with what the stores hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from models.encoder import load_encoder
from service.cli.main import run
from tests.support.brightness import STREAMS, Job, video
from workers.run.extract import UnitExtractor

Said = tuple[int, dict[str, Any]]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A take and its complete store, made with the default encoder, and the report of that."""
    job = Job(tmp_path)
    device = torch.device("cpu")
    (target,) = job.recipe.targets
    extractor = UnitExtractor(job.recipe, [load_encoder(target.encoder, device)], device)
    _, prepared = job.prepare()
    for unit in extractor.prepare(prepared.take, STREAMS).units:
        extractor.extract(unit)
    assert extractor.finish(prepared.take).complete
    assert run(["extract", "--dataset", str(job.root), "--output", str(job.output)]) == 0
    return job


def test_sampled_clips_agree_until_the_store_or_the_video_is_another(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    def verified(*more: str) -> Said:
        capsys.readouterr()
        code = run(["verify", str(job.output), *more, "--json"])
        (facts,) = json.loads(capsys.readouterr().out)
        return code, facts

    before = {path: path.read_bytes() for path in job.output.rglob("*") if path.is_file()}
    code, facts = verified("--sample", "4", "--seed", "7")
    assert code == 0
    assert len(facts["sampled"]) == 4
    assert all(clip["agrees"] and clip["tried"] for clip in facts["sampled"])
    assert verified("--sample", "4", "--seed", "7")[1]["sampled"] == facts["sampled"]
    every = verified("--sample", "1000")[1]["sampled"]
    clips = facts["clips"]
    assert {(c["stream"], c["clip"]) for c in every} == {
        (stream, clip) for stream in facts["streams"] for clip in range(clips)
    }
    assert {path: path.read_bytes() for path in before} == before
    # A feature that decodes, passes its checksum and is another clip's.
    (path,) = job.output.glob("*/u.zarr")
    features = zarr.open_group(path, mode="r+")["features"]
    assert isinstance(features, zarr.Array)
    values = np.asarray(features[:])
    values[0, 0] = -values[0, 0]
    features[:] = values
    code, facts = verified("--sample", "1000")
    wrong = [clip for clip in facts["sampled"] if not clip["agrees"]]
    assert (code, facts["ok"]) == (1, True)
    assert [(clip["stream"], clip["clip"]) for clip in wrong] == [(facts["streams"][0], 0)]
    assert "cosine" in wrong[0]["reason"]
    # A video that is another one proves nothing about the store.
    video(job.path(STREAMS[0]), 45)
    code, facts = verified("--sample", "1000")
    assert code == 0
    assert {c["stream"] for c in facts["sampled"] if not c["tried"]} >= {STREAMS[0]}
    assert all("changed" in c["reason"] for c in facts["sampled"] if not c["tried"])


def test_strict_is_about_invalid_clips(job: Job) -> None:
    assert run(["verify", str(job.output), "--strict"]) == 0
    (path,) = job.output.glob("*/u.zarr")
    group = zarr.open_group(path, mode="r+")
    for name, value in (("valid", False), ("reason", 6)):
        array = group[name]
        assert isinstance(array, zarr.Array)
        array[0, 0] = value
    features = group["features"]
    assert isinstance(features, zarr.Array)
    features[0, 0] = np.nan
    assert run(["verify", str(job.output)]) == 0
    assert run(["verify", str(job.output), "--strict"]) == 1


def test_a_chunk_that_does_not_decode_and_a_stream_that_is_gone_are_not_compared(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = job.output.glob("*/u.zarr")
    bad, *_ = sorted(
        p for p in (path / "features").rglob("*") if p.is_file() and p.name != "zarr.json"
    )
    bad.write_bytes(b"\x00" + bad.read_bytes()[1:-20])
    listed = json.loads((job.root / "takes.json").read_text())
    listed.append(json.loads(json.dumps(listed[0]).replace('"u"', '"other"')))
    gone = sorted(listed[0]["frame_aligned_videos"])[-1]
    del listed[0]["frame_aligned_videos"][gone]
    (job.root / "takes.json").write_text(json.dumps(listed))
    capsys.readouterr()
    assert run(["verify", str(job.output), "--sample", "1000", "--json"]) == 1
    (facts,) = json.loads(capsys.readouterr().out)
    why = {clip["reason"] for clip in facts["sampled"] if not clip["tried"]}
    assert any("does not decode" in one for one in why)
    assert any("lists no such stream" in one for one in why)
    assert any(clip["tried"] and clip["agrees"] for clip in facts["sampled"])
