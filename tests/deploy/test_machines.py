"""Rights, the launcher's file and Slurm's scripts, as far as they can be tried without a cloud."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_launchers_file_is_what_ray_takes() -> None:
    schema = Path(ray.__file__).parent / "autoscaler/ray-schema.json"
    config = yaml.safe_load((DEPLOY / "aws/ray-cluster.yaml").read_text())
    jsonschema.validate(config, json.loads(schema.read_text()))
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_rights_are_the_least() -> None:
    for name, writes in (("iam-job.json", True), ("iam-reader.json", False)):
        allowed: set[str] = set()
        for statement in json.loads((DEPLOY / "aws" / name).read_text())["Statement"]:
            if statement["Effect"] == "Allow":
                assert statement["Resource"].startswith("arn:aws:s3:::my-")
                assert not any("*" in action for action in statement["Action"])
                allowed.update(statement["Action"])
                if "s3:PutObject" in statement["Action"]:
                    assert statement["Resource"] == "arn:aws:s3:::my-bucket/features/*"
                if statement["Action"] == ["s3:ListBucket"]:
                    assert "s3:prefix" in statement["Condition"]["StringLike"]
        assert ("s3:PutObject" in allowed) == writes


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_the_scripts_are_sound() -> None:
    scripts = sorted((DEPLOY / "slurm").glob("*.sh"))
    run = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_the_shards_of_an_array_are_all_takes_once(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/takestream"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    command.chmod(0o755)
    uids = [f"uid {number}" for number in range(11)]
    (tmp_path / "uids.txt").write_text("\n".join(uids) + "\n")
    seen: list[str] = []
    for shard in range(4):
        run = subprocess.run(
            [DEPLOY / "slurm/array.sh", tmp_path / "uids.txt", "--dataset", "s3://b"],
            env={
                **os.environ, "TAKESTREAM_VENV": str(tmp_path), "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_ID": str(shard + 1), "SLURM_ARRAY_TASK_MIN": "1",
            },
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        words = run.stdout.splitlines()
        assert words[:2] == ["extract", "--uids"]
        assert words[-2:] == ["--dataset", "s3://b"]
        seen += words[2:-2]
    assert sorted(seen) == sorted(uids)
