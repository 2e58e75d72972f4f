"""Metadata that lie: refused by whoever opens a store, named, before memory is taken."""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import takestream
from takestream.root import StoreFault, check_version, read_root
from takestream.storage import S3Options
from takestream.takes import find_takes
from tests.data import schema_1
from workers.store.errors import StoreError
from workers.store.takestore import TakeStore
from workers.store.verify import verify

WHOLE = json.loads((schema_1.FOLDER / "complete.zarr" / "zarr.json").read_text())
Change = Callable[[dict[str, Any]], Any]
HUGE = 10**9


def arrays(root: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = root["consolidated_metadata"]["metadata"]
    return found


def huge_everywhere(root: dict[str, Any]) -> None:
    """A lie that agrees with itself."""
    root["attributes"]["grid"]["clips"] = root["attributes"]["grid"]["frames"] = HUGE
    for metadata in arrays(root).values():
        if metadata["dimension_names"][0] == "clip":
            metadata["shape"][0] = HUGE
            if len(metadata["shape"]) == 1:
                metadata["chunk_grid"]["configuration"]["chunk_shape"] = [HUGE]


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def attribute(name: str, value: Any) -> Change:
    *path, last = name.split(".")

    def change(root: dict[str, Any]) -> None:
        found = root["attributes"]
        for part in path:
            found = found[part]
        found[last] = value

    return change


def metadata(array: str, **values: Any) -> Change:
    return lambda root: arrays(root)[array].update(values)


def chunks(array: str, *shape: int) -> Change:
    grid = {"name": "regular", "configuration": {"chunk_shape": list(shape)}}
    return metadata(array, chunk_grid=grid)


GZIP = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "gzip"}]
DAMAGES: dict[str, tuple[Change, str]] = {
    "shape of all arrays": (huge_everywhere, "clips is 1000000000"),
    "shape of features": (metadata("features", shape=[HUGE, 2, 32768]), "clips is 1000000000"),
    "negative shape": (metadata("features", shape=[-1, 2, 32768]), "clips is -1"),
    "boolean shape": (metadata("features", shape=[40, True, 32768]), "streams is True"),
    "shape of one array": (metadata("start_time", shape=[HUGE]), "start_time has shape"),
    "shape of names": (metadata("stream", shape=[HUGE]), "stream has shape"),
    "dim": (metadata("features", shape=[40, 2, 2**40]), "dim is 1099511627776"),
    "chunks of features": (chunks("features", HUGE, 1, 32768), "chunk_clips is 1000000000"),
    "chunks of valid": (chunks("valid", HUGE, 1), "unit_clips is 1000000000"),
    "chunks of times": (chunks("start_time", HUGE), "start_time has chunk_grid"),
    "chunks over streams": (chunks("features", 8, 2, 32768), "features has chunk_grid"),
    "chunks that are no grid": (metadata("features", chunk_grid=None), "no shape or chunks"),
    "no clips in a chunk": (chunks("features", 0, 1, 32768), "chunk_clips is 0"),
    "chunks that do not divide": (chunks("features", 7, 1, 32768), "do not divide"),
    "clips beyond the grid's": (attribute("grid.clips", 41), "40 clips, its grid 41"),
    "dims": (metadata("valid", dimension_names=["stream", "clip"]), "valid has dimension_names"),
    "no dims": (metadata("valid", dimension_names=None), "valid has dimension_names"),
    "text": (metadata("frame_time", data_type="string"), "frame_time has data_type"),
    "features of text": (metadata("features", data_type="string"), "features has dtype"),
    "dtype of no kind": (metadata("reason", data_type={"name": "x"}), "reason has data_type"),
    "codec": (metadata("features", codecs=GZIP), "features has codecs"),
    "codec of no kind": (metadata("features", codecs=7), "features has codecs"),
    "codec of another level": (
        lambda root: arrays(root)["valid"]["codecs"][1]["configuration"].update(level="3"),
        "valid has codecs",
    ),
    "fill": (metadata("features", fill_value=0.0), "features has fill_value"),
    "keys of chunks": (
        metadata("valid", chunk_key_encoding={"name": "v2"}),
        "valid has chunk_key_encoding",
    ),
    "unknown metadata": (metadata("valid", sharded=True), "valid has unknown metadata"),
    "an array that is none": (lambda root: arrays(root).update(valid=3), "no shape or chunks"),
    "a group for an array": (metadata("reason", node_type="group"), "reason has node_type"),
    "text for an array": (lambda root: arrays(root).update(reason="x"), "reason has metadata"),
    "arrays that are none": (
        lambda root: root["consolidated_metadata"].update(metadata=[1]),
        "no object",
    ),
    "provenance": (attribute("provenance", "x"), "provenance is not an object"),
    "provenance of streams": (attribute("provenance.streams", [1]), "not an object"),
    "provenance of one": (attribute("provenance.streams.cam01_0", 7), "not an object"),
    "size": (attribute("provenance.streams.cam01_0.size", "7"), "size is not a number"),
    "problems": (attribute("problems", [1]), "problems is not an object"),
    "problems of one": (attribute("problems.cam01_0", "text"), "not a list"),
    "a problem": (attribute("problems.cam01_0", [7]), "not text"),
    "take": (attribute("take", "x"), "take is not an object"),
    "name of the take": (attribute("take.take_name", 7), "not text"),
    "grid": (attribute("grid", 7), "grid is not an object"),
    "stride": (attribute("grid.stride", "x"), "not a number"),
    "encoder": (attribute("encoder", []), "encoder is not an object"),
    "status": (attribute("status", "done"), "status is 'done'"),
    "streams": (attribute("streams", "ab"), "streams is not a list"),
    "streams that are no text": (attribute("streams", [1, 2]), "not text"),
    "streams that are too many": (attribute("streams", ["a", "b", "c"]), "name 3"),
    "streams of one name": (attribute("streams", ["a", "a"]), "not unique"),
    "coordinates": (attribute("coordinates", 7), "coordinates is not text"),
    "an optional array that is not there": (
        attribute("coordinates", "start_frame segment_name"),
        "segment_name",
    ),
    "version 3": (attribute("schema_version", 3), "newer takestream wrote it. Update takestream"),
    "version 3.1": (attribute("schema_version", "3.1"), "Update takestream"),
    "version 0": (attribute("schema_version", 0), "extract the take again"),
    "version of no kind": (attribute("schema_version", True), "schema_version is True"),
    "version of words": (attribute("schema_version", "one"), "schema_version is 'one'"),
    "nested": (attribute("note", nested(100)), "nested too deeply"),
    "a number without end": (attribute("note", 2**70), "more than 64 bits"),
    "half a character": (attribute("note", "\ud800"), "surrogates not allowed"),
    "attributes": (lambda root: root.update(attributes=[1]), "is not a takestream store"),
    "no version": (lambda root: root["attributes"].pop("schema_version"), "schema_version"),
}
RAW = {
    "not a number": b'{"attributes": {"schema_version": NaN}}',
    "infinite": b'{"attributes": {"schema_version": 1e999}}',
    "very deep": b"[" * 100_000,
    "very long number": b"9" * 10_000,
    "no JSON": b"\xff\x00",
    "empty": b"",
    "null": b"null",
}


