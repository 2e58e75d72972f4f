"""What `verify` finds damaged is set aside; the store then equals one that was never damaged."""

import json
import shutil
from pathlib import Path

import pytest

from takestream.errors import StorageError
from tests.support.takestores import fill, make_layout
from workers.store.errors import StoreMismatch
from workers.store.takestore import TakeStore
from workers.store.verify import set_aside, verify

# dim 70,000: several chunks of features in a unit.
LAYOUT = make_layout(dim=70_000, problems={"cam01_0": ["its clock is late"]})


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    """A whole chunk, but another stream's."""
    path.write_bytes((path.parent / "2").read_bytes())


DAMAGE = {
    "features flipped": ("features/c/1/0/0", flip),
    "features cut short": ("features/c/2/1/0", lambda p: p.write_bytes(p.read_bytes()[:40])),
    "features empty": ("features/c/0/1/0", lambda p: p.write_bytes(b"")),
    "features gone": ("features/c/3/2/0", Path.unlink),
    "valid flipped": ("valid/c/1/1", flip),
    "valid gone": ("valid/c/0/0", Path.unlink),
    "valid of another stream": ("valid/c/1/0", swap),
    "reason gone": ("reason/c/2/2", Path.unlink),
    "frame_time gone": ("frame_time/c/0/1", Path.unlink),
    "coordinate gone": ("start_time/c/0", Path.unlink),
    "coordinate flipped": ("stop_frame/c/0", flip),
    "names flipped": ("stream/c/0", flip),
    "metadata of an array": ("valid/zarr.json", flip),
    "root cut short": ("zarr.json", lambda p: p.write_bytes(p.read_bytes()[:99])),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "tiny-0123456789"
    store = TakeStore.create(f"{folder}/uid.zarr", LAYOUT)
    fill(store)
    assert store.finish()
    return folder


def objects(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_set_aside_and_done_again(name: str, whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy" / whole.name)) / "uid.zarr"
    key, damage = DAMAGE[name]
    damage(copy / key)
    report = verify(str(copy))
    array = key.partition("/c/")[0]
    assert any(array in fault or name.startswith("root") for fault in report.faults), report.faults
    good = set(objects(copy)) - set(report.damaged)
    assert set_aside(report)
    kept = objects(copy)
    if not name.startswith("root"):
        assert set(kept) == good
        assert len(report.damaged) < 20
    store = TakeStore.create(str(copy), LAYOUT)
    assert store.status == "partial"
    fill(store)
    assert store.finish()
    assert verify(str(copy)).ok
    assert objects(copy) == objects(whole / "uid.zarr")


def test_a_whole_store_is_left_alone(whole: Path) -> None:
    before = objects(whole)
    assert not set_aside(verify(f"{whole}/uid.zarr"))
    assert objects(whole) == before


def test_a_store_of_a_newer_version_is_left_alone(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy" / whole.name)) / "uid.zarr"
    root = json.loads((copy / "zarr.json").read_bytes())
    root["attributes"]["schema_version"] = 9
    (copy / "zarr.json").write_text(json.dumps(root))
    before = objects(copy)
    with pytest.raises(StoreMismatch, match="Update takestream"):
        set_aside(verify(str(copy)))
    assert objects(copy) == before


def test_every_flipped_bit_of_a_chunk_is_noticed(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy" / whole.name)) / "uid.zarr"
    chunk = copy / "features/c/0/0/0"
    right = chunk.read_bytes()
    store = TakeStore.open(str(copy))
    for bit in range(0, 8 * len(right), 8 * len(right) // 97):
        data = bytearray(right)
        data[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(data)
        with pytest.raises((ValueError, RuntimeError, StorageError)):
            store.array("features")[:1, :1]
