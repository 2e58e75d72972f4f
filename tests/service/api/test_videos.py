"""Videos by range, as browsers ask for them."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from configs.load import parse
from configs.schema import ServeSpec
from service.api import videos
from service.api.app import create_app
from service.api.context import ApiContext
from service.api.keys import KeyRing, new_key
from service.api.problems import Problem
from service.api.videos import LONGEST_ANSWER, PIECE, byte_range
from service.app import video_warning
from takestream.errors import StorageDenied
from takestream.protocol import PROBLEM
from workers.media.source import Source

SIZE = 2 * LONGEST_ANSWER + 100
CONTENT = bytes(range(251)) * (SIZE // 251 + 1)
CONTENT = CONTENT[:SIZE]
URL = "/v1/takes/one/streams/cam01_0/video"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    entry = {
        "take_uid": "uid-1",
        "take_name": "one",
        "frame_aligned_videos": {"cam01": {"0": {"relative_path": "cam.mp4"}}},
    }
    (tmp_path / "takes.json").write_text(json.dumps([entry]))
    file = tmp_path / "takes" / "one" / "cam.mp4"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return file


def client_of(file: Path, keys: KeyRing | None = None, **more: object) -> TestClient:
    root = file.parent.parent.parent
    job = {"dataset": str(root), "output": str(root / "out")}
    context = ApiContext(parse(ServeSpec, {"job": job, **more}, "test"), keys, b"secret", None)
    return TestClient(create_app(context), "http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, (0, 1000, False)),
        ("bytes=0-0", (0, 1, True)),
        ("bytes=10-", (10, 1000, True)),
        ("bytes=990-5000", (990, 1000, True)),
        ("bytes=-10", (990, 1000, True)),
        ("bytes=-5000", (0, 1000, True)),
        # Not understood, so all of it.
        ("bytes=5-2", (0, 1000, False)),
        ("bytes=-", (0, 1000, False)),
        ("bytes=0-1,3-4", (0, 1000, False)),
        ("bytes=٠-٣", (0, 1000, False)),
        ("frames=0-1", (0, 1000, False)),
        # Understood, and there is no such byte.
        ("bytes=-0", None),
        ("bytes=1000-", None),
        ("bytes=1000-2000", None),
    ],
)
def test_ranges(header: str | None, found: tuple[int, int, bool] | None) -> None:
    if found is not None:
        assert byte_range(header, 1000) == found
        return
    with pytest.raises(Problem) as error:
        byte_range(header, 1000)
    assert (error.value.status, error.value.headers["Content-Range"]) == (416, "bytes */1000")


def test_all_of_a_video_and_parts_of_it(file: Path) -> None:
    client = client_of(file)
    whole = client.get(URL)
    assert (whole.status_code, whole.content) == (200, CONTENT)
    part = client.get(URL, headers={"Range": "bytes=7-"})
    assert (part.status_code, part.content) == (206, CONTENT[7 : 7 + LONGEST_ANSWER])
    for answer in (whole, part):
        assert answer.request.headers["accept-encoding"].startswith("gzip")
        assert "content-encoding" not in answer.headers
    assert part.headers["content-range"] == f"bytes 7-{6 + LONGEST_ANSWER}/{SIZE}"
    head = client.head(URL)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(SIZE)
    file.write_bytes(b"")
    assert client.get(URL).content == b""


def test_whoever_has_it_already_gets_no_more(file: Path) -> None:
    client = client_of(file)
    tag = client.get(URL, headers={"Range": "bytes=0-0"}).headers["etag"]
    same = client.get(URL, headers={"If-None-Match": tag, "Range": "bytes=0-9"})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)

    def ranged(version: str) -> Any:
        return client.get(URL, headers={"Range": "bytes=0-9", "If-Range": version})

    assert ranged(tag).content == CONTENT[:10]
    for other in ('"other"', f"W/{tag}", "Tue, 24 Nov 2026 18:00:00 GMT"):
        assert (ranged(other).status_code, ranged(other).content) == (200, CONTENT)
    file.write_bytes(CONTENT[::-1])
    assert ranged(tag).content == CONTENT[::-1]


def test_a_video_that_changes_while_it_is_read_is_never_mixed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Source.read

    def changing(self: Source, start: int, stop: int) -> bytes:
        found = read(self, start, stop)
        file.write_bytes(CONTENT[::-1])
        return found

    client = client_of(file)
    client.get("/v1/takes/one")  # the data set's own files are read by then
    monkeypatch.setattr(Source, "read", changing)
    short = client.get(URL, headers={"Range": "bytes=0-9"})
    assert (short.status_code, short.headers["retry-after"]) == (503, "10")
    file.write_bytes(CONTENT)
    answer = client.get(URL, headers={"Range": f"bytes=0-{3 * PIECE - 1}"})
    assert len(answer.content) < 3 * PIECE  # torn: the last piece never comes


def test_what_stands_against_a_video_is_told_before_its_answer_begins(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(file)
    client.get("/v1/takes/one")

    def denied(*_: object) -> bytes:
        raise StorageDenied("cam.mp4: access denied")

    monkeypatch.setattr(Source, "read", denied)
    assert client.get(URL).status_code == 503
    file.unlink()
    assert client.get(URL).status_code == 404


def test_a_link_counts_for_the_key_that_it_was_given_to(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ann, one), (bob, two) = (new_key(name, ["read"]) for name in ("ann.b", "bob"))
    client = client_of(file, KeyRing([one, two]))
    context = client.app.state.context  # type: ignore[attr-defined]

    def link(key: str) -> str:
        take = client.get("/v1/takes/one", headers={"Authorization": f"Bearer {key}"}).json()
        return str(take["streams"][0]["video"])

    of_ann, of_bob = link(ann), link(bob)
    first = {"Range": "bytes=0-0"}
    assert client.get(of_ann, headers=first).status_code == 206
    assert client.get(of_ann.replace("ann.b", "bob"), headers=first).status_code == 401
    context._under_way["ann.b", "videos"] = 64
    assert client.get(of_ann, headers=first).status_code == 429
    assert client.get(of_bob, headers=first).status_code == 206
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert client.get(of_bob, headers=first).status_code == 401


def test_videos_can_be_switched_off(file: Path) -> None:
    one, known = new_key("ann", ["read"])
    client = client_of(file, KeyRing([known]), videos=False)
    assert client.get(URL).status_code == 401
    client.headers["Authorization"] = f"Bearer {one}"
    for answer in (client.get(URL), client.get(URL, headers={"Range": "bytes=0-9"})):
        assert (answer.status_code, answer.headers["content-type"]) == (403, PROBLEM)
        assert "videos are switched off" in answer.json()["detail"]
    assert client.head(URL).status_code == 403
    take = client.get("/v1/takes/one").json()
    assert (take["videos"], [s["video"] for s in take["streams"]]) == (False, [None])
    client = client_of(file)
    take = client.get("/v1/takes/one").json()
    assert (take["videos"], [s["video"] for s in take["streams"]]) == (
        True,
        [URL.replace("one", "uid-1")],
    )


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "192.0.2.7"}, True),
        ({"host": "0.0.0.0", "videos": False}, False),
    ],
)
def test_a_service_for_others_says_that_it_streams_videos(
    settings: dict[str, object], warned: bool
) -> None:
    job = {"dataset": "data", "output": "out"}
    said = video_warning(parse(ServeSpec, {"job": job, **settings}, "test"))
    assert (said is not None) == warned
    if said is not None:
        assert str(settings["host"]) in said
        assert "--no-video" in said
        assert "Ego-Exo4D license agreement, https://ego4ddataset.com/egoexo-license/" in said


def test_links_lead_to_names_that_are_odd() -> None:
    stream = type("S", (), {"uri": "x", "key": "cam #1"})
    context = type("D", (), {"keys": None, "spec": type("P", (), {"videos": True})})
    take = type("T", (), {"uid": "a?b"})
    found = videos.media_url(context, None, take, stream, "video")  # type: ignore[arg-type]
    assert found == "/v1/takes/a%3Fb/streams/cam%20%231/video"
