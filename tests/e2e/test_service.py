"""A real client against a real service: what it answers, and what it answers when disturbed."""

import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

import takestream

pytestmark = pytest.mark.e2e

ALPHA, BETA = "alpha_balance01_1", "beta_duet01_2"
NPZ = {"Accept": "application/x-npz"}
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def client(serving: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serving.url, timeout=120) as found:
        yield found


def arrays(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(np.load(io.BytesIO(answer.content), allow_pickle=False))


def clips_of(answer: httpx.Response) -> tuple[int, int]:
    cached, computed = answer.headers["x-takestream-clips"].split("; ")
    return int(cached.removeprefix("cached=")), int(computed.removeprefix("computed="))


def ask(client: httpx.Client, headers: dict[str, str], take: str = ALPHA, **query: Any) -> Any:
    return client.get(f"/v1/takes/{take}/features", params=query, headers=headers)


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " "))


def settled(client: httpx.Client) -> float:
    """The clips encoded so far, when no more come."""
    deadline = time.monotonic() + 60
    last = -1.0
    while last != (last := metric(client, "takestream_clips_total")):
        assert time.monotonic() < deadline
        time.sleep(2)
    return last


def test_its_terminal_shows_its_own_lines_alone(serving: Any) -> None:
    """No line of Ray, whose level comes first, and the port that 0 became."""
    lines = serving.log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["takestream", "its"], lines
    assert not serving.url.endswith(":0")


def test_computed_and_stored_answers_are_the_same_in_every_form(client: httpx.Client) -> None:
    # A grid of its own: another test may have extracted the take with the encoder's.
    part = ask(client, NPZ, fps=15, start=1, end=3, streams="cam*")
    some = arrays(part)
    assert clips_of(part) == (0, some["features"].shape[0] * 4)
    assert some["stream"].tolist() == [f"cam0{n}_0" for n in (1, 2, 3, 4)]
    assert some["end_time"].min() > 1
    assert some["start_time"].max() < 3

    lines = [json.loads(line) for line in ask(client, NDJSON, fps=15).text.splitlines()]
    assert lines[-1]["end"] is True
    whole = ask(client, NPZ, fps=15)
    everything = arrays(whole)
    # All clips of the take were asked for, so its only unit was written.
    assert clips_of(whole) == (everything["features"][..., 0].size, 0)
    rows = np.isin(everything["clip"], some["clip"])
    np.testing.assert_array_equal(some["features"], everything["features"][rows][:, 2:])

    streams = everything["stream"].tolist()
    for line in lines[1:-1]:
        row, at = line["clip"], streams.index(line["stream"])
        assert line["valid"] == everything["valid"][row, at]
        if line["valid"]:
            np.testing.assert_array_equal(line["features"], everything["features"][row, at])
    assert len(lines) == 2 + everything["valid"].size

    table = pa.ipc.open_stream(ask(client, ARROW, fps=15).content).read_all()
    assert table.num_rows == everything["valid"].size
    first = table.to_pylist()[0]
    np.testing.assert_array_equal(first["features"], everything["features"][0, 0])
    plain = ask(client, {}, fps=15).json()
    np.testing.assert_array_equal(plain["features"][0][0], everything["features"][0, 0])

    tag = whole.headers["etag"]
    again = client.get(
        f"/v1/takes/{ALPHA}/features",
        params={"fps": 15},
        headers={**NPZ, "If-None-Match": f'"x", {tag}'},
    )
    assert (again.status_code, again.content) == (304, b"")
    other = ask(client, NPZ, fps=15, start=4).headers["etag"]
    assert other != tag


def test_what_is_asked_twice_at_once_is_computed_once(client: httpx.Client) -> None:
    before = settled(client)
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(lambda _: ask(client, NPZ, BETA, start=2, end=3), range(5)))
    assert len({answer.content for answer in found}) == 1
    assert settled(client) - before == sum(clips_of(found[0]))


