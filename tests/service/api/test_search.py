"""Moments of all takes: the best there are, from the means and some takes' clips."""

import json
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from service.api.app import create_app
from service.api.context import ApiContext
from takestream.likeness import directions
from takestream.storage import S3Options
from tests.service.api.test_api import spec_of
from tests.support.feature_stores import facts_of, feature_store
from workers.run.recipe import make_recipe
from workers.store.catalogue import refresh

TAKES, CLIPS, DIM = 12, 20, 16
STREAMS = ("aria01_rgb", "cam01_0")
FAR = {"moment": {"take": "take-0", "stream": "cam01_0", "time": 5.2}}
Features = NDArray[np.float32]
Made = tuple[Path, dict[str, Features]]


def make_take(root: Path, number: int) -> Features:
    """A complete store of clips that lie around a place of their take; clip 3 is invalid."""
    random = np.random.default_rng(number)
    place = random.normal(size=DIM) * 3
    features = (place + random.normal(size=(CLIPS, len(STREAMS), DIM))).astype(np.float32)
    valid = np.ones((CLIPS, len(STREAMS)), bool)
    valid[3] = False
    take = facts_of(f"uid-{number}", take_name=f"take-{number}")
    encoder_id = folder_of(root).rpartition("/")[2]
    feature_store(
        str(root / "out"), take, features, STREAMS,
        encoder_id=encoder_id, valid=valid, clip_seconds=16 / 30,
    )  # fmt: skip
    features[3] = np.nan
    return features


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A data set of takes without videos, their stores, and the features in them."""
    root = tmp_path_factory.mktemp("takes")
    videos = {name[:-2]: {"0": {"relative_path": f"{name}.mp4"}} for name in ("cam01_0",)}
    videos["aria01"] = {"rgb": {"relative_path": "aria.mp4"}}
    entries = [
        {"take_uid": f"uid-{n}", "take_name": f"take-{n}", "frame_aligned_videos": videos}
        for n in range(TAKES + 1)
    ]
    (root / "data").mkdir()
    (root / "data" / "takes.json").write_text(json.dumps(entries))
    features = {f"uid-{n}": make_take(root, n) for n in range(TAKES)}
    return root, features


def client_of(root: Path) -> TestClient:
    context = ApiContext(spec_of(root), None, b"secret", None)
    return TestClient(create_app(context), "http://localhost", raise_server_exceptions=False)


def folder_of(root: Path) -> str:
    return make_recipe(spec_of(root).job).store_uri("x").rpartition("/")[0]


def best_of_all(
    features: dict[str, Features], streams: tuple[int, ...] = (0, 1)
) -> list[tuple[float, str]]:
    """The cosine of the best clip of each take but the first to the moment, best first."""
    # The clip that shows 5.2 s: from 16 i / 30 on.
    query = directions(features["uid-0"][9, 1], True)
    found = []
    for uid in list(features)[1:]:
        some = features[uid][:, streams]
        unit = directions(some, np.isfinite(some).all(axis=-1))
        found.append((float((unit @ query).max()), uid))
    return sorted(found, reverse=True)


def test_without_means_it_is_said_what_makes_them(made: Made) -> None:
    answer = client_of(made[0]).post("/v1/search/takes", json=FAR)
    assert answer.status_code == 404
    assert "`takestream catalogue` makes them" in answer.json()["detail"]


@pytest.mark.parametrize("streams", [[], ["cam*"]])
def test_the_best_of_all_takes_are_found(made: Made, streams: list[str]) -> None:
    root, features = made
    refresh(folder_of(root), S3Options())
    asked = {**FAR, "top": 30, "takes": 100, "streams": streams}
    found = client_of(root).post("/v1/search/takes", json=asked).json()
    best = best_of_all(features, (1,) if streams else (0, 1))
    firsts: dict[str, float] = {}
    for moment in found["moments"]:
        firsts.setdefault(moment["take_uid"], moment["score"])
    for score, uid in best[:3]:
        assert firsts[uid] == pytest.approx(score, abs=1e-3)
    assert found["moments"][0]["take_uid"] == best[0][1]
    scores = [moment["score"] for moment in found["moments"]]
    assert scores == sorted(scores, reverse=True)
    assert (found["compared"], found["lacking"], found["exact"]) == (TAKES - 1, 0, True)
    assert "uid-0" not in firsts
    assert {m["stream"] for m in found["moments"]} <= ({"cam01_0"} if streams else set(STREAMS))
    assert all(moment["clip"] != 3 for moment in found["moments"])
    counts = [m["take_uid"] for m in found["moments"]]
    assert max(map(counts.count, counts)) <= 3


def test_few_takes_are_looked_at_and_it_is_known_whether_that_is_all(
    made: Made,
) -> None:
    root, features = made
    refresh(folder_of(root), S3Options())
    client = client_of(root)
    few = client.post("/v1/search/takes", json={**FAR, "top": 1, "takes": 100}).json()
    best = best_of_all(features)
    assert few["moments"][0]["take_uid"] == best[0][1]
    assert few["looked_at"] < TAKES - 1
    assert few["exact"]
    less = client.post("/v1/search/takes", json={**FAR, "top": 30, "takes": 2}).json()
    assert (less["looked_at"], less["exact"]) == (2, False)


def test_takes_that_are_newer_than_the_means_are_counted(
    made: Made,
) -> None:
    root, _ = made
    refresh(folder_of(root), S3Options())
    make_take(root, TAKES)
    client = client_of(root)
    found = client.post("/v1/search/takes", json=FAR).json()
    assert (found["compared"], found["lacking"], found["exact"]) == (TAKES - 1, 1, False)
    refresh(folder_of(root), S3Options())
    found = client.post("/v1/search/takes", json=FAR).json()
    assert (found["compared"], found["lacking"]) == (TAKES, 0)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "exactly one of text, image and moment"),
        ({"text": "a bicycle"}, 422, "efficientnet_lite knows no text"),
        ({**FAR, "streams": ["gp*"]}, 404, "has a stream gp*"),
        ({**FAR, "takes": 101}, 422, "takes"),
        ({"moment": {"take": "none", "stream": "cam01_0", "time": 1}}, 404, "no take 'none'"),
        ({"moment": {**FAR["moment"], "time": 99}}, 422, "moment.time"),
    ],
)
def test_what_cannot_be_looked_for_is_told(
    made: Made, body: dict[str, object], status: int, words: str
) -> None:
    refresh(folder_of(made[0]), S3Options())
    answer = client_of(made[0]).post("/v1/search/takes", json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
