"""Finishing, resetting and removing; attributes; killed writers; errors of the storage."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import s3fs

from takestream.errors import (
    CredentialsError,
    ErrorKind,
    InvalidStorage,
    StorageDenied,
    StorageNotFound,
    StorageUnavailable,
)
from takestream.storage import S3Options, translated
from tests.support.takestores import STREAMS, fill, make_layout, unit_of
from workers.store.gap import Gap
from workers.store.objects import Objects, probe_writable
from workers.store.takestore import TakeStore
from workers.store.verify import verify


def test_finish_counts_reasons_once_and_keeps_what_was_known(tmp_path):
    layout = make_layout(["a_0", "b_0"], clips=8, problems={"b_0": ["3 frames short"]})
    store = TakeStore.create(f"{tmp_path}/t.zarr", layout)
    assert not store.finish()
    for stream, reasons in (("a_0", [0] * 8), ("b_0", [0, 6, 5, 6, 0, 4, 4, 4])):
        reason = np.array(reasons, np.uint8)
        store.write(
            stream,
            0,
            features=np.ones((8, 5)),
            valid=reason == 0,
            frame_time=np.zeros(8),
            reason=reason,
        )
    assert store.finish()
    counted = (
        "6 of 8 clips are invalid: 3 past the end of the stream, 1 with a missing frame,"
        " 2 with a damaged frame"
    )
    assert store.attributes["problems"] == {"b_0": ["3 frames short", counted]}
    TakeStore.create(store.uri, make_layout(["c_0"], clips=8))
    fill(store := TakeStore.open(store.uri, writable=True))
    assert store.finish()
    assert store.attributes["problems"]["b_0"] == ["3 frames short", counted]


def test_a_reset_stream_is_extracted_again_and_the_others_are_not(place):
    uri, s3 = place
    provenance = {"streams": {name: {"etag": "old"} for name in STREAMS}}
    layout = make_layout(provenance=provenance, problems={"cam01_0": ["odd"]})
    store = TakeStore.create(uri, layout, s3)
    fill(store)
    assert store.finish()
    store.reset("cam01_0")
    assert store.status == "partial"
    assert {gap.streams for gap in store.missing()} == {("cam01_0",)}
    reopened = TakeStore.open(uri, s3, writable=True)
    assert set(reopened.attributes["provenance"]["streams"]) == set(STREAMS[:2])
    assert "cam01_0" not in reopened.attributes["problems"]
    assert not [key for key in Objects(uri, s3).listing() if key.startswith("valid/c/0/2")]
    reopened.update_attributes(provenance={"streams": {"cam01_0": {"etag": "new"}}})
    fill(reopened, seed=1)
    assert reopened.finish()
    etags = TakeStore.open(uri, s3).attributes["provenance"]["streams"]
    assert [etags[name]["etag"] for name in STREAMS] == ["old", "old", "new"]


def test_a_reset_cut_short_leaves_no_unit_that_looks_done(tmp_path, monkeypatch):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout())
    fill(store)
    assert store.finish()
    deleted = []

    def one_then_die(self, keys):
        deleted.extend(keys)
        raise KeyboardInterrupt

    monkeypatch.setattr(Objects, "delete_many", one_then_die)
    with pytest.raises(KeyboardInterrupt):
        store.reset("cam01_0")
    assert all(key.startswith("features/") for key in deleted)
    assert len(deleted) == 3
    assert TakeStore.open(store.uri).status == "partial"


def test_a_store_is_removed_and_another_takes_its_place(place):
    uri, s3 = place
    store = TakeStore.create(uri, make_layout(), s3)
    fill(store)
    store.finish()
    store.remove()
    assert Objects(uri, s3).listing() == set()
    assert TakeStore.create(uri, make_layout(clips=9), s3).clips == 9


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_removal_cut_short_can_be_repeated(tmp_path, monkeypatch, survived):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout())
    fill(store)
    store.finish()
    delete, count = Objects.delete_many, itertools.count()

    def dying(self, keys):
        if next(count) >= survived:
            raise KeyboardInterrupt
        delete(self, keys)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "delete_many", dying)
        with pytest.raises(KeyboardInterrupt):
            store.remove()
    left = TakeStore.open(store.uri, writable=True)
    assert left.status == "partial"
    left.remove()
    assert TakeStore.create(store.uri, make_layout(clips=9)).missing()[0] == Gap(0, 8, STREAMS)


def test_update_attributes_merges_and_protects(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(encoder={"name": "e", "dim": 5}))
    TakeStore.open(store.uri, writable=True).update_attributes(encoder={"weights": "w"})
    store.update_attributes(note="hello")
    assert TakeStore.open(store.uri).attributes["encoder"] == {
        "name": "e",
        "dim": 5,
        "weights": "w",
    }
    with pytest.raises(ValueError, match="status"):
        store.update_attributes(status="complete")


_WRITER = """
import sys
import numpy as np
from workers.store.takestore import TakeStore
store = TakeStore.open(sys.argv[1], writable=True)
rng = np.random.default_rng(0)
for gap in store.missing():
    for stream in gap.streams:
        n = gap.stop - gap.start
        print(gap.start, stream, flush=True)
        store.write(stream, gap.start, features=rng.normal(size=(n, store.dim)),
                    valid=np.ones(n, bool), frame_time=np.zeros(n), reason=np.zeros(n, np.uint8))
