"""Stores that are not what they were, or not whole: never another number without a word."""

import json
from pathlib import Path

import pytest

import takestream
from tests.takestream.training.test_windows import EXO, write


def test_names_decide_and_never_their_order_alone(tmp_path: Path) -> None:
    uri = Path(write(str(tmp_path), "uid-a").uri)
    root = json.loads((uri / "zarr.json").read_bytes())
    root["attributes"]["streams"].reverse()
    (uri / "zarr.json").write_text(json.dumps(root))
    windows = takestream.Windows(tmp_path, streams=EXO)
    with pytest.raises(ValueError, match="does not hold the names in its attributes"):
        list(windows)


def test_a_store_that_is_written_again_is_noticed(tmp_path: Path) -> None:
    store = write(str(tmp_path), "uid-a")
    windows = takestream.Windows(tmp_path)
    assert list(windows)
    store.reset(EXO)
    with pytest.raises(ValueError, match="was complete and is being written again"):
        list(windows)
    store.update_attributes(provenance={"streams": {EXO: {"etag": "another"}}})
    write(str(tmp_path), "uid-a")
    with pytest.raises(ValueError, match="extracted again from other videos"):
        list(windows)
    assert list(takestream.Windows(tmp_path))


@pytest.mark.parametrize(
    ("lost", "words"), [("valid/c/0/1", "chunks of valid"), ("end_time/c/0", "times of clips")]
)
def test_what_a_copy_lacks_is_no_value(tmp_path: Path, lost: str, words: str) -> None:
    uri = Path(write(str(tmp_path), "uid-c").uri)
    (uri / lost).unlink()
    with pytest.raises(ValueError, match=f"{words}.*are missing"):
        list(takestream.Windows(tmp_path))