def test_whoever_goes_away_leaves_no_work_behind(client: httpx.Client) -> None:
    before, lost = settled(client), metric(client, "takestream_workers_lost_total")
    for seconds in (0.2, 0.3, 0.4, 0.5, 0.6):
        query = {"fps": 120 + seconds}
        with pytest.raises(httpx.ReadTimeout):
            client.get(f"/v1/takes/{BETA}/features", params=query, headers=NPZ, timeout=seconds)
    # Each would be about 280 clips: six streams of 6.3 s at 120 fps and stride 16. Up to two
    # batches of 16 clips are computed before the worker hears of it.
    assert settled(client) - before < 350
    assert metric(client, "takestream_workers_lost_total") == lost


def test_jobs_are_followed_to_their_end_and_can_be_stopped(client: httpx.Client) -> None:
    body = {"select": {"take_names": [BETA]}, "store": {"unit_frames": 64}, "grid": {"stride": 8}}
    job = client.post("/v1/jobs", json=body)
    assert job.status_code == 201
    url = job.headers["location"]
    events = client.get(f"{url}/events").text.split("\n\n")
    kinds = [event.split("event: ")[1].split("\n")[0] for event in events if "event: " in event]
    assert kinds[-1] == "end"
    ended = client.get(url).json()
    assert ended["status"] == "succeeded", ended
    assert ended["progress"]["takes_done"] == 1
    assert "complete" in client.get(f"{url}/logs").text

    job = client.post("/v1/jobs", json={**body, "grid": {"stride": 1}})
    url = job.headers["location"]
    assert client.delete(url).status_code == 202
    assert "event: end" in client.get(f"{url}/events").text
    assert client.get(url).json()["status"] == "stopped"
    listed = [one["job_id"] for one in client.get("/v1/jobs").json()["jobs"]]
    assert listed[0] == job.json()["job_id"]


def test_killed_workers_engines_and_doors_cost_time_and_nothing_else(
    client: httpx.Client, serving: Any
) -> None:
    right = arrays(ask(client, NPZ, BETA, fps=20, start=0, end=2))
    with ThreadPoolExecutor(1) as pool:
        # Another end: another window, so that it is computed anew.
        asked = pool.submit(ask, client, NPZ, BETA, fps=20, start=0, end=4)
        time.sleep(0.7)
        serving.kill("ray::Worker")
        found = arrays(asked.result())
    count = len(right["clip"])
    np.testing.assert_array_equal(found["features"][:count], right["features"])

    body = {"select": {"take_names": [BETA]}, "store": {"unit_frames": 64}, "grid": {"stride": 6}}
    url = client.post("/v1/jobs", json=body).headers["location"]
    time.sleep(1)
    serving.kill("ray::ServeReplica:takestream:Engine")
    serving.kill("ray::ServeReplica:takestream:Api")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            answer = client.get(url)
        except httpx.TransportError:
            continue
        if answer.status_code == 200 and answer.json()["status"] == "succeeded":
            break
        # While they start again: a plain answer, and when to come back.
        if answer.status_code not in (200, 500, 503):
            pytest.fail(answer.text)
        time.sleep(0.5)
    assert answer.json()["status"] == "succeeded", answer.text
    np.testing.assert_array_equal(
        arrays(ask(client, NPZ, BETA, fps=20, start=0, end=2))["features"], right["features"]
    )


def test_the_client_people_import_gets_what_http_gives(serving: Any, client: httpx.Client) -> None:
    with takestream.Client(serving.url) as service:
        assert [take.take_name for take in service.takes()] == [ALPHA, BETA]
        found = service.features(ALPHA, start=1, end=3, streams=["cam*"])
        plain = arrays(ask(client, NPZ, start=1, end=3, streams="cam*"))
        np.testing.assert_array_equal(found.features, plain["features"])
        np.testing.assert_array_equal(found.valid, plain["valid"])
        assert found.attrs["take"]["take_name"] == ALPHA
        job = service.submit(select={"take_names": [BETA]}, grid={"stride": 9})
        *_, last = job.events()
        assert job.refresh().status == "succeeded", last
        assert "complete" in job.logs()
        with pytest.raises(takestream.errors.NotFound, match="did you mean"):
            service.features("alpha_balance01_2")


