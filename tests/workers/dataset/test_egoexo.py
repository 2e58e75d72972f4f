"""`takes.json` as documented, with every hole that it may have; selections; sizes of objects."""

import itertools
import json
from dataclasses import replace

import fsspec
import pytest

from configs.schema import Selection
from takestream.errors import InvalidStorage
from workers.dataset import base as dataset_module
from workers.dataset.base import object_sizes
from workers.dataset.egoexo import read_takes
from workers.dataset.selection import select
from workers.dataset.take import DatasetError

_numbers = itertools.count()


def video(cam_id, stream, path, **more):
    return {"cam_id": cam_id, "readable_stream_id": stream, "relative_path": path, **more}


# The fields of https://docs.ego-exo4d-data.org/data/metadata, shortened.
DOCUMENTED = {
    "root_dir": "takes/cmu_bike01_2",
    "take_name": "cmu_bike01_2",
    "take_uid": "13f01c79-5bfd-42f5-90ce-ee350aa1c3ad",
    "participant_uid": 657,
    "is_dropped": False,
    "objects": [],
    "task_id": 4001,
    "task_name": "Remove a Wheel",
    "parent_task_name": "Bike Repair",
    "duration_sec": 21.366666666666667,
    "timesync_start_idx": 6372,
    "timesync_end_idx": 7013,
    "university_name": "cmu",
    "best_exo": "cam01",
    "capture": {
        "capture_name": "cmu_bike01",
        "cameras": [
            {"cam_id": "aria01", "is_ego": True, "device_type": "aria"},
            {"cam_id": "cam01", "is_ego": False, "device_type": "hero10"},
            {"cam_id": "moblie", "is_ego": False, "device_type": "hero10"},
        ],
    },
    "frame_aligned_videos": {
        "aria01": {
            "slam-left": video("aria01", "slam-left", "frame_aligned_videos/aria01_1201-1.mp4"),
            "rgb": video("aria01", "rgb", "frame_aligned_videos/aria01_214-1.mp4"),
        },
        "cam01": {"0": video("cam01", "0", "frame_aligned_videos/cam01.mp4")},
        "collage": {"0": {"stream_id": "0", "relative_path": "ego_preview.mp4"}},
        "best_exo": {"0": {"clip_uid": None, "stream_id": "0", "relative_path": None}},
    },
}


def take(uid="u1", **fields):
    return {"take_uid": uid, "take_name": f"name of {uid}", **fields}


def with_video(path, **fields):
    return take(frame_aligned_videos={"cam01": {"0": video("cam01", "0", path)}}, **fields)


@pytest.fixture(params=["memory", "local", "file URI"])
def put(request, tmp_path):
    """Writes a data set and gives its root."""

    def put(entries, **objects):
        if request.param == "memory":
            root = f"memory://Data Sets/{next(_numbers)}"
        else:
            folder = tmp_path / "Data Sets" / str(next(_numbers))
            root = str(folder) if request.param == "local" else f"file://{folder}"
        raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        for name, data in {"takes.json": raw, **objects}.items():
            fs, path = fsspec.url_to_fs(f"{root}/{name}")
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(path, data)
        return root

    return put


def test_the_documented_fields(put):
    root = put([DOCUMENTED])
    (one,) = read_takes(root)
    assert one.uid == "13f01c79-5bfd-42f5-90ce-ee350aa1c3ad"
    assert (one.name, one.task, one.university) == ("cmu_bike01_2", "Remove a Wheel", "cmu")
    assert (one.capture, one.duration) == ("cmu_bike01", 21.366666666666667)
    folder = f"{root}/takes/cmu_bike01_2/frame_aligned_videos"
    # Neither the collage nor the best exo view is a camera.
    assert [(s.key, s.uri, s.is_ego) for s in one.streams] == [
        ("aria01_slam-left", f"{folder}/aria01_1201-1.mp4", True),
        ("aria01_rgb", f"{folder}/aria01_214-1.mp4", True),
        ("cam01_0", f"{folder}/cam01.mp4", False),
    ]


