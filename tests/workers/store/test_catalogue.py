"""The catalogue: as the stores are, whoever was writing; and never a take hidden."""

import json
from pathlib import Path

import pandas
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import takestream
from takestream import catalogue, schema
from takestream.schema import Reason
from takestream.storage import S3Options
from tests.support.stores import make_store
from tests.support.takestores import fill, make_layout
from workers.store.catalogue import refresh, refresh_output, table_of
from workers.store.objects import Objects
from workers.store.takestore import TakeStore

ENCODER = "tiny-0123456789"


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out put") if request.param == "local" else f"memory://{tmp_path.name}"


def made(output: str, *uids: str) -> str:
    for uid in uids:
        make_store(output, ENCODER, uid, f"take {uid}")
    return f"{output}/{ENCODER}"


def by_uid(output: str) -> dict[str, dict[str, object]]:
    return {row["take_uid"]: row for row in takestream.ls(output).to_dict("records")}


def test_a_table_that_is_right_saves_reading_the_stores(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(output, "a", "b", "c")
    without = takestream.ls(output)
    first = refresh(folder, S3Options())
    assert (first.written, first.read, len(first.rows)) == (True, 3, 3)
    again = refresh(folder, S3Options())
    assert (again.written, again.read) == (False, 0)
    read: list[str] = []
    real = catalogue.read_roots
    monkeypatch.setattr(
        catalogue, "read_roots", lambda uris, s3: (read.extend(uris), real(uris, s3))[1]
    )
    table = takestream.ls(output)
    assert not read
    assert list(table.take_uid) == ["a", "b", "c"]
    assert set(table.status) == {"complete"}
    assert list(table.valid_clips) == [6, 6, 6]
    assert (table["bytes"] > 1000).all()
    # Without a table everything is the same, but for what only a listing tells.
    pandas.testing.assert_frame_equal(
        table.drop(columns="bytes"), without.drop(columns="bytes"), check_dtype=True
    )
    assert table.explode(["streams", "valid"]).shape[0] == 6


def test_what_is_new_partial_changed_or_gone_is_seen_at_once(output: str) -> None:
    folder = made(output, "a", "b", "c")
    refresh(folder, S3Options())
    made(output, "d")
    changed = TakeStore.open(f"{folder}/a.zarr", writable=True)
    changed.mark_partial()
    TakeStore.open(f"{folder}/b.zarr", writable=True).note("cam01_0", "it is out of focus")
    TakeStore.open(f"{folder}/c.zarr", writable=True).remove()
    now = by_uid(output)
    assert {uid: row["status"] for uid, row in now.items()} == {
        "a": "partial", "b": "complete", "d": "complete",
    }  # fmt: skip
    assert now["b"]["problems"] == [None, "it is out of focus"]
    assert now["a"]["valid"] == [None, None]
    assert refresh(folder, S3Options()).read == (4 if output.startswith("/") else 3)
    # Its marks are gone, and the partial store is still looked at.
    assert not catalogue.changes_in(folder, S3Options())
    assert changed.finish()
    assert by_uid(output)["a"]["status"] == "complete"


def test_a_change_while_the_table_is_written_stays_marked(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(output, "a")
    refresh(folder, S3Options())
    made(output, "b")
    real = table_of

    def meanwhile(rows):
        monkeypatch.setattr("workers.store.catalogue.table_of", real)
        TakeStore.open(f"{folder}/a.zarr", writable=True).mark_partial()
        return real(rows)

    monkeypatch.setattr("workers.store.catalogue.table_of", meanwhile)
    refresh(folder, S3Options())
    assert by_uid(output)["a"]["status"] == "partial"


def test_of_two_writers_none_undoes_the_other(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(output, "a")
    real = table_of

    def meanwhile(rows):
        monkeypatch.setattr("workers.store.catalogue.table_of", real)
        made(output, "b")
        assert len(refresh(folder, S3Options()).rows) == 2
        return real(rows)

    monkeypatch.setattr("workers.store.catalogue.table_of", meanwhile)
    assert len(refresh(folder, S3Options()).rows) == 2
    assert len(catalogue.read_table(folder, S3Options())) == 2


def test_a_damaged_store_or_table_hides_nothing(output: str) -> None:
    folder = made(output, "a", "b")
    Objects(folder).put("b.zarr/zarr.json", b"{}")
    (one,) = refresh_output(output, S3Options())
    assert [row["status"] for row in one.rows] == ["complete", "damaged"]
    assert "is not a takestream store" in by_uid(output)["b"]["problems"][0]
    Objects(folder).put(catalogue.NAME, b"no table")
    assert set(by_uid(output)) == {"a", "b"}
    assert refresh(folder, S3Options()).written
    assert len(catalogue.read_table(folder, S3Options())) == 2


def test_rebuild_believes_nothing(output: str) -> None:
    folder = made(output, "a")
    (row,) = refresh(folder, S3Options()).rows
    Objects(folder).put(catalogue.NAME, table_of([{**row, "take_name": "wrong"}]))
    assert by_uid(output)["a"]["take_name"] == "wrong"
    (again,) = refresh_output(output, S3Options(), rebuild=True)
    assert (again.written, again.read) == (True, 1)
    assert by_uid(output)["a"]["take_name"] == "take a"


def test_counts_and_sources(tmp_path: Path) -> None:
    facts = {"uri": "s3://b/x.mp4", "etag": '"e"', "size": 12}
    attributes = {
        "provenance": {"streams": {"cam01_0": facts}, "resolution": "448"},
        "encoder": {"sha256": "ab" * 32},
    }
    store = TakeStore.create(f"{tmp_path}/{ENCODER}/u.zarr", make_layout(**attributes))
    fill(store)
    assert store.finish()
    invalid = (store.array(schema.REASON)[:] > 0).sum(axis=0)
    (row,) = takestream.ls(tmp_path).to_dict("records")
    assert row["valid"] == [23 - n for n in invalid]
    assert row["invalid_clips"] == invalid.sum() > 0
    assert row["etags"] == [None, None, '"e"']
    assert row["sizes"] == [None, None, 12]
    assert row["weights_sha256"] == "ab" * 32
    assert (row["window"], row["stride"], row["fps"]) == (32, 16, 30.0)


def test_licences_are_columns_and_change_no_digest(tmp_path: Path) -> None:
    encoder = {"sha256": "ab" * 32, "licence": "MIT", "source": "https://example.org/net"}
    licence = {"name": "terms", "url": "https://example.org/terms"}
    said: dict[str, dict[str, object]] = {
        "none": {"encoder": {"sha256": "ab" * 32, "source": "https://example.org/net"}},
        "both": {"encoder": encoder, "dataset_licence": licence},
    }
    for uid, attributes in said.items():
        TakeStore.create(f"{tmp_path}/{ENCODER}/{uid}.zarr", make_layout(**attributes))
    both, none = takestream.ls(tmp_path).sort_values("take_uid").to_dict("records")
    assert (both["dataset_licence"], both["dataset_licence_url"]) == tuple(licence.values())
    assert both["encoder_licence"] == "MIT"
    assert pandas.isna([none["dataset_licence"], none["encoder_licence"]]).all()
    assert both["provenance_sha256"] == none["provenance_sha256"]


def test_anything_that_reads_parquet_reads_it(tmp_path: Path) -> None:
    folder = made(str(tmp_path), "a", "b")
    refresh(folder, S3Options())
    file = f"{folder}/{catalogue.NAME}"
    assert list(pandas.read_parquet(file).take_name) == ["take a", "take b"]
    table = pyarrow.parquet.read_table(file)
    assert table.schema.names == list(catalogue.COLUMNS)
    assert str(table.schema.field("valid").type).startswith("list<")


def test_an_output_that_was_moved_names_its_stores_where_they_are(tmp_path: Path) -> None:
    refresh(made(str(tmp_path / "old"), "a"), S3Options())
    (tmp_path / "old").rename(tmp_path / "new")
    (row,) = takestream.ls(tmp_path / "new").to_dict("records")
    assert row["store"] == str(tmp_path / "new" / ENCODER / "a.zarr")
    with pytest.raises(FileNotFoundError, match="nothing of encoder 'clip'"):
        takestream.ls(tmp_path / "new", encoder="clip")


@given(st.dictionaries(st.sampled_from(list(Reason)[1:]), st.integers(1, 10**6), min_size=1))
def test_the_sentence_that_counts_is_read_as_it_is_written(counts: dict[Reason, int]) -> None:
    line = schema.invalid_line(counts, 10**7)
    assert schema.is_invalid_line(line)
    assert schema.invalid_of(["another problem", line]) == sum(counts.values())
    assert json.dumps(line)