def test_segments_and_moments(client: httpx.Client) -> None:
    everything = arrays(ask(client, NPZ))
    annotation = {
        "annotations": {
            everything_uid(client): {
                "segments": [
                    {"start_time": 1.0, "end_time": 3.0, "step_id": 7},
                    {"start_time": 3.01, "end_time": 3.02, "step_id": 8},
                ]
            }
        }
    }
    found = client.post("/v1/features", json=annotation, headers=NPZ)
    vectors = arrays(found)
    middle = (everything["start_time"] + everything["end_time"]) / 2
    rows = (middle >= 1) & (middle < 3)
    wanted = everything["features"][rows].astype(np.float32).mean(axis=0)
    np.testing.assert_allclose(vectors["features"][0], wanted, rtol=1e-6)
    assert vectors["valid"].all()
    assert vectors["step_id"].tolist() == ["7", "8"]

    moment = {"stream": "cam01_0", "time": 3.0}
    best = client.post("/v1/search", json={"take": ALPHA, "moment": moment, "top": 1}).json()
    own = next(entry for entry in best["streams"] if entry["stream"] == "cam01_0")
    assert own["moments"][0]["clip"] == best["query"]["clip"]
    assert own["moments"][0]["score"] == pytest.approx(1, abs=1e-3)


def test_videos_come_whole_and_by_range(client: httpx.Client, example: Path) -> None:
    path = example / "takes" / ALPHA / "frame_aligned_videos" / "cam01.mp4"
    right = path.read_bytes()
    streams = client.get(f"/v1/takes/{ALPHA}").json()["streams"]
    url = next(s["video"] for s in streams if s["key"] == "cam01_0")
    whole = client.get(url)
    assert whole.content == right
    for asked, wanted in (
        ("bytes=300000-", right[300000:]),
        ("bytes=100-299", right[100:300]),
        ("bytes=-77", right[-77:]),
        ("bytes=0-99999999", right),
    ):
        part = client.get(url, headers={"Range": asked})
        assert part.status_code == 206
        assert part.content == wanted
    assert client.get(url, headers={"Range": f"bytes={len(right)}-"}).status_code == 416
    assert client.head(url).headers["content-length"] == str(len(right))


def everything_uid(client: httpx.Client) -> str:
    return str(client.get(f"/v1/takes/{ALPHA}").json()["take_uid"])


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/takes/alpha_balance01_2/features", 404, "did you mean 'alpha_balance01_1'"),
        (f"/v1/takes/{ALPHA}/features?streams=cam09_0", 404, "did you mean"),
        (f"/v1/takes/{ALPHA}/features?encoder=efficientnet_light", 404, "did you mean"),
        (f"/v1/takes/{ALPHA}/features?strat=1", 422, "did you mean 'start'"),
        (f"/v1/takes/{ALPHA}/features?start=3&end=2", 422, "not after"),
        (f"/v1/takes/{ALPHA}/features?start=nan", 422, "must be a finite number"),
        ("/v1/takes/..%2f..%2fetc%2fpasswd/features", 404, ""),
        (f"/v1/takes/{ALPHA}/streams/..%2f..%2ftakes.json/video", 404, ""),
        ("/static/..%2f..%2f..%2fetc/passwd", 404, ""),
        ("/v1/jobs/20261124-000000-abcdef", 404, "no job"),
    ],
)
def test_errors_are_problems_that_say_what_to_do(
    client: httpx.Client, path: str, status: int, words: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"output": "/etc"},
        {"output": "s3://served/features/../../elsewhere"},
        {"dataset": "https://example.org/"},
        {"run": {"address": "auto"}},
        {"s3": {"endpoint_url": "http://169.254.169.254"}},
        {"encoder": {"preset": "efficientnet_lite", "weights": "s3://mine/weights"}},
        {"encoder": "clip-vit-l14"},
        {"entrypoint": "rm"},
        {"select": {"take_names": ["no-such-take"]}},
    ],
)
def test_jobs_that_reach_outside_are_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code in (403, 404, 422), answer.text
