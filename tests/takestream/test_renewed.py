"""Keys that are renewed in their file while a process runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.demo.s3server import ObjectStore
from takestream.errors import CredentialsError
from takestream.renewed import renewing_session
from takestream.storage import S3Options
from workers.media.source import Source
from workers.store.objects import Objects


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("s3")) as running:
        running.make_bucket("keys")
        yield running


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of profiles, and nothing else that knows keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path / "credentials"


def profile(file: Path, key: str, secret: str) -> None:
    file.write_text(f"[lab]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")


def test_what_is_open_goes_on_with_the_keys_that_the_file_has_then(
    server: ObjectStore, aws: Path
) -> None:
    s3 = S3Options(profile="lab", endpoint_url=server.endpoint_url, patience=2.0)
    profile(aws, server.access_key, server.secret_key)
    objects = Objects("s3://keys/out", s3)
    objects.put("one", b"12345")
    source = Source("s3://keys/out/one", s3)
    assert source.read(1, 3) == b"23"
    profile(aws, "AKIAENDED", "ended")  # pragma: allowlist secret
    with pytest.raises(CredentialsError):
        source.read(0, 2)
    with pytest.raises(CredentialsError):
        objects.put("two", b"1")
    # As a mounted secret is renewed: another file at the same path.
    renewed = aws.with_name("renewed")
    profile(renewed, server.access_key, server.secret_key)
    renewed.rename(aws)
    assert source.read(0, 2) == b"12"
    objects.put("two", b"1")
    # Half a file changes nothing, nor does one that is gone for a moment.
    aws.write_text("[lab]\naws_access")
    assert source.read(0, 2) == b"12"
    aws.unlink()
    assert source.read(3, 5) == b"45"


def test_one_session_for_a_profile_and_none_where_no_file_has_its_keys(
    aws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert renewing_session("lab") is None
    profile(aws, "A", "B")
    session = renewing_session("lab")
    assert session is not None
    assert renewing_session("lab") is session
    assert renewing_session(None) is None
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert renewing_session(None) is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "C")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "D")
    monkeypatch.delenv("AWS_PROFILE")
    assert renewing_session(None) is None
