"""Facts about a store, and how they are printed."""

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from service.report.inspect import clip_reasons, describe_store, print_store
from takestream.schema import Reason
from workers.store.errors import StoreError, StoreNotFound
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

STREAMS = ("aria01_rgb", "aria01_slam-left", "[red]cam01_0")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_numbers = itertools.count()


def make_store(uri, skip=(), **attributes):
    """40 clips in units of 16; the last stream ends early and has a damaged clip."""
    start = np.arange(40, dtype=np.int64) * 16
    layout = StoreLayout(
        streams=STREAMS,
        dim=6,
        dtype="float16",
        unit_clips=16,
        start_frame=start,
        stop_frame=start + 32,
        start_time=start / 30,
        end_time=(start + 32) / 30,
        attributes=attributes,
    )
    store = TakeStore.create(uri, layout)
    reasons = np.zeros((40, 3), np.uint8)
    reasons[33:, 2], reasons[5, 2] = Reason.PAST_END, Reason.DAMAGED_FRAME
    rng = np.random.default_rng(3)
    for gap in store.missing():
        for index, stream in enumerate(STREAMS):
            why = reasons[gap.start : gap.stop, index]
            if (stream, gap.start) not in skip:
                store.write(
                    stream,
                    gap.start,
                    features=rng.normal(size=(len(why), 6)),
                    valid=why == 0,
                    frame_time=np.arange(len(why)) / 2,
                    reason=why,
                )
    store.finish()
    return store


def real_attributes():
    video = {"uri": "s3://data/a b.mp4", "size": 1_500_000, "rate": "30000/1001", "codec": "hevc"}
    return {
        "take": {"take_uid": "uid-1", "take_name": "cmu_[bike]01_2", "task_name": "Fix a bike"},
        "grid": {"fps": 29.97002997, "window": 32, "stride": 16, "tail": "drop"},
        "encoder": {"encoder_id": "tiny-0123456789", "name": "tiny", "precision": "float32"},
        "provenance": {
            "streams": {
                "aria01_rgb": {**video, "width": 1408, "height": 1408, "frames": 672},
                "aria01_slam-left": {"fault": "listed in takes.json without a file"},
            },
            "versions": {"takestream": "0.1.0", "torch": "2.8.0", "av": "16.0"},
            "git_commit": COMMIT,
            "resolution": "full",
            "rotate": {"aria*": 270},
        },
        "dataset_licence": {"name": "terms", "url": "https://example.org/terms"},
        "problems": {"[red]cam01_0": ["shorter than the take: 560 frames, the take has 672"]},
    }


def printed(facts, **options):
    out = io.StringIO()
    print_store(facts, Console(file=out, **options))
    return out.getvalue()


@pytest.mark.parametrize("place", ["local", "memory"])
def test_facts_are_what_the_store_holds(tmp_path, place):
    root = f"memory://inspect-{next(_numbers)}" if place == "memory" else f"{tmp_path}/My Out"
    store = make_store(f"{root}/tiny-0123456789/uid-1 #%41.zarr", **real_attributes())
    facts = describe_store(store.uri)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert (facts["uri"], facts["status"]) == (store.uri, "complete")
    assert (facts["clips"], facts["dim"], facts["dtype"]) == (40, 6, "float16")
    assert facts["take"]["uid"] == "uid-1"
    assert facts["take"]["name"] == "cmu_[bike]01_2"
    assert facts["encoder"]["id"] == "tiny-0123456789"
    assert (facts["start_time"], facts["end_time"]) == (0.0, pytest.approx(656 / 30))
    assert facts["chunks"] == {"clips": 16, "unit_clips": 16, "expected": 9, "missing": 0}
    first, second, third = facts["streams"]
    assert (first["name"], first["valid"], first["invalid"]) == ("aria01_rgb", 40, {})
    assert first["video"]["size"] == 1_500_000
    assert second["video"]["uri"] is None
    assert (third["valid"], third["invalid"]) == (32, {"past_end": 7, "damaged_frame": 1})
    assert third["video"] is None
    assert facts["problems"]["[red]cam01_0"][0].startswith("shorter than the take")
    assert facts["provenance"]["git_commit"] == COMMIT
    assert facts["licences"]["dataset"] == real_attributes()["dataset_licence"]
    assert facts["licences"]["encoder"] is None
    assert "licence of videos" in (text := printed(facts, width=80))
    assert "terms, https://example.org/terms" in text
    if place == "local":
        files = [path for path in Path(store.uri).rglob("*") if path.is_file()]
        assert facts["objects"] == len(files)
        assert facts["bytes"] == sum(path.stat().st_size for path in files)


def test_clips_without_features_count_as_not_extracted(tmp_path):
    store = make_store(str(tmp_path / "a.zarr"), skip=[("aria01_rgb", 32)])
    # Its `valid` and `reason` are there, as after a crash in the middle of a write.
    Path(store.uri, "features/c/0/1/0").unlink()
    facts = describe_store(store.uri)
    assert facts["status"] == "partial"
    assert facts["chunks"]["missing"] == 2
    assert [s["invalid"].get("not_extracted", 0) for s in facts["streams"]] == [8, 16, 0]
    assert (clip_reasons(store)[:16, 1] == Reason.NOT_EXTRACTED).all()


def test_a_store_without_words_is_described_by_its_place(tmp_path):
    facts = describe_store(make_store(str(tmp_path / "tiny-01" / "uid-7.zarr")).uri)
    assert (facts["take"]["uid"], facts["take"]["name"]) == ("uid-7", "uid-7")
    assert facts["encoder"] == {"id": "tiny-01"}
    assert "uid-7  complete" in printed(facts, width=80)


def test_unknown_reasons_and_absent_stores_are_errors(tmp_path):
    with pytest.raises(StoreNotFound):
        describe_store(str(tmp_path / "none.zarr"))
    store = make_store(str(tmp_path / "a.zarr"))
    store.array("reason")[3, 0] = 77
    with pytest.raises(StoreError, match=r"unknown reasons \[77\]"):
        describe_store(store.uri)


def test_print_fits_80_columns_and_a_pipe(tmp_path):
    store = make_store(str(tmp_path / "a.zarr"), **real_attributes())
    facts = describe_store(store.uri)
    text = printed(facts, width=80)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "cmu_[bike]01_2  complete"
    assert lines[1] == store.uri
    assert max(len(line) for line in lines[2:]) <= 80
    flat = " ".join(text.split())
    for words in (
        "40 of 32 frames, one every 16, at 29.97 fps",
        "9 of 9 written, each up to 16 clips",
        "aria01_rgb 40 of 40 hevc, 1408x1408, 29.97 fps, 1.5 MB",
        "aria01_slam-left 40 of 40 no file",
        "[red]cam01_0 32 of 40 7 past end",
        "1 damaged frame",
        "takestream 0.1.0, commit 0123456789ab, torch 2.8.0, av 16.0",
        "aria* by 270°",
        "shorter than the take: 560 frames, the take has 672",
    ):
        assert words in flat
    # As the command line prints where there is no terminal.
    wide = printed(facts, width=200, soft_wrap=True)
    assert "\x1b" not in wide
    assert max(len(line) for line in wide.splitlines()[2:]) < 120


def test_print_says_how_to_finish_a_partial_store(tmp_path):
    store = make_store(str(tmp_path / "a.zarr"), skip=[("aria01_rgb", 0)])
    text = printed(describe_store(store.uri), width=80)
    assert "partial; run its `takestream extract` again" in text
    assert "16 not extracted" in text
    assert "8 of 9 written" in text
