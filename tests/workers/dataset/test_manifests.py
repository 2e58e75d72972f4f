"""Manifests as the world writes them: one path in several forms, numbers that are none, NaN."""

import contextlib
import json
import posixpath
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.release import StandIn
from workers.dataset.egoexo import EgoExo
from workers.dataset.layouts import open_dataset
from workers.dataset.manifests import path_key, read_manifest
from workers.dataset.take import DatasetError, Stream, Take

CAM = {"cam01": {"0": "k\u00fcche"}}
FOLDER = "takes/tea/frame_aligned_videos"


def only_stream(release: StandIn, folder: Path, **options: Any) -> tuple[EgoExo, Stream]:
    dataset = open_dataset(release.write(folder), **options)
    assert isinstance(dataset, EgoExo)
    ((stream,),) = (take.streams for take in dataset.takes())
    return dataset, stream


@pytest.fixture
def release() -> StandIn:
    made = StandIn()
    made.add("tea", "uni-a", CAM)
    return made


@pytest.mark.parametrize(
    "written",
    [
        f"{FOLDER}/ku\u0308che.mp4", f"{FOLDER}//k\u00fcche.mp4", f"./{FOLDER}/./k\u00fcche.mp4",
        f"/{FOLDER}/k\u00fcche.mp4", f"{FOLDER}/x/../k\u00fcche.mp4",
    ],
)  # fmt: skip
def test_a_path_in_another_form_is_the_same_path(
    release: StandIn, folder: Path, tmp_path: Path, written: str
) -> None:
    release.paths()[0].update(relative_path=written, size=10)
    mirror = tmp_path / "mirror"
    copy = mirror / posixpath.normpath(written).lstrip("/")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"x" * 10)
    dataset, stream = only_stream(release, folder, mirrors={"*": str(mirror)})
    assert (stream.uri, stream.note) == (release.paths()[0]["source_path"], "")
    assert not stream.others
    assert dataset.notes() == ()
    # The mirror has it as the manifest says, for the downloader wrote it so.
    assert dataset.nearest(stream).uri == str(copy)


@pytest.mark.parametrize("written", ["..", "../takes/tea/x.mp4", "a/../../x.mp4", "/", "", None, 5])
def test_a_path_that_leaves_the_folder_is_an_entry_that_cannot_be_used(
    release: StandIn, folder: Path, written: Any
) -> None:
    release.manifests["takes"][0]["paths"].append({**release.paths()[0], "relative_path": written})
    dataset, stream = only_stream(release, folder)
    assert stream.uri
    (note,) = dataset.notes()
    assert "1 entries cannot be used: a path of uid 'uid-tea'" in note


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_every_path_has_one_form(path: str) -> None:
    key = path_key(path)
    assert path_key(key) == key
    assert not key.startswith("/")
    for form in ("NFC", "NFD"):
        assert path_key(unicodedata.normalize(form, f"/./{path}")) == path_key(f"/./{path}")


@pytest.mark.parametrize("size", [10**15, 2**63, 10**30, 1.0, "1000", -1, True, [1]])
def test_a_size_that_no_object_has_is_named_and_not_counted(
    release: StandIn, folder: Path, size: Any
) -> None:
    release.paths()[0]["size"] = size
    _, stream = only_stream(release, folder)
    assert (stream.size, stream.note) == (None, f"the manifest gives its size as {size!r}")


def test_nan_is_null(release: StandIn, folder: Path) -> None:
    nan = float("nan")
    release.paths()[0].update(size=nan, views=nan)
    release.manifests["takes"][0].update(splits=nan, benchmarks=["pose"])
    dataset = open_dataset(release.write(folder))
    (take,) = dataset.takes()
    assert (take.splits, take.benchmarks) == (None, ("pose",))
    assert take.streams[0].uri
    assert (take.streams[0].size, take.streams[0].note) == (None, "")
    assert dataset.notes() == ()


@pytest.mark.parametrize("form", ["utf-16", "utf-8-sig"])
def test_other_encodings(release: StandIn, folder: Path, form: str) -> None:
    root = release.write(folder)
    manifest = folder / "takes" / "manifest.json"
    manifest.write_bytes(json.dumps(release.manifests["takes"], ensure_ascii=False).encode(form))
    ((stream,),) = (take.streams for take in open_dataset(root).takes())
    assert stream.uri


def test_entries_of_one_uid_are_taken_together(release: StandIn, folder: Path) -> None:
    entries = release.manifests["takes"]
    entries[0].update(splits=["train"], benchmarks=["pose"])
    entries.append({"uid": "uid-tea", "paths": [], "splits": ["val", "train"], "benchmarks": None})
    (take,) = open_dataset(release.write(folder)).takes()
    assert (take.splits, take.benchmarks) == (("train", "val"), None)


