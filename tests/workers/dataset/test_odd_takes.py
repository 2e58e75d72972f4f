"""takes.json and keys as the world writes them: one odd take costs at most itself, and is named."""

import contextlib
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import Selection
from workers.dataset.base import object_sizes, source_of
from workers.dataset.egoexo import EgoExo, read_takes
from workers.dataset.selection import select
from workers.dataset.take import DatasetError
from workers.dataset.words import clean, is_plain_name

NAN = float("nan")
VIDEOS = {"cam01": {"0": {"relative_path": "frame_aligned_videos/cam01.mp4"}}}


def take(uid: Any, **more: Any) -> dict[str, Any]:
    facts = {"take_uid": uid, "take_name": uid, "root_dir": "takes/a", "duration_sec": 1.1}
    return {**facts, "frame_aligned_videos": VIDEOS, "capture": None, **more}


def written(root: Path, entries: Any) -> tuple[list[Any], tuple[str, ...]]:
    """The takes of a data set with these entries, and what is said about it."""
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    (root / "takes.json").write_bytes(raw)
    dataset = EgoExo(str(root))
    return dataset.takes(), dataset.notes()


@pytest.mark.parametrize(
    "odd",
    [
        {"duration_sec": NAN}, {"duration_sec": float("inf")}, {"duration_sec": 10**400},
        {"duration_sec": -1}, {"duration_sec": True}, {"duration_sec": "4"},
        {"task_name": NAN, "university_name": [1], "best_exo": {}, "validated": NAN},
        {"capture": NAN}, {"capture": "x"}, {"capture": {"cameras": {"a": 1}}},
        {"capture": {"cameras": [{"cam_id": ["x"], "is_ego": NAN}, 5]}},
        {"root_dir": NAN}, {"take_name": NAN}, {"is_narrated": "maybe"},
        {"frame_aligned_videos": NAN}, {"frame_aligned_videos": {"cam01": NAN}},
        {"frame_aligned_videos": {"cam01": {"0": {"relative_path": NAN}}}},
    ],
)  # fmt: skip
def test_a_fact_of_a_wrong_kind_is_a_missing_fact(tmp_path: Path, odd: dict[str, Any]) -> None:
    takes, notes = written(tmp_path, [take("a"), take("b", **odd), take("c")])
    assert ([one.uid for one in takes], notes) == (["a", "b", "c"], ())
    assert takes[0].streams[0].uri == takes[2].streams[0].uri is not None
    assert takes[1].duration in (None, 1.1)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (b"null", "a take is a JSON object, found None"),
        (b"[1]", "a take is a JSON object"),
        (b'{"take_uid": null}', "no usable take_uid"),
        (rb'{"take_uid": "x\ud83d"}', "no usable take_uid"),
        (rb'{"take_uid": "x\u001b[31m"}', "no usable take_uid"),
        (b'{"take_uid": "b "}', "no usable take_uid"),
        (b'{"take_uid": "' + b"u" * 300 + b'"}', "no usable take_uid"),
        (b'{"take_uid": "\xff"}', "not valid JSON"),
        (b'{"take_uid": "b", "frame_aligned_videos": "cam01"}', "frame_aligned_videos is 'cam01'"),
        (b'{"take_uid": "c", "take_name": "another"}', "take_uid c stands there more than once"),
    ],
)
def test_an_entry_that_is_no_take_costs_itself(tmp_path: Path, odd: bytes, words: str) -> None:
    first, last = (json.dumps(take(uid)).encode() for uid in "ac")
    takes, notes = written(tmp_path, b"[" + first + b", " + odd + b", " + last + b"]")
    assert [one.uid for one in takes] == (["a"] if b'"c"' in odd else ["a", "c"])
    (note,) = notes
    assert words in note
    assert note.isprintable()


def test_the_same_entry_twice_is_one_take(tmp_path: Path) -> None:
    takes, notes = written(tmp_path, [take("a"), take("b"), take("a")])
    assert ([one.uid for one in takes], notes) == (["a", "b"], ())


def test_many_odd_entries_are_counted(tmp_path: Path) -> None:
    _, notes = written(tmp_path, [take("a"), *([5] * 40)])
    assert len(notes) < 10
    assert "35 more entries" in notes[-1]


def test_names_are_shown_on_one_line_and_found_as_they_are_written(tmp_path: Path) -> None:
    name = "line\nbreak \x1b[31mred\x1b[0m e\u0301\u202e"
    takes, _ = written(tmp_path, [take("e\u0301", take_name=name, task_name="a\tb")])
    assert takes[0].name.isprintable()
    assert takes[0].name == clean(name)
    assert takes[0].task == "a b"
    for chosen in (name, clean(name)):
        assert select(takes, Selection(take_names=(chosen,))) == takes
    for uid in ("e\u0301", "\u00e9"):
        assert select(takes, Selection(uids=(uid,))) == takes


