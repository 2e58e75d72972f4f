"""Passwords and signed URLs in URIs: refused at the start, and repeated nowhere."""

from pathlib import Path

import pytest

from configs.load import SettingsError, parse
from configs.schema import JobSpec
from service.cli.main import run
from takestream.errors import InvalidStorage
from takestream.masking import masked, refuse_secrets
from takestream.storage import open_filesystem
from workers.dataset.table import CameraTable
from workers.dataset.take import DatasetError

SECRET = "hunter2xyz"
URIS = [
    f"s3://user:{SECRET}@bucket/x",
    f"s3://:{SECRET}@bucket/x",
    f"https://user:{SECRET}@host:443/x",
    f"https://host/v.mp4?X-Amz-Date=1&X-Amz-Signature={SECRET}",
    f"https://host/v.mp4?sig={SECRET}&se=1",
    f"https://host/v.mp4?access_token={SECRET}",
    f"simplecache::https://u:{SECRET}@host/v.mp4",
    f"hdfs://u:{SECRET}@host/x",
]
PLAIN = [
    "s3://bucket/what? a token of x.mp4",
    "s3://bucket/a:b@c/d",
    "abfs://container@account.dfs.core.windows.net/x",
    "/data/a:b@c.mp4",
    "https://host:8443/x?versionId=3",
    "memory://x/y?key",
]


@pytest.mark.parametrize("uri", URIS)
def test_a_secret_is_refused_and_not_repeated(uri: str) -> None:
    assert SECRET not in masked(uri)
    for refused in (lambda: refuse_secrets(uri), lambda: open_filesystem(uri)):
        with pytest.raises(InvalidStorage, match="holds a password or a signature") as caught:
            refused()
        assert SECRET not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("uri", PLAIN)
def test_what_only_looks_like_one_is_taken(uri: str) -> None:
    refuse_secrets(uri)
    assert masked(uri) == uri


@pytest.mark.parametrize("place", ["dataset", "output", "mirror", "segments", "encoder"])
@pytest.mark.parametrize("uri", URIS[:1] + URIS[3:4])
def test_no_job_holds_one(place: str, uri: str) -> None:
    settings = {"dataset": "/data", "output": "/out", place: uri}
    if place == "encoder":
        settings |= {"encoder": {"preset": "efficientnet_lite", "weights": uri}}  # type: ignore[dict-item]
    with pytest.raises(SettingsError, match="holds a password") as caught:
        parse(JobSpec, settings, "job")
    assert SECRET not in str(caught.value)


def test_the_row_of_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cameras.csv"
    path.write_text(f"take,camera,uri\nt,a,a.mp4\nt,b,{URIS[3]}\n")
    with pytest.raises(DatasetError, match=r"line 3: .* holds a password or a signature") as caught:
        CameraTable(str(path)).takes()
    assert SECRET not in str(caught.value)


def test_no_command_repeats_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "takes.json").write_text("[]")
    data = str(tmp_path)
    for command in (
        ["takes", URIS[0]],
        ["plan", "--dataset", URIS[0], "--output", data],
        ["extract", "--dataset", data, "--output", URIS[0]],
        ["submit", "--dataset", data, "--output", URIS[0], "--url", "http://127.0.0.1:9"],
        ["verify", URIS[0]],
        ["inspect", f"{URIS[0]}/u.zarr"],
        ["ls", URIS[0]],
        ["sync", URIS[0]],
        ["plan", "--dataset", data, "--output", data, "--endpoint-url", f"http://u:{SECRET}@h"],
    ):
        assert run(command) == 2, command
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    assert len(said.err.splitlines()) >= 9
    assert [path.name for path in tmp_path.iterdir()] == ["takes.json"]


def test_deep_yaml_is_bad_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + "[" * 3000 + "]" * 3000)
    assert run(["plan", "--job", str(path)]) == 2
    assert "nested too deeply" in capfd.readouterr().err