def test_downscaled_videos_lie_two_folders_deeper(put):
    root = put([DOCUMENTED])
    (one,) = read_takes(root, "448")
    assert [s.uri for s in one.streams][-1] == (
        f"{root}/takes/cmu_bike01_2/frame_aligned_videos/downscaled/448/cam01.mp4"
    )


@pytest.mark.parametrize(
    "hole",
    ["frame_aligned_videos", "capture", "duration_sec", "task_name", "university_name", "root_dir"],
)
@pytest.mark.parametrize("how", ["null", "absent"])
def test_any_field_may_be_missing(put, hole, how):
    entry = dict(DOCUMENTED)
    if how == "null":
        entry[hole] = None
    else:
        del entry[hole]
    (one,) = read_takes(put([entry]))
    assert len(one.streams) == (0 if hole == "frame_aligned_videos" else 3)
    assert one.task == ("Bike Repair" if hole == "task_name" else "Remove a Wheel")
    assert (one.university is None) == (hole == "university_name")
    assert (one.capture is None) == (hole == "capture")
    assert (one.duration is None) == (hole == "duration_sec")
    # Without a capture the camera's name says whether it is ego.
    assert [s.is_ego for s in one.streams] in ([True, True, False], [])


def test_nulls_further_in(put):
    entry = take(
        capture={"cameras": None, "capture_name": None},
        frame_aligned_videos={
            "cam01": None,
            "cam02": {"0": None},
            "cam03": {"0": {"relative_path": None}},
            "cam04": {"0": {}},
            "Aria02": {"rgb": {"relative_path": "a.mp4"}},
        },
    )
    (one,) = read_takes(put([entry]))
    assert [(s.key, s.uri is None, s.is_ego) for s in one.streams] == [
        ("cam02_0", True, False),
        ("cam03_0", True, False),
        ("cam04_0", True, False),
        ("Aria02_rgb", False, True),
    ]


def test_a_video_marked_as_collage_is_no_camera(put):
    videos = {"cam01": {"0": {"relative_path": "a.mp4", "is_collage": True}, "1": {}}}
    (one,) = read_takes(put([take(frame_aligned_videos=videos)]))
    assert [s.key for s in one.streams] == ["cam01_1"]


@pytest.mark.parametrize(("flag", "ego"), [(True, True), ("true", True), ("False", False)])
def test_ego_may_be_written_as_text_and_wins_over_the_name(put, flag, ego):
    cameras = [{"cam_id": "cam01", "is_ego": flag}, "not a camera", {}]
    (one,) = read_takes(put([with_video("a.mp4", capture={"cameras": cameras})]))
    assert one.streams[0].is_ego is ego


def test_capitals_and_spaces_survive(put):
    root = put(
        [with_video("Frame Aligned/CAM 01 #1 100%.MP4", root_dir="Takes/My Take")],
        **{"Takes/My Take/Frame Aligned/CAM 01 #1 100%.MP4": b"12345"},
    )
    takes = read_takes(root)
    uri = f"{root}/Takes/My Take/Frame Aligned/CAM 01 #1 100%.MP4"
    assert takes[0].streams[0].uri == uri
    assert object_sizes(takes) == {uri: 5}


@pytest.mark.parametrize(
    ("path", "root_dir"),
    [
        ("../../secret.mp4", "takes/a"),
        ("videos/../../../secret.mp4", "takes/a"),
        ("/etc/secret.mp4", "takes/a"),
        ("secret.mp4", "/etc"),
        ("secret.mp4", "takes/.."),
        ("http://example.org/a.mp4", "takes/a"),
        ("a::memory:/b.mp4", "takes/a"),
    ],
)
def test_a_path_that_leaves_the_data_set_is_not_followed(put, path, root_dir):
    (one,) = read_takes(put([with_video(path, root_dir=root_dir)]))
    (stream,) = one.streams
    assert (stream.uri, stream.others) == (None, ())
    assert "leaves the data set" in stream.note