@pytest.mark.parametrize("form", ["utf-16", "utf-32", "utf-8-sig"])
def test_other_encodings_of_json_are_read(tmp_path: Path, form: str) -> None:
    takes, _ = written(tmp_path, json.dumps([take("a", task_name="é")]).encode(form))
    assert takes[0].task == "é"


@pytest.mark.parametrize(
    ("listed", "key"),
    [
        ("x//cam01.mp4", "x//cam01.mp4"),
        ("x//cam01.mp4", "x/cam01.mp4"),
        ("./x/./cam01.mp4", "x/cam01.mp4"),
        ("./x/cam01.mp4", "./x/cam01.mp4"),
        ("k\u00fcche.mp4", "ku\u0308che.mp4"),
        ("ku\u0308che.mp4", "k\u00fcche.mp4"),
        ("ku\u0308che.mp4", "ku\u0308che.mp4"),
    ],
)
def test_a_key_in_another_form_is_found(listed: str, key: str) -> None:
    root = f"memory://odd-keys/{abs(hash((listed, key)))}"
    memory = fsspec.filesystem("memory")
    videos = {"cam01": {"0": {"relative_path": listed}}}
    entries = json.dumps([take("a", frame_aligned_videos=videos)]).encode()
    below = root.removeprefix("memory:/")
    memory.pipe_file(f"{below}/takes.json", entries)
    # Not `pipe_file`, which has a normal form of its own for keys.
    path = f"{below}/takes/a/{key}"
    memory.store[path] = MemoryFile(memory, path, b"12345")
    dataset = EgoExo(root)
    takes = dataset.takes()
    (stream,) = takes[0].streams
    source = source_of(dataset, stream)
    assert source.identity().size == 5
    assert source.read(0, 5) == b"12345"


def test_symbolic_links_are_what_they_lead_to(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    folder = tmp_path / "takes/a/frame_aligned_videos"
    blobs.mkdir()
    folder.mkdir(parents=True)
    (blobs / "one").write_bytes(b"12345")
    videos = {name: {"0": {"relative_path": f"frame_aligned_videos/{name}.mp4"}} for name in "xyz"}
    (folder / "x.mp4").symlink_to(blobs / "one")
    (folder / "y.mp4").symlink_to(blobs / "gone")
    (folder / "z.mp4").write_bytes(b"123")
    takes, _ = written(tmp_path, [take("a", frame_aligned_videos=videos)])
    dataset = EgoExo(str(tmp_path))
    assert list(object_sizes(takes).values()) == [5, None, 3]
    x, y, _ = (source_of(dataset, stream) for stream in takes[0].streams)
    before = x.identity()
    assert before.size == 5
    with pytest.raises(FileNotFoundError):
        y.identity()
    # Another content of the file that the link leads to is another version.
    os.utime(blobs / "one", (1, 1))
    assert source_of(dataset, takes[0].streams[0]).identity() != before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_gets_the_list(tmp_path: Path, encoding: str) -> None:
    written(tmp_path, [take("a", take_name="Küche 🍳 台所"), take("b", take_name="x\ud83d")])
    done = subprocess.run(
        [sys.executable, "-m", "takestream", "takes", str(tmp_path)],
        env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"2 takes, 2 streams, 0.0 MB\n")
    assert b"K" in done.stdout
    assert b"\x1b" not in done.stdout


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
no_table = anything.filter(lambda value: not isinstance(value, dict))
facts = st.sampled_from([*take("x"), "best_exo", "is_narrated", "validated", "task_name"])


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(facts, anything, max_size=6), anything.filter(lambda a: not isinstance(a, dict))
)
def test_whatever_an_entry_holds_the_others_are_read(
    tmp_path_factory: pytest.TempPathFactory, odd: dict[str, Any], other: Any
) -> None:
    root = tmp_path_factory.mktemp("odd")
    entries = [take("a"), {**take("b"), **odd}, {**take("d"), "capture": other}, other, take("c")]
    (root / "takes.json").write_text(json.dumps(entries))
    said: list[str] = []
    takes = read_takes(str(root), odd=said)
    assert {uid for uid in "ac" if odd.get("take_uid") != uid} <= {one.uid for one in takes}
    for one in takes:
        assert is_plain_name(one.uid)
        for word in (one.name, one.task, one.university, one.capture, one.best_exo):
            assert word is None or word == unicodedata.normalize("NFC", word) == clean(word)
        for stream in one.streams:
            assert stream.uri is None or stream.uri.startswith(f"{root}/")
    assert all(line == clean(line) for line in said)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_list_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    root = tmp_path_factory.mktemp("bytes")
    (root / "takes.json").write_bytes(data)
    with contextlib.suppress(DatasetError):
        assert read_takes(str(root)) == []