def test_what_a_manifest_says_is_safe_to_print(release: StandIn, folder: Path) -> None:
    paths = release.manifests["takes"][0]["paths"]
    paths.append({**paths[0], "source_path": "s3://other/\x1b[31m\u202e"})
    release.manifests["takes"].append({"uid": "gone\n\x1b[2J", "paths": []})
    dataset, stream = only_stream(release, folder)
    assert "two objects" in stream.note
    assert all(said.isprintable() for said in (stream.note, *dataset.notes()))


def test_two_streams_of_one_key_are_named(tmp_path: Path) -> None:
    def video(name: str) -> dict[str, Any]:
        return {"relative_path": f"{name}.mp4"}

    videos = {"cam": {"1_0": video("a")}, "cam_1": {"0": video("b")}}
    entry = {"take_uid": "a", "root_dir": "takes/a", "frame_aligned_videos": videos}
    (tmp_path / "takes.json").write_text(json.dumps([entry]))
    ((stream,),) = (take.streams for take in EgoExo(str(tmp_path)).takes())
    assert str(stream.uri).endswith("a.mp4")
    assert stream.note == "stream 0 of camera cam_1 has the same key; it is left out"
    manifest = [{"uid": "a", "paths": [
        {"relative_path": f"takes/a/{name}.mp4", "source_path": f"s3://bucket/{name}", "size": "1"}
        for name in "ab"
    ]}]  # fmt: skip
    (tmp_path / "takes").mkdir()
    (tmp_path / "takes" / "manifest.json").write_text(json.dumps(manifest))
    ((stream,),) = (take.streams for take in EgoExo(str(tmp_path)).takes())
    assert stream.uri == "s3://bucket/a"
    assert "has the same key; it is left out; the manifest gives its size as '1'" in stream.note


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["source_path", "relative_path", "size", "views", "universities"])


@settings(max_examples=300, deadline=None)
@example({}, "\ud800", {})
@example({"size": float("nan"), "views": 10**80}, "\ud800", {"a": "\ud800"})
@given(st.dictionaries(fields, anything), anything, st.dictionaries(st.text(max_size=3), anything))
def test_whatever_an_entry_holds_the_others_are_read(
    odd: dict[str, Any], uid: Any, more: dict[str, Any]
) -> None:
    good = {"relative_path": "takes/a/b.mp4", "source_path": "s3://bucket/k", "size": 5}
    entries = [more, {"uid": uid, "paths": [odd]}, uid, {"uid": "last", "paths": [odd, good]}]
    manifest = read_manifest(json.dumps(entries).encode(), "takes", "m.json")
    assert "last" in manifest.groups
    assert all(said.isprintable() for said in manifest.odd)
    for path, file in manifest.files.items():
        assert path == path_key(path)
        assert file.size is None or 0 <= file.size <= 50 * 10**12
        assert file.source is None or file.source.startswith("s3://")
    if odd.get("relative_path") != good["relative_path"]:
        assert manifest.files["takes/a/b.mp4"].source == "s3://bucket/k"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_a_sentence(data: bytes) -> None:
    with contextlib.suppress(DatasetError):
        assert read_manifest(data, "takes", "m.json").files == {}


def test_takes_may_share_a_video(release: StandIn, folder: Path) -> None:
    other = {**release.takes[0], "take_uid": "uid-copy"}
    release.takes.append(other)
    takes: list[Take] = open_dataset(release.write(folder)).takes()
    assert len({take.streams[0].uri for take in takes}) == 1
    assert [take.uid for take in takes] == ["uid-tea", "uid-copy"]


GOOD = {"take_uid_to_split": {"uid-tea": "val"}, "take_uid_to_benchmark": {"uid-tea": ["pose"]}}


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16"])
def test_splits_in_other_encodings_and_with_nan(release: StandIn, folder: Path, form: str) -> None:
    release.manifests["takes"][0].update(splits=None, benchmarks=None)
    release.splits = {**GOOD, "note": float("nan")}
    root = release.write(folder)
    (folder / "annotations" / "splits.json").write_text(json.dumps(release.splits), form)
    (take,) = open_dataset(root, annotated=True).takes()
    assert (take.splits, take.benchmarks) == (("val",), ("pose",))


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 10_000, b'{"a": ', b"[]"])
def test_splits_that_cannot_be_read_cost_themselves(
    release: StandIn, folder: Path, data: bytes
) -> None:
    release.splits = GOOD
    root = release.write(folder)
    (folder / "annotations" / "splits.json").write_bytes(data)
    dataset = open_dataset(root)
    assert dataset.takes()[0].streams[0].uri
    (note,) = dataset.notes()
    assert "splits.json: " in note
    assert note.endswith("what it says of takes is left out")
    with pytest.raises(DatasetError, match=r"splits\.json: "):
        open_dataset(root, annotated=True).takes()
