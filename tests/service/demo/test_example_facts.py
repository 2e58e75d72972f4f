"""What lies around the example's takes has Ego-Exo4D's form; those who read it understand it."""

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from configs.schema import Selection
from service.demo import example
from service.demo.example import make_example
from takestream.storage import S3Options
from workers.dataset.annotations import read_annotations
from workers.dataset.egoexo import EgoExo
from workers.dataset.selection import select, selection_notes

ALPHA, BETA = "alpha_balance01_1", "beta_duet01_2"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example without its videos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example, "encode_take", _no_pictures)
        return make_example(tmp_path_factory.mktemp("example") / "egoexo")


def _no_pictures(take: Any, root: Path) -> None:
    for path in example.video_paths():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"video")


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_reader_of_the_data_set_knows_every_stream_and_split(data: Path) -> None:
    dataset = EgoExo(str(data), annotated=True)
    alpha, beta = dataset.takes()
    assert dataset.notes() == ()
    kinds = [(s.key, s.camera_kind, s.is_ego) for s in alpha.streams]
    assert kinds[:3] == [
        ("Aria_rgb", "rgb", True),
        ("Aria_slam-left", "slam", True),
        ("cam01_0", "gopro", False),
    ]
    assert [(s.key, s.camera_kind) for s in beta.streams][2:4] == [
        ("aria01_et", "et"),
        ("gp01_0", "gopro"),
    ]
    assert (alpha.splits, beta.splits) == (("train",), ("val",))
    assert (alpha.benchmarks, beta.benchmarks) == (("keystep",), ())
    assert (beta.task_id, beta.task_span, beta.best_exo) == (None, None, None)
    assert beta.task == beta.parent_task
    # Eye cameras are left out, and it is said so.
    assert [len(take.streams) for take in select([alpha, beta], Selection())] == [6, 6]
    assert any("eye cameras" in note for note in selection_notes([alpha, beta], Selection()))
    assert [t.name for t in select([alpha, beta], Selection(splits=("val",)))] == [BETA]


def test_splits_name_a_take_that_is_not_there(data: Path) -> None:
    splits = _json(data / "annotations/splits.json")
    takes = {take["take_uid"] for take in _json(data / "takes.json")}
    named = {uid for uids in splits["split_to_take_uids"].values() for uid in uids}
    assert set(splits["split_to_take_uids"]) == {"train", "val", "test"}
    assert splits["take_uid_to_split"].keys() == named > takes


def test_annotations_are_read_and_rejected_ones_are_not(data: Path) -> None:
    found = read_annotations(str(data), S3Options())
    assert found.odd == ()
    takes = {take["take_name"]: take for take in _json(data / "takes.json")}
    for name, steps, moments in ((ALPHA, 5, 8), (BETA, 4, 4)):
        said = found.of(takes[name]["take_uid"])
        assert len(said["keysteps"]) == steps
        assert len(said["descriptions"]) == moments
        assert all(one.end <= takes[name]["duration_sec"] for one in said["keysteps"])
        assert not any("cook" in one.text for one in said["descriptions"])


def test_captures_and_participants_agree_with_the_takes(data: Path) -> None:
    takes = _json(data / "takes.json")
    assert _json(data / "captures.json") == [take["capture"] for take in takes]
    people = {one["participant_uid"]: one for one in _json(data / "participants.json")}
    for take in takes:
        assert isinstance(json.loads(people[take["participant_uid"]]["metadata"]), dict)


def test_timesync_has_a_row_for_every_frame_and_gaps(data: Path) -> None:
    for take in _json(data / "takes.json"):
        capture = take["capture"]
        with (data / capture["root_dir"] / "timesync.csv").open() as file:
            rows = list(csv.DictReader(file))
        start, end = take["timesync_start_idx"], take["timesync_end_idx"]
        assert len(rows) > end
        mine = rows[start + 1 : end]
        assert len(mine) / 30 == pytest.approx(take["duration_sec"] - 1 / 30)
        for camera in capture["cameras"]:
            streams = take["frame_aligned_videos"][camera["cam_id"]].values()
            for stream in streams:
                prefix = camera["cam_id"] + (f"_{stream['stream_id']}" * camera["is_ego"])
                clock = f"{prefix}_{'capture_timestamp_ns' if camera['is_ego'] else 'pts'}"
                times = [int(row[clock]) for row in mine if row[clock]]
                assert all(a < b for a, b in pairwise(times))
                wanted = len(mine) // 3 if stream["readable_stream_id"] == "et" else len(mine) - 5
                assert wanted <= len(times) <= len(mine)
                for row in rows:
                    cells = [row[f"{prefix}_{n}"] for n in ("frame_number", "global_time")]
                    assert {bool(cell) for cell in (row[clock], *cells)} in ({True}, {False})
        if take["take_name"] == BETA:  # the first frame is a picture of the eyes
            assert [bool(row["aria01_211-1_frame_number"]) for row in mine[:4]] == [1, 0, 0, 1]
        # A GoPro dropped frames within the take, and some cameras were switched on later.
        third = next(c for c in mine[0] if c.endswith("03_pts"))
        assert sum(not row[third] for row in mine) in (1, 2)
        assert any(not cell for cell in rows[0].values())
        assert all(rows[start + 2].values()) or take["take_name"] == BETA
