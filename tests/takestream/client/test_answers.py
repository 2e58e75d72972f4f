"""What the service answers, as datasets, streams and records."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import takestream
from takestream import errors
from takestream.client.client import Client
from takestream.protocol import NDJSON, NPZ
from takestream.schema import Reason
from tests.support.stores import make_store
from tests.takestream.client.server import KEY, Server, clips_2_to_4, npz, plain


def test_features_are_like_an_opened_store(server: Server, client: Client, tmp_path: Path) -> None:
    headers = {
        "Content-Type": NPZ,
        "X-Takestream-Clips": "cached=3; computed=1",
        "X-Takestream-Encoder-Id": "videomae-0123456789",
        "X-Request-ID": "r7",
    }
    server.answers = [(200, headers, npz(**clips_2_to_4()))]
    ds = client.features("cmu bike/01", start=1, end=2.5, streams="aria*", encoder="videomae")
    line, sent, _ = server.seen[0]
    assert line == (
        "GET /v1/takes/cmu%20bike%2F01/features?start=1&end=2.5&streams=aria%2A&encoder=videomae"
    )
    assert (sent["accept"], sent["authorization"]) == (NPZ, f"Bearer {KEY}")
    assert ds.encoding == {
        "clips_cached": 3,
        "clips_computed": 1,
        "encoder_id": "videomae-0123456789",
        "request_id": "r7",
    }
    opened = takestream.open(make_store(tmp_path, "e", "uid-1", "cmu_bike01_2"))
    there = opened.isel(clip=slice(1, 3)).load()
    there.attrs = {name: there.attrs[name] for name in ds.attrs}
    for values in (*there.variables.values(), *ds.variables.values()):
        for key, value in values.attrs.items():  # a store gives flag_values back as an array
            values.attrs[key] = np.asarray(value).tolist()
    assert ds.identical(there)
    assert ds.sel(clip=2).start_time == 1


def test_what_is_no_npz_of_ours_is_refused(server: Server, client: Client) -> None:
    kind = {"Content-Type": NPZ}
    pickled = npz(**clips_2_to_4(stream=np.array(["aria01_rgb", {"a": 1}], dtype=object)))
    server.answers = [
        (200, kind, pickled),
        (200, kind, npz(features=np.ones(3))),
        (200, kind, npz(**clips_2_to_4(valid=np.ones((5, 2), bool)))),
        (200, {"Content-Type": "text/html"}, b"<h1>Welcome to the hotel's network</h1>"),
        (200, kind, npz(**clips_2_to_4())[:-30]),
        (302, {"Location": "https://elsewhere"}, b""),
    ]
    torn = "broke off"
    for words in ("plain arrays", "fit together", "fit together", "text/html", torn, "elsewhere"):
        with pytest.raises(errors.UnexpectedAnswer, match=words) as caught:
            client.features("t")
        assert isinstance(caught.value, errors.TornAnswer) == (words == torn)


def stream_lines() -> list[bytes]:
    head = {"attributes": {"task": "a\u2028b"}, "stream": ["a", "b"], "clip": [4, 5]}
    head |= {"start_time": [2.0, 2.5], "end_time": [3.0, 3.5]}
    rows = [
        {"clip": c, "stream": s, "valid": s == "a", "reason": 0 if s == "a" else 4,
         "frame_time": 2.0 if s == "a" else None, "features": [1, 2] if s == "a" else None}
        for s in "ab" for c in (5, 4)
    ]  # fmt: skip
    end = {"end": True, "clips": 4, "cached": 3, "computed": 1}
    return [json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in (head, *rows, end)]


def test_clips_as_they_are_ready(server: Server, client: Client) -> None:
    server.answers = [(200, {"Content-Type": NDJSON}, b"".join(stream_lines()))]
    with client.iter_features("t", streams=["a", "b"]) as stream:
        assert (stream.streams, stream.clips) == (["a", "b"], [4, 5])
        assert stream.attributes == {"task": "a\u2028b"}
        found = list(stream)
    assert server.seen[0][0].endswith("features?streams=a&streams=b")
    assert [(f.clip, f.stream, f.start_time) for f in found[:2]] == [(5, "a", 2.5), (4, "a", 2.0)]
    assert found[0].features is not None
    assert found[0].features.tolist() == [1, 2]
    assert (found[2].features, found[2].reason, found[2].frame_time) == (
        None,
        Reason.PAST_END,
        None,
    )
    assert (stream.cached, stream.computed) == (3, 1)
    server.answers = [(200, {"Content-Type": NDJSON}, b"".join(stream_lines()))]
    with client.iter_features("t") as stream:
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda lines: b"".join(lines[:-1]), errors.TornAnswer),
        (lambda lines: b"".join(lines)[:-5], errors.TornAnswer),
        (lambda lines: b"".join([*lines[:3], lines[-1]]), errors.TornAnswer),
        (lambda lines: lines[0] + lines[1][:20], errors.TornAnswer),
        (lambda lines: b"", errors.TornAnswer),
        (lambda lines: lines[0] + b'{"clip": 99}\n', errors.UnexpectedAnswer),
        (lambda lines: b"[]\n", errors.UnexpectedAnswer),
        (lambda lines: lines[0] + b'{"error": {"status": 503, "detail": "d"}}\n',
         errors.Unavailable),
        (lambda lines: lines[0] + b'{"error": "d"}\n', errors.ServiceFault),
    ],
)  # fmt: skip
def test_a_torn_stream_is_an_error(
    server: Server,
    client: Client,
    damage: Callable[[list[bytes]], bytes],
    kind: type[errors.TakestreamError],
) -> None:
    server.answers = [(200, {"Content-Type": NDJSON}, damage(stream_lines()))]
    with pytest.raises(kind):
        list(client.iter_features("t"))
    server.answers = [(200, {"Content-Type": NDJSON, "X-Cut": "1"}, b"".join(stream_lines()[:-1]))]
    with pytest.raises(errors.TornAnswer, match="broke off"):
        list(client.iter_features("t"))


def test_segments(server: Server, client: Client, tmp_path: Path) -> None:
    arrays = {
        "features": np.ones((2, 1, 4), np.float32),
        "valid": np.array([[True], [False]]),
        "take": np.array(["t", "u"]),
        "start_time": np.array([0.0, 1.0]),
        "end_time": np.array([2.0, 3.0]),
        "stream": np.array(["a"]),
        "step_id": np.array([7, 9]),
        "attributes": np.array("{}"),
    }
    server.answers = [(200, {"Content-Type": NPZ}, npz(**arrays))] * 2
    ds = client.segments([("t", 0, 2), {"take": "u", "start": 1, "end": 3}], encoder="x")
    assert json.loads(server.seen[0][2]) == {
        "segments": [{"take": "t", "start": 0, "end": 2}, {"take": "u", "start": 1, "end": 3}],
        "encoder": "x",
    }
    assert dict(ds.sizes) == {"segment": 2, "stream": 1, "feature": 4}
    assert set(ds.coords) == {"take", "start_time", "end_time", "stream", "is_ego", "step_id"}
    assert ds.take.values.tolist() == ["t", "u"]
    annotation = {"annotations": {"t": {"segments": [{"start_time": 0, "end_time": 2}]}}}
    path = tmp_path / "keystep.json"
    path.write_text(json.dumps(annotation))
    client.segments(path, streams="a")
    assert json.loads(server.seen[1][2]) == {**annotation, "streams": ["a"]}


def test_search(server: Server, client: Client) -> None:
    moments = [
        {"clip": 3, "start_time": 1.5, "end_time": 2.5, "score": 0.4},
        {"clip": 1, "start_time": 0.5, "end_time": 1.5, "score": 0.1, "more": 1},
    ]
    streams = [{"stream": "a", "moments": moments}, {"stream": "b", "moments": moments[:1]}]
    answer = {"encoder_id": "clip-1", "query": {"text": "a wheel"}, "streams": streams}
    server.answers = [plain(answer), plain(answer), plain(answer), plain({"streams": []})]
    found = client.search("t", text="a wheel", top=2)
    assert [(m.stream, m.clip) for m in found.best] == [("a", 3), ("b", 3), ("a", 1)]
    client.search("t", image=b"jpeg")
    client.search("t", moment=("a", 1.5))
    bodies = [json.loads(body) for _, _, body in server.seen]
    assert bodies[0] == {"take": "t", "top": 2, "text": "a wheel"}
    assert (bodies[1]["image"], bodies[2]["moment"]) == ("anBlZw==", {"stream": "a", "time": 1.5})
    with pytest.raises(errors.UnexpectedAnswer):
        client.search("t", text="a")
    with pytest.raises(ValueError, match="one of them"):
        client.search("t", text="a", image=b"b")
