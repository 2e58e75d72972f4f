"""The front context without an engine: keys, limits, and answers from a store that is there."""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from configs.load import SettingsError, parse
from configs.schema import ServeSpec
from service.api.app import create_app
from service.api.context import ApiContext
from service.api.features import KINDS
from service.api.keys import KeyRing
from service.api.negotiation import accepted, matches
from service.api.problems import Problem
from service.app import checked
from service.features.cache import StoredFeatures
from takestream.client.records import TakeDetails
from takestream.licence import ATTRIBUTE, Licence
from takestream.storage import S3Options
from takestream.sync import StreamSync, TakeSync
from workers.run.recipe import make_recipe
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

STREAMS = ("aria01_rgb", "cam01_0")
SECRET = "ts_the-key-of-this-test"
CLIPS, DIM = 20, 1280


def spec_of(root: Path, **more: object) -> ServeSpec:
    job = {"dataset": str(root / "data"), "output": str(root / "out")}
    return parse(ServeSpec, {"job": job, **more}, "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one take without its videos, and the take's complete store."""
    root = tmp_path_factory.mktemp("served")
    videos = {name[:-2]: {"0": {"relative_path": f"{name}.mp4"}} for name in ("cam01_0",)}
    videos["aria01"] = {"rgb": {"relative_path": "aria.mp4"}}
    entry = {"take_uid": "uid-1", "take_name": "one", "frame_aligned_videos": videos}
    (root / "data").mkdir()
    (root / "data" / "takes.json").write_text(json.dumps([entry]))
    recipe = make_recipe(spec_of(root).job)
    start = np.arange(CLIPS) * 16
    layout = StoreLayout(
        streams=STREAMS,
        dim=DIM,
        dtype="float16",
        unit_clips=8,
        start_frame=start,
        stop_frame=start + 32,
        start_time=start / 30,
        end_time=(start + 32) / 30,
        attributes={
            "take": {"take_uid": "uid-1", "take_name": "one"},
            "grid": {"frames": 336},
            "encoder": {},
            "provenance": {"streams": {name: {"etag": "e", "size": 1} for name in STREAMS}},
            "problems": {},
        },
    )
    store = TakeStore.create(recipe.store_uri("uid-1"), layout, S3Options())
    for name in STREAMS:
        for first in range(0, CLIPS, 8):
            write(store, name, first)
    assert store.finish()
    return root


def write(store: TakeStore, name: str, first: int, plus: float = 0) -> None:
    n = min(8, CLIPS - first)
    rows = np.arange(first, first + n)
    store.write(
        name,
        first,
        features=np.repeat(rows[:, None] + plus + 100 * STREAMS.index(name), DIM, axis=1),
        valid=rows != 5,
        frame_time=rows / 2,
        reason=np.where(rows == 5, 6, 0),
    )


def client_of(root: Path, keys: KeyRing | None = None, **more: object) -> TestClient:
    context = ApiContext(spec_of(root, **more), keys, b"secret", None)
    return TestClient(create_app(context), "http://localhost", raise_server_exceptions=False)


@pytest.fixture
def client(root: Path) -> Iterator[TestClient]:
    with client_of(root) as client:
        yield client


def ring(*scopes: str) -> KeyRing:
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    entry = f"- {{name: me, sha256: {digest}, scopes: [{', '.join(scopes)}]}}"
    found = KeyRing.load(None, {"TAKESTREAM_API_KEYS": entry})
    assert found is not None
    return found


HEADERS = {"Authorization": f"Bearer {SECRET}"}
FEATURES = "/v1/takes/one/features"


def test_clips_that_show_the_time_come_with_what_is_wrong_with_them(client: TestClient) -> None:
    answer = client.get(FEATURES, params={"start": 2, "end": 4}, headers={"Accept": KINDS[1]})
    found = np.load(io.BytesIO(answer.content), allow_pickle=False)
    times = np.arange(CLIPS) * 16 / 30
    wanted = np.flatnonzero((times + 32 / 30 > 2) & (times < 4))
    np.testing.assert_array_equal(found["clip"], wanted)
    np.testing.assert_array_equal(found["valid"][:, 0], wanted != 5)
    assert np.isnan(found["features"][wanted == 5]).all()
    cam = found["stream"].tolist().index("cam01_0")
    np.testing.assert_array_equal(found["features"][wanted != 5, cam, 0], 100 + wanted[wanted != 5])
    assert json.loads(str(found["attributes"]))["take"]["take_name"] == "one"
    plain = client.get(FEATURES, params={"start": 2, "end": 4}).json()
    assert plain["features"][int(np.flatnonzero(wanted == 5)[0])][0][0] is None


@pytest.mark.parametrize(
    ("headers", "scopes", "status"),
    [
        ({}, ["read"], 401),
        ({"Authorization": "Bearer ts_wrong"}, ["read"], 401),
        ({"Authorization": f"Basic {SECRET}"}, ["read"], 401),
        ({"Authorization": f"Bearer {SECRET}x"}, ["read"], 401),
        ({"Authorization": "Bearer " + "x" * 100_000}, ["read"], 401),
        (HEADERS, ["read"], 200),
        (HEADERS, ["jobs"], 403),
    ],
)
def test_only_known_keys_with_the_scope_get_in(
    root: Path, headers: dict[str, str], scopes: list[str], status: int
) -> None:
    answer = client_of(root, ring(*scopes)).get(FEATURES, headers=headers)
    assert answer.status_code == status
    assert SECRET not in answer.text
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_that_gives_something_asks_for_the_key(root: Path) -> None:
    client = client_of(root, ring("read"))
    open_to_all = {"/healthz", "/readyz", "/metrics"}
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            url = path.format(take="one", stream="cam01_0", job_id="20261124-000000-abcdef")
            body = {"json": {"take": "one", "text": "x", "segments": [
                {"take": "one", "start": 0, "end": 1}]}} if method == "post" else {}  # fmt: skip
            if path not in open_to_all:
                answer = client.request(method, url, **body)
                assert answer.status_code in (401, 422), (method, path, answer.status_code)
                if answer.status_code == 422:
                    assert "take" not in answer.headers


def test_video_links_open_their_own_video_for_a_while(root: Path) -> None:
    client = client_of(root, ring("read"))
    streams = client.get("/v1/takes/one", headers=HEADERS).json()["streams"]
    link = next(s["video"] for s in streams if s["key"] == "cam01_0")
    # Past the context: 404, because this data set has no videos.
    assert client.get(link).status_code == 404
    assert client.get(link.replace("cam01_0", "aria01_rgb")).status_code == 401
    until, _, signature = link.partition("token=")[2].partition(".")
    later = link.replace(until, str(int(until) + 9))
    assert client.get(later).status_code == 401
    assert client.get(link.split("?")[0]).status_code == 401
    assert signature


def test_a_key_that_only_reads_computes_nothing(root: Path) -> None:
    client = client_of(root, ring("read"))
    answer = client.get(FEATURES, params={"fps": 10}, headers=HEADERS)
    assert answer.status_code == 403
    assert "scope compute" in answer.json()["detail"]
    assert client.post("/v1/jobs", json={}, headers=HEADERS).status_code == 403


def test_limits(root: Path) -> None:
    client = client_of(root, limits={"answer_clips": 10, "body_bytes": 1000, "segments": 1})
    answer = client.get(FEATURES)
    assert answer.status_code == 413
    assert "10 are allowed" in answer.json()["detail"]
    many = [{"take": "one", "start": 0, "end": 1}] * 2
    assert client.post("/v1/features", json={"segments": many}).status_code == 413
    big = client.post("/v1/search", json={"take": "one", "text": "x" * 5000})
    assert big.status_code == 413, big.text


def test_one_request_too_many_is_told_when_to_come_back(root: Path) -> None:
    context = ApiContext(spec_of(root, limits={"requests_per_key": 1}), None, b"", None)
    client = TestClient(create_app(context), "http://localhost")
    with context.counted(context.authenticate(None, "read")):  # type: ignore[arg-type]
        answer = client.get(FEATURES)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert client.get(FEATURES).status_code == 200


def test_what_the_cache_holds_is_never_older_than_the_store(root: Path) -> None:
    recipe = make_recipe(spec_of(root).job)
    uri = recipe.store_uri("uid-1")
    stored = StoredFeatures(S3Options(), 10**6)
    opened = stored.open(uri)
    assert opened is not None
    before = opened.read(["cam01_0"], 0, 8)
    assert before is not None
    store = TakeStore.open(uri, S3Options(), writable=True)
    store.reset("cam01_0")
    again = stored.open(uri)
    assert again is not None
    block = again.read(STREAMS, 0, CLIPS)
    assert block is not None
    assert block.have[:, 0].all()
    assert not block.have[:, 1].any()
    for first in range(0, CLIPS, 8):
        write(store, "cam01_0", first, plus=0.5)
    store.update_attributes(provenance={"streams": {"cam01_0": {"etag": "f", "size": 1}}})
    assert store.finish()
    newest = stored.open(uri)
    assert newest is not None
    block = newest.read(["cam01_0"], 0, 8)
    assert block is not None
    np.testing.assert_array_equal(block.features[0, 0], np.float16(100.5))
    write_back(store)


def write_back(store: TakeStore) -> None:
    for first in range(0, CLIPS, 8):
        write(store, "cam01_0", first)
    store.update_attributes(provenance={"streams": {"cam01_0": {"etag": "e2", "size": 1}}})


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, 0),
        ("*/*", 0),
        ("application/*;q=0.5, application/x-npz", 1),
        ("text/html, application/vnd.apache.arrow.stream;q=0.1", 2),
        ("application/json;q=0.2, application/x-ndjson;q=0.9", 3),
        ("text/html", None),
        ("application/json;q=0", None),
        (",;,q=;", None),
        ("application/json;q=0, */*", 1),
        ("*/*, application/json;q=0", 1),
        ("application/x-npz;q=0, application/*;q=0.3", 0),
        ("application/json;q=0.1, application/*;q=0.5", 1),
        ("*/*;q=0.9, application/x-npz;q=0.95", 1),
        ("*/*, application/x-npz", 1),
        ("application/x-ndjson, application/json", 3),
        ("application/json;q=nan, application/x-npz;q=0.001", 1),
        ("application/json;q=2", None),
    ],
)
def test_accept(accept: str | None, kind: int | None) -> None:
    if kind is None:
        with pytest.raises(Problem):
            accepted(accept, KINDS)
    else:
        assert accepted(accept, KINDS) == KINDS[kind]


