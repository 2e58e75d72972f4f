"""Windows over stores on S3, read by forked workers."""

import os
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from torch.utils.data import DataLoader

import takestream
from service.demo.s3server import ObjectStore
from takestream.access import forget
from takestream.storage import S3Options
from tests.takestream.training.test_windows import all_windows, check, shown, write


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    with ObjectStore(tmp_path / "s3") as server:
        for name, value in server.environment({}).items():
            monkeypatch.setenv(name, value)
        yield server.make_bucket("features"), server.endpoint_url


@pytest.mark.e2e
def test_from_s3_by_forked_workers(bucket: tuple[str, str]) -> None:
    root, endpoint = bucket
    for uid in ("uid-a", "uid-b"):
        write(root, uid, s3=S3Options(endpoint_url=endpoint))
    windows = takestream.Windows(root, length=8, endpoint_url=endpoint)
    expected = Counter({key: n for key, n in all_windows(8, 8).items() if key[0] != "uid-c"})
    assert Counter(shown(windows)) == expected  # with threads and loops that a fork would lose
    # A worker must not close the connections of this process by forgetting who has them.
    ours = [weakref.ref(files) for files in s3fs.S3FileSystem._cache.values()]

    def and_ours(sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {"ours": len(ours) > 0 and all(files() is not None for files in ours)}

    found = list(DataLoader(windows, batch_size=None, num_workers=2, collate_fn=and_ours))
    assert all(sample["ours"] for sample in found)
    assert Counter(shown(found)) == expected
    for sample in found:
        check(sample, windows.streams)


@pytest.mark.e2e
@pytest.mark.slow
def test_keys_that_were_wrong_are_read_anew(
    bucket: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, endpoint = bucket
    write(root, "uid-a", s3=S3Options(endpoint_url=endpoint))
    reads: list[Callable[..., Any]] = [
        lambda **how: takestream.open(root, "uid-a", endpoint_url=endpoint, **how),
        lambda **how: takestream.open(root, endpoint_url=endpoint, **how),
        lambda **how: takestream.ls(root, endpoint_url=endpoint, **how),
        lambda **how: list(takestream.Windows(root, endpoint_url=endpoint, **how)),
    ]
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    right = {name: os.environ[name] for name in names}
    profile = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for read in reads:
        forget()
        for name in names:
            monkeypatch.delenv(name)
        with pytest.raises(PermissionError, match=r"no usable credentials.*anon=True"):
            read()
        for name in names:
            monkeypatch.setenv(name, "wrong")
        with pytest.raises(PermissionError, match="does not accept the credentials"):
            read()
        for name, value in right.items():
            monkeypatch.setenv(name, value)
        assert len(read()) > 0
        profile.write_text("[me]\naws_access_key_id=x\naws_secret_access_key=y\n")
        with pytest.raises(PermissionError, match="profile me"):
            read(profile="me")
        lines = (f"{name.lower()}={value}\n" for name, value in right.items())
        profile.write_text("[me]\n" + "".join(lines))
        assert len(read(profile="me")) > 0


@pytest.mark.e2e
@pytest.mark.slow
def test_keys_renewed_while_someone_trains(
    bucket: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, endpoint = bucket
    write(root, "uid-a", s3=S3Options(endpoint_url=endpoint))
    windows = takestream.Windows(root, endpoint_url=endpoint)
    right = os.environ["AWS_SECRET_ACCESS_KEY"]
    forget()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "old")
    with pytest.raises(PermissionError, match="access denied"):
        list(windows)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", right)
    assert len(list(windows)) == len(windows)


@pytest.mark.e2e
def test_without_keys_nothing_is_signed(
    bucket: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, endpoint = bucket
    write(root, "uid-a", s3=S3Options(endpoint_url=endpoint))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(PermissionError, match="access denied"):  # a bucket that is not public
        takestream.open(root, "uid-a", endpoint_url=endpoint, anon=True)