def test_dots_inside_names_are_names(put):
    (one,) = read_takes(put([with_video("a..b/./v1.0..mp4", root_dir="takes/x.y")]))
    assert one.streams[0].uri.endswith("/takes/x.y/a..b/v1.0..mp4")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not valid JSON"),
        (b'[{"take_uid": "a"', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\xff", "not valid JSON|codec can't decode"),
        (b'{"takes": []}', "expected a JSON list of takes"),
        (b"[1, 2]", "a take is a JSON object, found 1.*2 entries, none can be used"),
        (b"[{}]", "entry 0 .* no usable take_uid"),
        (b'[{"take_uid": 5}]', "entry 0 .* no usable take_uid .found 5"),
        (b'[{"take_uid": "../../x"}]', "entry 0 .* no usable take_uid"),
        (b'[{"take_uid": "a"}, {"take_uid": "a", "task_name": "x"}]', "take_uid a stands there"),
        (b'[{"take_uid": "a", "frame_aligned_videos": [1]}]', "frame_aligned_videos is .1., no"),
    ],
)
def test_what_cannot_be_used_is_named(put, raw, words):
    root = put(raw)
    with pytest.raises(DatasetError, match=words) as caught:
        read_takes(root)
    assert str(caught.value).startswith(root)


def test_values_of_a_wrong_kind_count_as_missing(put):
    raw = b'[{"take_uid": "a", "task_name": 5, "university_name": ["x"], "duration_sec": NaN}]'
    (one,) = read_takes(put(raw))
    assert (one.task, one.university, one.duration, one.name) == (None, None, None, "a")
    assert select([one], Selection()) == []


def test_a_byte_order_mark_is_no_trouble(put):
    assert read_takes(put(b"\xef\xbb\xbf" + json.dumps([take()]).encode()))[0].uid == "u1"


@pytest.mark.parametrize("root", ["memory://nothing here", "/nothing/here", "relative/nothing"])
def test_no_takes_json(root):
    with pytest.raises(DatasetError, match=r"takes\.json: no such object; --dataset is the folder"):
        read_takes(root)


def test_an_unknown_protocol():
    with pytest.raises(InvalidStorage, match=r"nonsense://x/takes\.json: .*nonsense"):
        read_takes("nonsense://x")


def test_a_slash_at_the_end_and_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "takes.json").write_text(json.dumps([with_video("a.mp4", root_dir="t")]))
    monkeypatch.chdir(tmp_path)
    assert read_takes("d/")[0].streams[0].uri == "d/t/a.mp4"


@pytest.mark.timeout(10)
def test_thousands_of_takes_are_read_quickly(put):
    root = put([take(uid=str(number)) for number in range(20_000)])
    assert len(read_takes(root)) == 20_000


# Selections


@pytest.fixture
def takes():
    root = f"memory://selection/{next(_numbers)}"
    entries = [
        DOCUMENTED,
        {
            **DOCUMENTED,
            "take_uid": "u2",
            "take_name": "sfu_cooking_5",
            "task_name": "Cooking an Omelet",
            "university_name": "sfu",
        },
        take("u3", task_name="Remove a Wheel", frame_aligned_videos={"collage": {"0": {}}}),
    ]
    fsspec.filesystem("memory").pipe(f"{root}/takes.json", json.dumps(entries).encode())
    return read_takes(root)


BIKE = "13f01c79-5bfd-42f5-90ce-ee350aa1c3ad"
ALL = ["aria01_slam-left", "aria01_rgb", "cam01_0"]


