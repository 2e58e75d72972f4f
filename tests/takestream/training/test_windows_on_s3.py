"""Windows over stores on S3, read by forked workers."""

import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from torch.utils.data import DataLoader

import takestream
from service.demo.s3server import ObjectStore
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
