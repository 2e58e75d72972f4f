"""Answers that are part stored and part computed, with an engine that this test plays."""

import asyncio
import io
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from configs.load import parse
from configs.schema import JobSpec, ServeSpec
from service.api.app import create_app
from service.api.context import ApiContext
from service.engine.client import EngineClient
from service.engine.ondemand import Part
from service.features.refreshed import RefreshedValue
from service.jobs.records import JobRecord, now
from takestream.errors import ErrorKind
from takestream.schema import Reason
from takestream.storage import S3Options
from workers.dataset.take import Take
from workers.run.recipe import Recipe, make_recipe
from workers.run.tasks import ClipPart, ClipRange, Failure, PreparedTake, UnitRecord
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

STREAMS = ("cam01_0", "cam02_0")
CLIPS, DIM, UNIT = 40, 1280, 8
NPZ = {"Accept": "application/x-npz"}
URL = "/v1/takes/one/features"
Window = Callable[[Take, Sequence[str], int, int], AsyncIterator[Any]]


class Engine(EngineClient):
    """Computes `clip + 1000 * stream`; remembers what it was asked for."""

    def __init__(self) -> None:
        self.windows: list[tuple[tuple[str, ...], int, int]] = []
        self.jobs: list[JobSpec] = []
        self.prepared = 0
        self.at_once = self.most_at_once = 0
        self.answer: Window = computed

    async def window(
        self, recipe: Recipe, take: Take, streams: Sequence[str], start: int, stop: int
    ) -> AsyncGenerator[Part, None]:
        self.windows.append((tuple(streams), start, stop))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            async for item in self.answer(take, streams, start, stop):
                yield item
        finally:
            self.at_once -= 1

    async def prepare(self, recipe: Recipe, take: Take, streams: Sequence[str]) -> PreparedTake:
        self.prepared += 1
        return PreparedTake(take, (), ())

    async def submit(self, job: JobSpec, by: str | None) -> JobRecord:
        self.jobs.append(job)
        return JobRecord(
            job_id=f"20261124-054233-{len(self.jobs):06x}", kind="service", status="queued",
            submitted_at=now(), spec={},
        )  # fmt: skip


async def computed(take: Take, streams: Sequence[str], first: int, stop: int) -> AsyncIterator[Any]:
    await asyncio.sleep(0.01)
    for name in streams:
        numbers = np.arange(first, stop)
        yield part_of(name, numbers, numbers + 1000 * STREAMS.index(name))
    yield UnitRecord(take, (ClipRange(0, first, stop, tuple(streams)),), "done")


def part_of(name: str, numbers: np.ndarray, values: np.ndarray) -> ClipPart:
    features = np.repeat(values[:, None], DIM, axis=1).astype(np.float32)
    reason = np.zeros(len(numbers), dtype=np.uint8)
    return ClipPart(name, int(numbers[0]), features, reason, numbers / 2)


def failing(outcome: Any, *failures: Failure) -> Window:
    async def window(
        take: Take, streams: Sequence[str], first: int, stop: int
    ) -> AsyncIterator[Any]:
        yield UnitRecord(
            take, (ClipRange(0, first, stop, tuple(streams)),), outcome, failures=failures
        )

    return window


@pytest.fixture
def spec(tmp_path: Path) -> ServeSpec:
    """A take whose store has the first of five units of the first stream, and nothing else."""
    videos = {n[:-2]: {"0": {"relative_path": f"{n}.mp4"}} for n in STREAMS}
    entries = [
        {"take_uid": f"uid-{name}", "take_name": name, "frame_aligned_videos": videos}
        for name in ("one", "two")
    ]
    (tmp_path / "takes.json").write_text(json.dumps(entries))
    job = {"dataset": str(tmp_path), "output": str(tmp_path / "out")}
    spec = parse(ServeSpec, {"job": job, "limits": {"compute_clips": 60}}, "test")
    recipe = make_recipe(spec.job)
    for name in ("one", "two"):
        start = np.arange(CLIPS) * 30
        layout = StoreLayout(
            streams=STREAMS,
            dim=DIM,
            dtype="float16",
            unit_clips=UNIT,
            start_frame=start,
            stop_frame=start + 30,
            start_time=start / 30,
            end_time=start / 30 + 1,
            attributes={
                "take": {"take_uid": f"uid-{name}", "take_name": name},
                "provenance": {"streams": {n: {"etag": "e", "size": 1} for n in STREAMS}},
            },
        )
        write(TakeStore.create(recipe.store_uri(f"uid-{name}"), layout, S3Options()), "cam01_0")
    return spec


