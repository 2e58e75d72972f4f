"""Selections in Ego-Exo4D's own words, over every camera that occurs."""

from pathlib import Path
from typing import Any

import pytest

from configs.schema import Selection
from tests.support.release import StandIn
from workers.dataset.layouts import needs_annotations, open_dataset
from workers.dataset.selection import select, selection_notes
from workers.dataset.take import DatasetError, Take

ARIA = {"rgb": "a_214-1", "slam-left": "a_1201-1", "slam-right": "a_1201-2", "et": "a_211-1"}
ODD = {"Aria": ARIA, "gp01": {"0": "gp01"}, "gp06": {"0": "gp06"}, "mobile": {"0": "mobile"}}


@pytest.fixture
def takes(folder: Path) -> list[Take]:
    """tea and bike of one capture, odd and song of another; gp06 is worn."""
    release = StandIn()
    release.add("tea", "cmu")
    release.add("bike", "cmu", best_exo=None, is_narrated=False, parent_task_name="Bike Repair")
    odd = release.add("odd", "nus", ODD, best_exo="gp01", validated="false")
    odd["capture"]["cameras"][2]["is_ego"] = True
    release.add("song", "nus", {"aria1": ARIA, "cam05": {"0": "cam05"}}, capture=None)
    for entry, split in zip(release.manifests["takes"], ("train", "val", None, []), strict=True):
        entry["splits"] = entry["benchmarks"] = split
    release.splits = None
    return open_dataset(release.write(folder), annotated=True).takes()


def names(takes: list[Take], **words: Any) -> list[str]:
    return [take.name for take in select(takes, Selection(**words))]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ({"uids": ["uid-tea"]}, ["tea"]),
        ({"uids": ["capture-0"]}, ["tea", "bike"]),
        ({"uids": ["capture-0", "uid-odd"]}, ["tea", "bike", "odd"]),
        ({"captures": ["capture-0"]}, ["tea", "bike"]),
        # The name of song's capture stands in captures.json alone.
        ({"captures": ["name of *-1"]}, ["odd", "song"]),
        ({"parent_tasks": ["Bike*"]}, ["bike"]),
        ({"narrated": True}, ["tea", "odd", "song"]),
        ({"validated": True}, ["tea", "bike", "song"]),
        # Null passes every filter of the downloader, an empty list none.
        ({"splits": ["train"]}, ["tea", "odd"]),
        ({"splits": ["train", "val"]}, ["tea", "bike", "odd"]),
        ({"benchmarks": ["val"]}, ["bike", "odd"]),
        ({"splits": ["val"], "universities": ["cmu"]}, ["bike"]),
    ],
)
def test_takes(takes: list[Take], words: dict[str, Any], chosen: list[str]) -> None:
    assert names(takes, **words) == chosen


@pytest.mark.parametrize(
    ("words", "streams"),
    [
        ({}, "Aria_rgb Aria_slam-left Aria_slam-right gp01_0 gp06_0 mobile_0"),
        ({"kinds": ["rgb"]}, "Aria_rgb"),
        ({"kinds": ["et", "slam"]}, "Aria_slam-left Aria_slam-right Aria_et"),
        ({"kinds": ["gopro"]}, "gp01_0 gp06_0"),
        ({"kinds": ["other"]}, "mobile_0"),
        ({"kinds": ["gopro"], "views": ["ego"]}, "gp06_0"),
        ({"best_exo": True}, "Aria_rgb Aria_slam-left Aria_slam-right gp01_0 gp06_0"),
        ({"best_exo": True, "views": ["exo"]}, "gp01_0"),
        ({"streams": ["*_et"]}, "Aria_et"),
        ({"streams": ["*"], "kinds": ["rgb"]}, "Aria_rgb"),
    ],
)
def test_streams(takes: list[Take], words: dict[str, Any], streams: str) -> None:
    (odd,) = select(takes, Selection(take_names=("odd",), **words))
    assert [s.key for s in odd.streams] == streams.split()


def test_a_take_without_a_best_camera_keeps_those_that_are_worn(takes: list[Take]) -> None:
    (bike,) = select(takes, Selection(take_names=("bike",), best_exo=True))
    assert {s.cam_id for s in bike.streams} == {"aria01"}
    assert "bike" not in names(takes, best_exo=True, views=["exo"])


def test_what_surprises_is_said(takes: list[Take]) -> None:
    def said(**words: Any) -> list[str]:
        return selection_notes(takes, Selection(**words))

    (eyes,) = said()
    assert eyes.startswith("4 streams of eye cameras are left out")
    assert said(kinds=["rgb"]) == said(streams=["*"]) == []
    silent, _ = said(splits=["train"])
    assert silent.startswith("of 1 takes the manifest gives no splits (null): they pass --splits")
    (best,) = said(best_exo=True, kinds=["rgb"])
    assert best.startswith("1 takes name no best_exo")
    (views,) = said(views=["ego"], resolution="448", kinds=["rgb"])
    assert "does not filter part downscaled_takes/448 by views" in views


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ({"kinds": ["slams"]}, "no kind of stream 'slams'; did you mean 'slam'"),
        ({"parent_tasks": ["Coking"]}, "did you mean 'Cooking'"),
        ({"captures": ["capture-9"]}, "no capture 'capture-9'"),
        ({"uids": ["capture-9"]}, "no uid 'capture-9'"),
    ],
)
def test_unknown_words(takes: list[Take], words: dict[str, Any], hint: str) -> None:
    with pytest.raises(DatasetError, match=hint):
        select(takes, Selection(**words))


def test_an_unknown_split(folder: Path) -> None:
    release = StandIn()
    release.add("tea", "cmu")
    takes = open_dataset(release.write(folder), annotated=True).takes()
    with pytest.raises(DatasetError, match="no split 'trian'; did you mean 'train'"):
        select(takes, Selection(splits=("trian",)))
    assert needs_annotations(Selection(splits=("a",))) != needs_annotations(Selection())