@pytest.mark.parametrize(
    ("selection", "uids", "streams"),
    [
        ({}, [BIKE, "u2"], ALL),
        ({"uids": ["u2"]}, ["u2"], ALL),
        ({"uids": ["u2", BIKE]}, [BIKE, "u2"], ALL),
        ({"take_names": ["cmu_bike01_2"]}, [BIKE], ALL),
        ({"tasks": ["Remove a Wheel"]}, [BIKE], ALL),
        ({"tasks": ["*Omelet"]}, ["u2"], ALL),
        ({"universities": ["sfu"], "views": ["ego"]}, ["u2"], ALL[:2]),
        ({"views": ["exo"]}, [BIKE, "u2"], ["cam01_0"]),
        ({"views": ["ego", "exo"]}, [BIKE, "u2"], ALL),
        ({"streams": ["*_rgb"]}, [BIKE, "u2"], ["aria01_rgb"]),
        ({"streams": ["aria*"], "views": ["exo"]}, [], []),
        ({"uids": [BIKE], "universities": ["sfu"]}, [], []),
        ({"uids": ["u3"]}, [], []),
    ],
)
def test_selections(takes, selection, uids, streams):
    chosen = select(takes, Selection(**selection))
    assert [one.uid for one in chosen] == uids
    assert all([s.key for s in one.streams] == streams for one in chosen)


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"uids": [BIKE[:-2]]}, f"no uid '{BIKE[:-2]}'; did you mean '{BIKE}'?"),
        ({"uids": ["*"]}, "no uid '*'"),
        ({"take_names": ["cmu_bike_2"]}, "no take name 'cmu_bike_2'; did you mean 'cmu_bike01_2'?"),
        ({"tasks": ["Remove Wheel"]}, "no task 'Remove Wheel'; did you mean 'Remove a Wheel'?"),
        ({"universities": ["SFU"]}, "no university 'SFU'; valid names: cmu, sfu"),
        ({"streams": ["aria01_rbg"]}, "no stream 'aria01_rbg'; did you mean 'aria01_rgb'?"),
        ({"streams": ["gp*"]}, "no stream 'gp*'; valid names: aria01_rgb"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_gets_the_nearest_that_is(takes, selection, words):
    with pytest.raises(DatasetError) as caught:
        select(takes, Selection(**selection))
    assert words in str(caught.value)


def test_of_thousands_of_names_only_a_near_one_is_told(takes):
    many = [replace(takes[0], uid=f"take-{n:04}") for n in range(500)]
    with pytest.raises(DatasetError, match=r"no uid 'take-99999'; did you mean 'take-0?\d+'\?$"):
        select(many, Selection(uids=("take-99999",)))
    with pytest.raises(DatasetError, match=r"no uid 'zebra'; the nearest of 500 names is 'take-"):
        select(many, Selection(uids=("zebra",)))


def test_only_keeps_the_order_of_the_take(takes):
    assert [s.key for s in takes[0].only(["cam01_0", "aria01_rgb"]).streams] == [
        "aria01_rgb",
        "cam01_0",
    ]


# Objects


def test_sizes_of_objects_and_which_are_absent(put, monkeypatch):
    path = "takes/cmu_bike01_2/frame_aligned_videos/"
    root = put(
        [DOCUMENTED, with_video("x.mp4", root_dir="takes/Nowhere")],
        **{path + "aria01_214-1.mp4": b"123", path + "cam01.mp4": b"", path + "more/deep": b"1"},
    )
    takes = read_takes(root)
    listings = []
    opened = dataset_module.open_filesystem

    def spied(uri, s3):
        listings.append(uri)
        return opened(uri, s3)

    monkeypatch.setattr(dataset_module, "open_filesystem", spied)
    assert object_sizes(takes) == {
        f"{root}/{path}aria01_1201-1.mp4": None,
        f"{root}/{path}aria01_214-1.mp4": 3,
        f"{root}/{path}cam01.mp4": 0,
        f"{root}/takes/Nowhere/x.mp4": None,
    }
    assert len(listings) == 2, "one listing for each folder"


def test_no_objects(put):
    assert object_sizes(read_takes(put([take()]))) == {}


def test_a_folder_in_the_place_of_an_object_is_absent(put):
    root = put([with_video("a.mp4", root_dir="t")], **{"t/a.mp4/inner": b"x"})
    assert object_sizes(read_takes(root)) == {f"{root}/t/a.mp4": None}


def test_a_root_as_people_type_it(tmp_path):
    (tmp_path / "d" / "t").mkdir(parents=True)
    (tmp_path / "d" / "t" / "a.mp4").write_bytes(b"1234")
    (tmp_path / "d" / "takes.json").write_text(json.dumps([with_video("a.mp4", root_dir="t/")]))
    takes = read_takes(f"{tmp_path}/d/../d/")
    assert list(object_sizes(takes).values()) == [4]
