"""Annotation files into segments of takes."""

import json
from pathlib import Path

import pytest

from workers.dataset.segments import read_segments
from workers.dataset.take import DatasetError, Segment, Take

STEPS = [Segment(0.5, 2.0, "cut", "12"), Segment(1.0, 4.25, "stir, slowly", "7")]


def take(uid: str, name: str) -> Take:
    return Take(uid, name, None, None, None, None, ())


def keystep(segment: Segment, **more: object) -> dict[str, object]:
    times = {"start_time": segment.start, "end_time": segment.end}
    return {**times, "step_name": segment.name, "step_unique_id": int(segment.label), **more}


FILES = {
    "keystep_train.json": json.dumps(
        {
            "annotations": {
                "u1": {"take_uid": "u1", "scenario": "Cooking",
                       "segments": [keystep(s, is_essential=True) for s in STEPS[::-1]]},
                "u2": {"segments": []},
            },
            "taxonomy": {}, "vocabulary": {},
        }
    ),
    "keystep_segment_train.json": json.dumps(
        {"segments": [keystep(s, take_uid="u1", take_name="one") for s in STEPS]}
    ),
    "list.json": json.dumps([keystep(s, take="u1") for s in STEPS]),
    "steps.csv": "take,start,end,name,label\r\nu1,0.5,2.0,cut,12\r\n"
    "u1,1,4.25,\"stir, slowly\",7\r\n",
    "bom.csv": "\ufefflabel, take, end, start, name\n"
    "7,u1,4.25,1,\"stir, slowly\"\n12,u1,2,.5,cut\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_shape_gives_the_same_segments_and_digest(tmp_path: Path, name: str) -> None:
    for each, text in FILES.items():
        (tmp_path / each).write_text(text)
    found = read_segments(str(tmp_path / name))
    assert found.by_take["u1"] == tuple(STEPS)
    assert found.digest == read_segments(str(tmp_path / "steps.csv")).digest


def test_other_segments_have_another_digest(tmp_path: Path) -> None:
    digests = set()
    for number, row in enumerate(["a,0,1,x,1", "a,0,1,x,2", "a,0,1.5,x,1", "b,0,1,x,1"]):
        file = tmp_path / f"{number}.csv"
        file.write_text(f"take,start,end,name,label\n{row}\n")
        digests.add(read_segments(str(file)).digest)
    assert len(digests) == 4


def test_takes_are_found_by_uid_or_name_and_the_others_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "steps.csv"
    file.write_text("take,start,end\nu1,0,1\ntwo,1,2\nelsewhere,0,9\n")
    found = read_segments(str(file))
    takes = found.of([take("u1", "one"), take("u2", "two"), take("u3", "three")])
    assert [(t.name, t.segments) for t in takes] == [
        ("one", (Segment(0, 1),)),
        ("two", (Segment(1, 2),)),
    ]
    with pytest.raises(DatasetError, match="none of its 3 takes"):
        found.of([take("u3", "three")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("take,begin,end\na,0,1\n", "neither keystep JSON nor a CSV"),
        ("take,start,end\n", "it holds no segments"),
        ("take,start,end\na,0\n", "line 2: its end is None"),
        ("take,start,end\na,0,nan\n", "line 2: its end is 'nan'"),
        ("take,start,end\na,-1,2\n", "its start is '-1'"),
        ("take,start,end\na,0,1e99\n", "its end is '1e99'"),
        ("take,start,end\na,3,2\n", "line 2: it ends at 2 s, before it begins at 3 s"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"annotations": {"u": []}}', "take u: expected a list of segments"),
        ('{"segments": [5]}', "expected a list of segments"),
        ('{"segments": [{"start_time": 0, "end_time": 1}]}', "segment 0 names no take"),
        ('{"annotations": {"u": {"segments": [{"start_time": 0}]}}}', "segment 0: its end is None"),
        ("\x00\x01", "neither keystep JSON nor a CSV"),
        ("take;start;end\none;0;1", "separated by commas; it begins with 'take;start;end'"),
        ('[{"take": "u", "start": 0, "end": 1, "label": [1]}]', "its label is [1], expected text"),
    ],
)
def test_what_is_no_file_of_segments_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(DatasetError) as error:
        read_segments(str(file))
    assert words in str(error.value)
    assert str(file) in str(error.value)


def test_an_absent_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        read_segments(str(tmp_path / "absent.csv"))
    (tmp_path / "binary").write_bytes(b"take\xff\xfe")
    with pytest.raises(DatasetError, match="not a text file"):
        read_segments(str(tmp_path / "binary"))


def test_a_csv_with_carriage_returns_and_one_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b"take,start,end\rt,1,2\rt,3,4\r")
    found = read_segments(str(path)).by_take["t"]
    assert [(one.start, one.end) for one in found] == [(1, 2), (3, 4)]
    path.write_text('take,start,end\nt,1,"' + "2" * 200_000)
    with pytest.raises(DatasetError, match="not a CSV file"):
        read_segments(str(path))