def test_if_none_match_compares_weakly() -> None:
    assert matches('"a", W/"b"', 'W/"b"')
    assert matches('"b"', 'W/"b"')
    assert matches("*", 'W/"b"')
    assert not matches('"a"', 'W/"b"')
    assert not matches(None, 'W/"b"')


def test_an_open_service_listens_on_loopback_only(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAKESTREAM_API_KEYS", raising=False)
    checked(spec_of(root))
    checked(spec_of(root, host="0.0.0.0", insecure=True))
    with pytest.raises(SettingsError, match="keys-file"):
        checked(spec_of(root, host="0.0.0.0"))
    monkeypatch.setenv(
        "TAKESTREAM_API_KEYS", "- {name: a, sha256: '" + "0" * 64 + "', scopes: [read]}"
    )
    checked(spec_of(root, host="0.0.0.0"))


def test_a_damaged_store_beside_takes_nothing_away(root: Path) -> None:
    client = client_of(root)
    encoder_id = make_recipe(spec_of(root).job).target.encoder_id
    (good,) = client.get("/v1/takes/one").json()["stores"]
    assert (good["encoder_id"], good["status"], good["clips"]) == (encoder_id, "complete", CLIPS)
    other = root / "out" / "aaa-0123456789" / "uid-1.zarr"
    other.mkdir(parents=True)
    try:
        (other / "zarr.json").write_text("{}")
        first, second = client.get("/v1/takes/one").json()["stores"]
    finally:
        shutil.rmtree(other.parent)
    assert first == good
    assert (second["encoder_id"], second["status"]) == ("aaa-0123456789", "damaged")
    assert "uid-1.zarr" in second["problems"]["store"][0]


def test_a_take_knows_its_stores_as_they_are_now(root: Path) -> None:
    client = client_of(root)
    assert len(client.get("/v1/takes/one").json()["stores"]) == 1
    store = next((root / "out").glob("*/uid-1.zarr"))
    copy = store.parent.parent / "bbb-0123456789" / store.name
    shutil.copytree(store, copy)
    try:
        assert len(client.get("/v1/takes/one").json()["stores"]) == 2
    finally:
        shutil.rmtree(copy.parent)
    assert len(client.get("/v1/takes/one").json()["stores"]) == 1


def test_licences_are_told_with_a_take_and_with_its_features(root: Path) -> None:
    client = client_of(root)
    take = client.get("/v1/takes/one").json()
    assert take["dataset_licence"]["name"] == "Ego-Exo4D license agreement"
    (store,) = take["stores"]
    assert (store["dataset_licence"], store["encoder_licence"]) == (None, None)
    answered = client.get(FEATURES, headers={"Accept": KINDS[0]}).json()
    assert ATTRIBUTE not in answered["attributes"]
    licence = Licence("terms", "https://example.org/terms")
    encoder = {"licence": "MIT", "source": "https://example.org/net"}
    path = next((root / "out").glob("*/uid-1.zarr"))
    before = (path / "zarr.json").read_text()
    store = TakeStore.open(str(path), writable=True)
    store.update_attributes(**{ATTRIBUTE: licence.facts(), "encoder": encoder})
    try:
        client = client_of(root)
        details = TakeDetails.of(client.get("/v1/takes/one").json())
        assert details.stores[0].dataset_licence == licence
        assert details.stores[0].encoder_licence == Licence("MIT", "https://example.org/net")
        answered = client.get(FEATURES, headers={"Accept": KINDS[0]}).json()
        assert answered["attributes"][ATTRIBUTE] == licence.facts()
    finally:
        (path / "zarr.json").write_text(before)


def test_what_was_measured_of_a_take_is_told(root: Path) -> None:
    client = client_of(root)
    assert client.get("/v1/takes/one").json()["sync"] is None
    rows = client.get("/v1/takes/one/timeline").json()["streams"]
    assert [row["sync"] for row in rows] == [None] * len(STREAMS)
    late = StreamSync(-300.0, None, -9, "sound", "high", 11, 12, 10.0, "9 frames early")
    measured = TakeSync("sound", STREAMS[0], 30.0, {STREAMS[1]: late})
    store = next((root / "out").glob("*/uid-1.zarr"))
    before = (store / "zarr.json").read_bytes()
    try:
        TakeStore.open(str(store), writable=True).update_attributes(sync=measured.facts())
        take = client.get("/v1/takes/one").json()
        rows = client.get("/v1/takes/one/timeline").json()["streams"]
    finally:
        (store / "zarr.json").write_bytes(before)
    assert take["sync"]["streams"][STREAMS[1]]["offset_ms"] == -300.0
    frames = {row["stream"]: (row["sync"] or {}).get("frames") for row in rows}
    assert frames == {STREAMS[0]: None, STREAMS[1]: -9}


def test_the_api_page_comes_from_here_alone(client: TestClient) -> None:
    page = client.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    for link in links:
        assert link.startswith("/"), link
        assert client.get(link).status_code == 200


def test_a_time_beyond_the_take_is_refused_alike_wherever_it_is_asked(client: TestClient) -> None:
    ends = ((CLIPS - 1) * 16 + 32) / 30
    moment = {"stream": "cam01_0", "time": ends}
    answers = {
        "start": client.get(FEATURES, params={"start": ends}),
        "moment.time": client.post("/v1/search", json={"take": "one", "moment": moment}),
    }
    details = set()
    for name, answer in answers.items():
        assert (answer.status_code, answer.json()["kind"]) == (422, "invalid")
        details.add(answer.json()["detail"].removeprefix(f"{name}: "))
    assert details == {f"{ends:g} s is beyond take one, whose last clip ends at {ends:g} s"}
    assert client.get(FEATURES, params={"start": ends - 0.01}).json()["clip"] == [CLIPS - 1]
    moment["time"] = ends - 0.01
    found = client.post("/v1/search", json={"take": "one", "moment": moment})
    assert found.json()["query"]["clip"] == CLIPS - 1