def write(store: TakeStore, name: str) -> None:
    store.write(
        name,
        0,
        features=np.full((UNIT, DIM), 7),
        valid=np.ones(UNIT, dtype=bool),
        frame_time=np.zeros(UNIT),
        reason=np.zeros(UNIT, dtype=np.uint8),
    )


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def client(spec: ServeSpec, engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(ApiContext(spec, None, b"s", engine)), "http://localhost") as found:
        yield found


def arrays(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(np.load(io.BytesIO(answer.content), allow_pickle=False))


def test_a_window_is_computed_once_and_then_known(client: TestClient, engine: Engine) -> None:
    query = {"start": 2, "end": 12}
    first = client.get(URL, params=query, headers=NPZ)
    assert first.headers["x-takestream-clips"] == "cached=6; computed=14"
    assert engine.windows == [(("cam02_0",), 2, 12), (("cam01_0",), 8, 12)]
    count = len(engine.windows)
    again = client.get(URL, params=query, headers=NPZ)
    assert again.headers["x-takestream-clips"] == "cached=20; computed=0"
    assert again.content == first.content
    assert again.headers["etag"] == first.headers["etag"]
    wider = arrays(client.get(URL, params={"start": 0, "end": 14}, headers=NPZ))
    assert wider["features"][:, 0, 0].tolist() == [7] * 8 + list(range(8, 14))
    assert wider["features"][:, 1, 0].tolist() == list(range(1000, 1014))
    assert engine.windows[count:] == [(("cam02_0",), 0, 2), (STREAMS, 12, 14)]


def test_a_tag_stands_only_for_what_is_all_there(client: TestClient, engine: Engine) -> None:
    query = {"start": 8, "end": 12}
    crash = Failure("one", "cam01_0", "took its worker down", kind=ErrorKind.CRASH)

    async def poisoned(take: Take, streams: Any, first: int, stop: int) -> AsyncIterator[Any]:
        one = ClipRange(0, first, stop, ("cam01_0",))
        yield UnitRecord(take, (one,), "failed", failures=(crash,))
        async for item in computed(take, ("cam02_0",), first, stop):
            yield item

    engine.answer = poisoned
    torn = client.get(URL, params=query, headers=NPZ)
    found = arrays(torn)
    assert found["valid"].tolist() == [[False, True]] * 4
    assert set(found["reason"][:, 0].tolist()) == {int(Reason.NOT_EXTRACTED)}
    assert "etag" not in torn.headers
    engine.answer = computed
    whole = client.get(URL, params=query, headers=NPZ)
    assert arrays(whole)["valid"].all()
    assert whole.headers["x-takestream-clips"] == "cached=4; computed=4"
    tag = {"If-None-Match": whole.headers["etag"], **NPZ}
    assert client.get(URL, params=query, headers=tag).status_code == 304
    assert client.get(URL, params={"start": 20, "end": 24}, headers=tag).status_code == 200


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/vnd.apache.arrow.stream"])
def test_streams_follow_videos_that_changed(client: TestClient, engine: Engine, kind: str) -> None:
    engine.answer = failing(
        "failed", Failure("one", None, "its videos changed", kind=ErrorKind.CHANGED)
    )
    prepare = engine.prepare

    async def renewed(*arguments: Any) -> PreparedTake:
        engine.answer = computed
        return await prepare(*arguments)

    engine.prepare = renewed
    answer = client.get(URL, params={"start": 9, "end": 12}, headers={"Accept": kind})
    assert answer.status_code == 200, answer.text
    assert engine.prepared == 1


def test_work_that_was_stopped_is_a_reason_to_come_back(client: TestClient, engine: Engine) -> None:
    engine.answer = failing("stopped")
    answer = client.get(URL, params={"start": 9, "end": 12})
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert "ask again" in answer.json()["detail"]


def test_lines_say_the_same_as_arrays(client: TestClient) -> None:
    query = {"start": 2, "end": 12}
    lines = client.get(URL, params=query, headers={"Accept": "application/x-ndjson"}).text
    head, *rows, tail = [json.loads(line) for line in lines.splitlines()]
    found = arrays(client.get(URL, params=query, headers=NPZ))
    assert head["clip"] == found["clip"].tolist()
    assert tail == {"end": True, "clips": 20, "cached": 6, "computed": 14}
    assert len(rows) == 20
    for row in rows:
        at = STREAMS.index(row["stream"])
        assert row["features"] == found["features"][row["clip"] - 2, at].tolist()
    plain = client.get(URL, params=query).json()
    assert plain["features"] == found["features"].tolist()
    assert plain["stream"] == list(STREAMS)


def test_segments_far_apart_are_not_too_much_at_once(client: TestClient, engine: Engine) -> None:
    marks = [{"take": "one", "start": s, "end": s + 1} for s in range(0, 40, 2)]
    answer = client.post("/v1/features", json={"segments": marks}, headers=NPZ)
    found = arrays(answer)
    assert found["valid"].all()
    assert found["features"][10].mean(axis=-1).tolist() == [20, 1020]
    assert 1 < engine.most_at_once <= 4


def test_segments_outside_their_take_have_no_vector(client: TestClient) -> None:
    marks = [
        {"take": "one", "start": 39.6, "end": 39.7},
        {"take": "one", "start": 40.5, "end": 41},
        {"take": "one", "start": 1e6, "end": 1e6 + 1},
    ]
    found = client.post("/v1/features", json={"segments": marks}).json()
    assert found["valid"] == [[True, True], [False, False], [False, False]]
    assert found["features"][1][0][0] is None


def test_what_is_too_much_for_a_request_becomes_one_job(client: TestClient, engine: Engine) -> None:
    marks = [{"take": t, "start": s, "end": s + 1} for t in ("one", "two") for s in range(8, 40)]
    answer = client.post("/v1/features", json={"segments": marks})
    assert answer.status_code == 202
    (job,) = engine.jobs
    assert job.select.uids == ("uid-one", "uid-two")
    assert job.select.streams == STREAMS
    assert engine.windows == []


def test_a_wrong_segment_costs_no_work(client: TestClient, engine: Engine) -> None:
    marks = [{"take": "one", "start": 9, "end": 10}, {"take": "one", "start": 9, "end": 9}]
    assert client.post("/v1/features", json={"segments": marks}).status_code == 422
    marks = [{"take": "one", "start": 9, "end": 10}, {"take": "tow", "start": 9, "end": 10}]
    answer = client.post("/v1/features", json={"segments": marks})
    assert (answer.status_code, "did you mean 'two'" in answer.text) == (404, True)
    assert engine.windows == []


def test_text_is_refused_where_the_encoder_knows_none(client: TestClient) -> None:
    answer = client.post("/v1/search", json={"take": "one", "text": "a dog"})
    assert answer.status_code == 422
    assert "joint" in answer.json()["detail"]


def test_what_is_kept_is_given_while_the_storage_fails() -> None:
    answers: list[Any] = [1, 2, OSError("gone"), *[3] * 1000]
    slow = threading.Event()

    def read(old: int | None) -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            slow.wait(10)
            raise answer
        return int(answer)

    kept = RefreshedValue(read, seconds=0)
    assert [kept.get(), kept.get()] == [1, 2]
    began = time.monotonic()
    assert kept.get() == 2  # while the reading still hangs
    assert time.monotonic() - began < 5
    slow.set()
    while kept.get() != 3:
        assert time.monotonic() - began < 20


def test_without_a_value_the_error_is_told() -> None:
    def read(old: int | None) -> int:
        raise OSError("gone")

    kept = RefreshedValue(read, seconds=10)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            kept.get()
