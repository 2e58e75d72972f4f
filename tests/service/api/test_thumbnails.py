"""Small pictures of moments: the right moment, made once, for whoever may see the video."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from configs.load import parse
from configs.schema import ServeSpec
from service.api.app import create_app
from service.api.context import ApiContext
from service.api.keys import KeyRing, new_key
from service.demo.footage import encode_video
from service.features import thumbnails
from takestream.errors import StorageDenied
from takestream.stores import THUMBNAILS
from workers.store.objects import Objects

URL = "/v1/takes/one/streams/cam01_0/thumbnail"


def grey(value: int) -> np.ndarray:
    return np.full((96, 128, 3), value, dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A take of 4 s whose second n is of grey 40 + 40 n; its worn camera is listed last."""
    streams = {
        "cam01": {"0": {"relative_path": "cam.mp4", "is_ego": False}},
        "aria01": {"rgb": {"relative_path": "ego.mp4", "is_ego": True}},
        "cam02": {"0": {"relative_path": "absent.mp4"}},
    }
    entry = {"take_uid": "uid-1", "take_name": "one", "frame_aligned_videos": streams}
    (tmp_path / "takes.json").write_text(json.dumps([{**entry, "duration_sec": 4.0}]))
    folder = tmp_path / "takes" / "one"
    folder.mkdir(parents=True)
    for name, more in (("cam", 0), ("ego", 8)):
        pictures = (grey(40 + 40 * (n // 30) + more) for n in range(120))
        encode_video(folder / f"{name}.mp4", pictures, audio=False, gop=50)
    return tmp_path


def client_of(root: Path, keys: KeyRing | None = None, **more: Any) -> TestClient:
    job = {"dataset": str(root), "output": str(root / "out")}
    context = ApiContext(parse(ServeSpec, {"job": job, **more}, "test"), keys, b"secret", None)
    return TestClient(create_app(context), "http://localhost", raise_server_exceptions=False)


def shown(jpeg: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).mean())


@pytest.mark.parametrize(("time", "grey"), [(0, 40), (0.9, 40), (1.0, 80), (2.7, 120), (4.2, 160)])
def test_the_picture_is_of_the_moment(root: Path, time: float, grey: int) -> None:
    answer = client_of(root).get(URL, params={"time": time})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert abs(shown(answer.content) - grey) < 4
    again = client_of(root).get(
        URL, params={"time": time}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_it_is_made_once_and_kept_beside_the_output(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client_of(root).get(URL, params={"time": 1}).content
    (kept,) = (root / "out" / THUMBNAILS / "uid-1").iterdir()
    assert kept.read_bytes() == first
    monkeypatch.setattr(thumbnails, "PROBES", {})  # nothing is decoded
    assert client_of(root).get(URL, params={"time": 1.2}).content == first


def test_another_video_has_another_picture(root: Path) -> None:
    client = client_of(root)
    before = client.get(URL)
    path = root / "takes" / "one" / "cam.mp4"
    encode_video(path, (grey(200) for _ in range(60)), audio=False)
    after = client.get(URL)
    assert after.headers["etag"] != before.headers["etag"]
    assert abs(shown(after.content) - 200) < 4


def test_an_output_that_may_only_be_read_is_no_obstacle(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageDenied("may not be written")

    monkeypatch.setattr(Objects, "put", refuse)
    assert client_of(root).get(URL).status_code == 200


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (URL + "?time=5", "no picture at 5 s, past the end of the stream"),
        (URL.replace("cam01_0", "cam02_0"), "absent"),
        (URL.replace("cam01_0", "cam09_0"), "no video of a stream 'cam09_0'"),
        (URL.replace("one", "two"), "two"),
    ],
)
def test_what_is_not_there_is_said(root: Path, url: str, words: str) -> None:
    answer = client_of(root).get(url)
    assert answer.status_code == 404
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("time", ["-1", "nan", "1e9", "soon"])
def test_times_that_are_none_are_refused(root: Path, time: str) -> None:
    assert client_of(root).get(URL, params={"time": time}).status_code == 422


def test_garbage_is_no_picture(root: Path) -> None:
    (root / "takes" / "one" / "cam.mp4").write_bytes(b"no video" * 99)
    answer = client_of(root).get(URL)
    assert answer.status_code == 404
    assert "take one cam01_0" in answer.json()["detail"]


def test_links_let_a_browser_in(root: Path) -> None:
    key, entry = new_key("page", ["read"])
    client = client_of(root, KeyRing([entry]))
    assert client.get(URL).status_code == 401
    sent = {"Authorization": f"Bearer {key}"}
    (listed,) = client.get("/v1/takes", headers=sent).json()["takes"]
    answer = client.get(listed["thumbnail"])
    # The worn camera, in the middle of the take.
    assert abs(shown(answer.content) - 128) < 4
    streams = client.get("/v1/takes/one", headers=sent).json()["streams"]
    link = next(stream["thumbnail"] for stream in streams if stream["key"] == "cam01_0")
    assert abs(shown(client.get(f"{link}&time=3").content) - 160) < 4
    assert client.get(f"{URL}?token={link.partition('token=')[2][:-1]}").status_code == 401


def test_videos_that_are_off_have_no_pictures(root: Path) -> None:
    client = client_of(root, videos=False)
    assert client.get(URL).status_code == 403
    (listed,) = client.get("/v1/takes").json()["takes"]
    assert listed["thumbnail"] is None


def test_takes_are_sorted(root: Path) -> None:
    entry = json.loads((root / "takes.json").read_text())[0]
    more = {"b": 9.0, "C": 2.0, "a": None}
    listed = [{**entry, "take_uid": n, "take_name": n, "duration_sec": d} for n, d in more.items()]
    (root / "takes.json").write_text(json.dumps([entry, *listed]))
    client = client_of(root)

    def names(sort: str) -> list[str]:
        takes = client.get("/v1/takes", params={"sort": sort}).json()["takes"]
        return [take["take_name"] for take in takes]

    assert names("name") == ["a", "b", "C", "one"]
    assert names("-name") == ["one", "C", "b", "a"]
    assert names("duration") == ["C", "one", "b", "a"]
    assert names("-duration") == ["b", "one", "C", "a"]
    assert names("task") == ["one", "b", "C", "a"]
    assert client.get("/v1/takes", params={"sort": "colour"}).status_code == 422
    link = client.get("/v1/takes", params={"sort": "name", "limit": 1}).headers["Link"]
    assert "sort=name" in link
