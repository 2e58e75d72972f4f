"""A table of cameras as a data set."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.schema import JobSpec, Selection
from workers.dataset.base import source_of
from workers.dataset.egoexo import EgoExo
from workers.dataset.layouts import dataset_of, open_dataset
from workers.dataset.selection import select
from workers.dataset.table import CameraTable
from workers.dataset.take import DatasetError, Stream


def table(folder: Path, text: str) -> CameraTable:
    (folder / "cameras.csv").write_text(text)
    found = open_dataset(str(folder / "cameras.csv"))
    assert isinstance(found, CameraTable)
    return found


def test_rows_become_takes_with_their_cameras(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "left.mp4").write_bytes(b"12345")
    rows = table(
        tmp_path,
        "take,camera,stream,uri,ego,task,duration\n"
        "kitchen,left,,a/left.mp4,,cooking,12.5\n"
        "kitchen,head,rgb,s3://bucket/head.mp4,true,,\n"
        "garden,left,,/films/left.mp4,no,,\n",
    )
    kitchen, garden = rows.takes()
    assert (kitchen.uid, kitchen.name, kitchen.task, kitchen.duration) == (
        "kitchen", "kitchen", "cooking", 12.5,
    )  # fmt: skip
    local = str(tmp_path / "a" / "left.mp4")
    assert kitchen.streams == (
        Stream("left_0", "left", "0", local, False),
        Stream("head_rgb", "head", "rgb", "s3://bucket/head.mp4", True),
    )
    assert garden.streams[0].uri == "/films/left.mp4"
    assert rows.sizes([kitchen.only(["left_0"])]) == {local: 5}
    assert source_of(rows, kitchen.streams[0]).identity().size == 5
    before = rows.identity()
    (tmp_path / "cameras.csv").write_text("take,camera,uri\n")
    assert rows.identity() != before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column take and no column camera and no column uri"),
        ("take,camera\n", "no column uri"),
        ("take,camera,uri,URI\na,b,c,d\n", "it has several columns uri"),
        ('take,camera,uri\na,b,"' + "c" * 200_000, "line 2: not a CSV file (field larger"),
        ("take,camera,uri,angle\na,b,c,1\n", "unknown columns angle"),
        ("take,camera,uri\na,b,c,d\n", "line 2: it has more values than there are columns"),
        ("take,camera,uri,start_offset\na,b,c,nan\n", "line 2: start_offset is 'nan'"),
        ("take,camera,uri\n../x,b,c\n", "line 2: take is '../x'"),
        ("take,camera,uri\n,b,c\n", "line 2: take is ''"),
        ("take,camera,uri\na,b/c,d\n", "line 2: camera is 'b/c'"),
        ("take,camera,uri\na,b,c\na,b,d\n", "line 3: take a has a stream b_0 already"),
        ("take,camera,uri,ego\na,b,c,perhaps\n", "line 2: ego is 'perhaps'"),
        ("take,camera,uri,duration\na,b,c,long\n", "line 2: duration is 'long'"),
        ("take,camera,uri,track\na,b,c,first\n", "line 2: track is 'first'"),
        ("take,camera,uri,start\na,b,c,soon\n", "line 2: start is 'soon'"),
        ("take,camera,uri,start,end\na,b,c,3,2\n", "line 2: end is 2 s, not after start"),
        ("take,camera,uri\na,b,zip::s3://x/y\n", "chains several storages"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DatasetError) as error:
        table(tmp_path, text).takes()
    assert words in str(error.value)


def test_a_part_of_an_object(tmp_path: Path) -> None:
    (one,) = table(
        tmp_path, "take,camera,uri,track,start,end\na,b,c.mp4,1,2.5,4\na,d,c.mp4,,,\na,e,c,,,9\n"
    ).takes()
    assert [(s.track, s.span) for s in one.streams] == [(1, (2.5, 4)), (None, None), (None, (0, 9))]


def test_an_absent_table_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such table"):
        open_dataset(str(tmp_path / "absent.csv")).takes()
    (tmp_path / "bytes.csv").write_bytes(b"take\xff")
    with pytest.raises(DatasetError, match="not text in UTF-8"):
        open_dataset(str(tmp_path / "bytes.csv")).takes()


TWO = [("a_0", "a.mp4", True), ("b_0", "b.mp4", False)]


@pytest.mark.parametrize(
    "data",
    [
        b"take,camera,uri,ego\r\nt,a,a.mp4,yes\r\nt,b,b.mp4,no\r\n",
        b"take,camera,uri,ego\rt,a,a.mp4,TRUE\rt,b,b.mp4,F\r",
        b"\xef\xbb\xbfTake; Camera ;URI;Ego\nt;a;a.mp4;1\nt;b;b.mp4;\n",
        b"\n\ntake\tcamera\turi\tego\n\t\t\t\nt\ta\ta.mp4\ty\nt\tb\tb.mp4\n\n",
        "take\tcamera\turi\tego\r\nt\ta\ta.mp4\tt\r\nt\tb\tb.mp4\t0\r\n".encode("utf-16"),
        b'take,camera,uri,ego,task\n"t",a,a.mp4,true,"make\ntea"\nt,b,"b.mp4\n",,\n',
    ],
)
def test_as_spreadsheets_write_tables(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.csv").write_bytes(data)
    (take,) = open_dataset(str(tmp_path / "c.csv")).takes()
    found = [(s.key, str(s.uri).removeprefix(f"{tmp_path}/"), s.is_ego) for s in take.streams]
    assert found == TWO


def test_a_decimal_comma_does_not_hide_the_columns(tmp_path: Path) -> None:
    text = "take;camera;uri;start_offset\nt;a;a,b.mp4;0.5\n"
    (take,) = table(tmp_path, text).takes()
    assert str(take.streams[0].uri).endswith("/a,b.mp4")
    assert take.streams[0].start_offset == 0.5


def test_a_home_folder_is_this_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (take,) = table(tmp_path, "take,camera,uri\nt,a,~/films/a.mp4\n").takes()
    assert take.streams[0].uri == "/home/me/films/a.mp4"


def test_a_row_without_a_uri_is_a_stream_without_an_object(tmp_path: Path) -> None:
    (one,) = table(tmp_path, "take,camera,uri\na,b,\n").takes()
    assert one.streams[0].uri is None


def test_a_folder_is_in_the_layout_of_ego_exo4d() -> None:
    assert isinstance(open_dataset("s3://bucket/egoexo"), EgoExo)
    job = JobSpec(dataset="s3://bucket/my.CSV", output="o")
    assert isinstance(dataset_of(job), CameraTable)


ROWS = {
    "take": ["kitchen", "kitchen"], "camera": ["left", "head"], "uri": ["a.mp4", None],
    "ego": [False, True], "kind": ["depth", None], "start_offset": [-0.5, None],
    "duration": [12.5, None],
}  # fmt: skip


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    pq.write_table(pa.table(ROWS), tmp_path / "cameras.parquet")
    lines = [
        ",".join("" if v is None else str(v) for v in row)
        for row in zip(*ROWS.values(), strict=True)
    ]
    found = open_dataset(str(tmp_path / "cameras.parquet")).takes()
    assert found == table(tmp_path, "\n".join([",".join(ROWS), *lines])).takes()
    (left, head) = found[0].streams
    assert (left.camera_kind, left.start_offset, left.is_ego) == ("depth", -0.5, False)
    assert (head.camera_kind, head.start_offset, head.is_ego, head.uri) == ("", 0.0, True, None)
    chosen = select(found, Selection(kinds=("depth",)))
    assert [s.key for s in chosen[0].streams] == ["left_0"]


def test_parquet_as_pandas_writes_it(tmp_path: Path) -> None:
    nan = float("nan")
    columns = {
        "take": [7.0, 7.0], "camera": [1, 2], "uri": ["a.mp4", None], "ego": [1.0, 0.0],
        "track": [nan, 1.0], "start_offset": [nan, 0.5],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    (take,) = open_dataset(str(tmp_path / "c.parquet")).takes()
    assert take.uid == "7"
    one, two = take.streams
    assert (one.key, one.is_ego, one.track, one.start_offset) == ("1_0", True, None, 0.0)
    assert (two.key, two.is_ego, two.track, two.start_offset) == ("2_0", False, 1, 0.5)


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"take,camera,uri")
    with pytest.raises(DatasetError, match="not a Parquet file"):
        open_dataset(str(tmp_path / "x.parquet")).takes()
    pq.write_table(
        pa.table({"take": ["a/b"], "camera": ["c"], "uri": ["d"]}), tmp_path / "x.parquet"
    )
    with pytest.raises(DatasetError, match="row 1: take is 'a/b'"):
        open_dataset(str(tmp_path / "x.parquet")).takes()