@pytest.fixture(autouse=True, scope="module")
def little_memory() -> Iterator[None]:
    """Whoever believes a huge shape fails at once, instead of with the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A copy of a complete store, to be damaged."""
    folder = tmp_path / schema_1.FOLDER.name / "uid-1.zarr"
    return Path(shutil.copytree(schema_1.FOLDER / "complete.zarr", folder))


def refused_by_all(store: Path, words: str) -> None:
    """Everybody who opens it says which store and what is wrong."""
    output = str(store.parents[1])
    for refuse in (
        lambda: takestream.open(store),
        lambda: find_takes(output, None, None, True, S3Options()),
    ):
        with pytest.raises(StoreFault) as reader:
            refuse()
        assert str(store) in str(reader.value)
        assert words in str(reader.value)
    with pytest.raises(StoreError) as worker:
        TakeStore.open(str(store), writable=True)
    assert str(store) in str(worker.value)
    assert words in str(worker.value)
    (fault,) = verify(str(store)).faults
    assert words in fault


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_by_all(damaged: Path, damage: str) -> None:
    change, words = DAMAGES[damage]
    root = json.loads(json.dumps(WHOLE))
    change(root)
    (damaged / "zarr.json").write_text(json.dumps(root))
    refused_by_all(damaged, words)


@pytest.mark.parametrize("damage", RAW)
def test_what_is_no_json_is_refused_by_all(damaged: Path, damage: str) -> None:
    (damaged / "zarr.json").write_bytes(RAW[damage])
    refused_by_all(damaged, "is not a takestream store, or its zarr.json is damaged")


def test_names_that_are_damaged_are_not_believed(damaged: Path) -> None:
    (damaged / "stream/c/0").unlink()
    with pytest.raises(StoreFault, match="does not hold the names"):
        takestream.open(damaged)
    (damaged / "stream/c/0").write_bytes(b"\x00" * 20)
    with pytest.raises(StoreFault, match="verify"):
        takestream.open(damaged)


def test_arrays_that_are_not_known_are_left_alone(damaged: Path) -> None:
    """A later minor version may add some; of another kind than the table's, here."""
    root = json.loads(json.dumps(WHOLE))
    other = json.loads(json.dumps(arrays(root)["start_time"]))
    other["dimension_names"], other["shape"] = ["gaze"], [HUGE]
    arrays(root)["gaze"] = other
    root["attributes"]["schema_version"] = "1.9"
    (damaged / "zarr.json").write_text(json.dumps(root))
    assert set(takestream.open(damaged).variables) == {*arrays(WHOLE), "clip", "is_ego"}
    assert verify(str(damaged)).ok


def test_the_level_of_compression_does_not_matter(damaged: Path) -> None:
    root = json.loads(json.dumps(WHOLE))
    arrays(root)["features"]["codecs"][1]["configuration"]["level"] = 9
    assert read_root(json.dumps(root).encode(), "x").sizes.clips == 40


@pytest.mark.parametrize("version", [1, "1.0", "1.1", "1.999"])
def test_versions_that_are_read(version: object) -> None:
    check_version(version, "x")


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where everything lies in a JSON value, the value itself first."""
    yield at
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*at, key))


ODD = st.sampled_from([None, True, -1, 0, 1.5, HUGE, 2**63, "", "x", [], [[]], {}, {"a": 1}])


@settings(max_examples=400, deadline=None)
@given(where=st.sampled_from(sorted(paths(WHOLE), key=repr)), value=ODD)
def test_whatever_is_put_anywhere_is_read_or_refused(where: tuple[Any, ...], value: Any) -> None:
    root = json.loads(json.dumps(WHOLE))
    if not where:
        root = value
    else:
        inner = root
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = value
    try:
        found = read_root(json.dumps(root).encode(), "somewhere")
    except StoreFault:
        return
    assert (found.sizes.clips, found.sizes.dim) == (40, 32768)
    assert len(found.streams) == 2