"""


def test_a_killed_writer_leaves_whole_chunks_or_none(tmp_path):
    layout = make_layout(clips=1200, unit=300, dim=1500, streams=STREAMS[:2])
    store = TakeStore.create(f"{tmp_path}/t.zarr", layout)
    root = Path(__file__).parents[3]
    for i in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, store.uri],
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        with child, child.stdout as lines:
            announced = [lines.readline()]
            if announced[0]:
                announced.append(lines.readline())
            time.sleep(0.011 * i)
            child.send_signal(signal.SIGKILL)
            announced += lines.readlines()
        announced = [line.decode().split() for line in announced if line.strip()]
        faults = [fault for fault in verify(store.uri).faults if "missing" not in fault]
        assert faults == ["status is partial; `takestream extract` resumes"]
        # Everything announced before the last unit was returned from, so it is there.
        open_units = {(str(gap.start), s) for gap in store.missing() for s in gap.streams}
        assert not open_units & {tuple(line) for line in announced[:-1]}
    fill(store)
    assert store.finish()
    assert verify(store.uri).ok


def _write_every(uri, part):
    store = TakeStore.open(uri, writable=True)
    for gap in store.missing():
        if gap.start // store.unit_clips % 3 == part:
            for stream in gap.streams:
                store.write(stream, gap.start, **unit_of(store, stream, gap.start))


def test_three_processes_write_one_store(tmp_path):
    store = TakeStore.create(f"{tmp_path}/t.zarr", make_layout(clips=60, unit=5))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import importlib.util as u; s = u.spec_from_file_location('t', sys.argv[2]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "m._write_every(sys.argv[3], int(sys.argv[4]))"
    )
    root = str(Path(__file__).parents[3])
    children = [
        subprocess.Popen([sys.executable, "-c", code, root, __file__, store.uri, str(part)])
        for part in range(3)
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert store.finish()
    for stream in STREAMS:
        for start in range(0, 60, 5):
            valid = unit_of(store, stream, start)["valid"]
            there = store.array("valid")[start : start + 5, STREAMS.index(stream)]
            assert there.tolist() == valid.tolist()


def test_probe_writable_leaves_nothing(place):
    uri, s3 = place
    probe_writable(uri, s3)
    assert Objects(uri, s3).listing() == set()


def test_probe_writable_says_what_is_wrong(tmp_path, s3, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageNotFound, match=r"cannot write to .*/file/out"):
        probe_writable(f"{tmp_path}/file/out")
    # SeaweedFS makes a bucket at the first PUT, so that one error is made up.
    with (
        pytest.raises(StorageNotFound, match=r"cannot write to s3://no/x: .*does the bucket exist"),
        translated("s3://no/x", "write to"),
    ):
        raise FileNotFoundError("The specified bucket does not exist")
    with pytest.raises(InvalidStorage, match="cannot open nosuch://x"):
        probe_writable("nosuch://x/y")
    dead = S3Options(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StorageUnavailable, match=r"cannot write to .*endpoint"):
        probe_writable(s3.uri, dead)
    with pytest.raises(CredentialsError, match="profile"):
        probe_writable(s3.uri, S3Options(profile="no-such", endpoint_url="http://127.0.0.1:9"))


def test_a_wrong_secret_is_told_as_such(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(CredentialsError, match="credentials"):
            probe_writable(s3.uri, s3.options)
        with pytest.raises(CredentialsError, match="credentials"):
            TakeStore.open(f"{s3.uri}/t.zarr", s3.options)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_plain_denial(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageDenied, match="no permission") as caught:
        probe_writable(f"{tmp_path}/out")
    assert caught.value.kind is ErrorKind.UNWRITABLE
