"""Answers carry what a store says of its clips, in every format, and the client shows it."""

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from service.features.cache import OpenStore, StoredFeatures
from service.features.encoding import TakeFeatures
from takestream.client.answers import dataset
from takestream.protocol import ARROW, JSON, NPZ
from takestream.storage import S3Options
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

STREAMS = ("aria01_rgb", "cam01_0")
NAMES = ("Get tools", "", "Réparer 🔧")
LABELS = ("12", "13", "")
ORDINARY = {"clip", "start_frame", "stop_frame", "start_time", "end_time"}


def opened(folder: Path, extra: dict[str, Any]) -> OpenStore:
    start = np.arange(3) * 30
    layout = StoreLayout(
        streams=STREAMS,
        dim=4,
        dtype="float32",
        unit_clips=2,
        start_frame=start,
        stop_frame=start + 30,
        start_time=start / 30,
        end_time=start / 30 + 1,
        extra=extra,
    )
    store = TakeStore.create(f"{folder}/e-0123456789/t.zarr", layout)
    for gap in store.missing():
        n = gap.stop - gap.start
        for stream in gap.streams:
            store.write(
                stream,
                gap.start,
                features=np.ones((n, 4)),
                valid=np.ones(n, bool),
                frame_time=np.zeros(n),
                reason=np.zeros(n, np.uint8),
            )
    store.finish()
    found = StoredFeatures(S3Options(), 2**20).open(store.uri)
    assert found is not None
    return found


def answer(store: OpenStore, start: float) -> TakeFeatures:
    clips = store.clips.within(start, None)
    first = int(clips.clip[0])
    block = store.read(STREAMS, first, 3)
    assert block is not None
    return TakeFeatures({"take": {}}, STREAMS, clips, block)


@pytest.fixture
def segments(tmp_path: Path) -> TakeFeatures:
    """The last two of three annotated segments."""
    return answer(opened(tmp_path, {"segment_name": NAMES, "segment_label": LABELS}), 1.5)


def test_the_client_shows_the_segments(segments: TakeFeatures) -> None:
    body = segments.encode(NPZ)
    data = dataset(httpx.Response(200, content=body, headers={"Content-Type": NPZ}), "clip")
    assert data["clip"].values.tolist() == [1, 2]
    assert data.segment_name.dims == ("clip",)
    assert data.segment_name.values.tolist() == list(NAMES[1:])
    assert data.coords["segment_label"].values.tolist() == list(LABELS[1:])
    assert "segment" in data.segment_label.attrs["long_name"]


def test_json_and_arrow_hold_them_too(segments: TakeFeatures) -> None:
    parsed = json.loads(segments.encode(JSON))
    assert parsed["segment_name"] == list(NAMES[1:])
    table = pa.ipc.open_stream(io.BytesIO(segments.encode(ARROW))).read_all()
    assert table.column_names[-2:] == ["segment_name", "segment_label"]
    rows = table.to_pylist()
    assert [row["segment_name"] for row in rows] == [NAMES[1], NAMES[1], NAMES[2], NAMES[2]]
    assert [row["stream"] for row in rows] == [*STREAMS, *STREAMS]


def test_answers_of_an_ordinary_grid_have_no_more_than_before(tmp_path: Path) -> None:
    plain = answer(opened(tmp_path, {}), 0)
    assert set(plain.clips.arrays()) == ORDINARY
    table = pa.ipc.open_stream(io.BytesIO(plain.encode(ARROW))).read_all()
    assert table.column_names[-1] == "features"
