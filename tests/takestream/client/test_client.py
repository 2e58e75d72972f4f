"""What the client takes and gives besides features and jobs."""

import json
import pickle

import numpy as np
import pytest
import xarray

from takestream import errors
from takestream.client.client import Client
from takestream.protocol import NPZ
from tests.takestream.client.server import KEY, Answer, Server, clips_2_to_4, job, npz, plain


def test_numbers_of_numpy_and_xarray(server: Server, client: Client) -> None:
    ready: Answer = (200, {"Content-Type": NPZ}, npz(**clips_2_to_4()))
    server.answers = [ready, ready, plain(job())]
    client.features("t", start=xarray.DataArray(3.0), end=np.float32(4))  # type: ignore[arg-type]
    assert server.seen[-1][0].endswith("features?start=3.0&end=4.0")
    client.segments([{"take": "t", "start": np.int64(1), "end": xarray.DataArray(2.5)}])
    assert json.loads(server.seen[-1][2]) == {"segments": [{"take": "t", "start": 1, "end": 2.5}]}
    client.submit(grid={"stride": np.int64(3)})
    assert json.loads(server.seen[-1][2]) == {"grid": {"stride": 3}}
    for wrong in ({"grid": {"fps": float("nan")}}, {"select": {"uids": {"a"}}}):
        with pytest.raises(ValueError, match="cannot be sent as JSON"):
            client.submit(wrong)
    with pytest.raises(ValueError, match="chooses none"):
        client.features("t", streams=[])
    assert len(server.seen) == 3


def test_takes_come_page_by_page(server: Server, client: Client) -> None:
    names = [f"take{number}" for number in range(5)]
    records = [{"take_uid": f"u-{name}", "take_name": name, "streams": ["a"]} for name in names]
    server.answers = [plain({"total": 5, "takes": records[:3]})]
    server.answers += [plain({"total": 5, "takes": records[3:]})]
    takes = client.takes(task="bike")
    assert next(takes).take_uid == "u-take0"
    assert [line for line, _, _ in server.seen] == ["GET /v1/takes?task=bike&limit=200&offset=0"]
    assert [take.take_name for take in takes] == names[1:]
    assert server.seen[-1][0].endswith("offset=3")
    store = {"encoder_id": "x-1", "uri": "s3://b/x", "status": "partial", "clips": 3}
    details = records[0] | {"streams": [{"key": "a", "is_ego": True}], "stores": [store]}
    server.answers = [plain(details), plain({"detail": "not a take"})]
    take = client.take("take0")
    assert (take.streams[0].is_ego, take.stores[0].status) == (True, "partial")
    with pytest.raises(errors.UnexpectedAnswer):
        client.take("take0")


def test_client_jobs_and_errors_are_pickled(server: Server, client: Client) -> None:
    server.answers = [plain(job()), plain({"encoders": []})]
    found = client.job("j1")
    for error in (
        errors.JobFailed("failed", found, status=202),
        errors.Unavailable("away", status=503, retry_after=3, errors=("a",)),
    ):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(again), str(again), again.status) == (type(error), str(error), error.status)
    again = pickle.loads(pickle.dumps(errors.StillComputing("later", found)))  # noqa: S301
    assert (again.job.id, again.job.state) == ("j1", found.state)
    unpickled = pickle.loads(pickle.dumps(client))  # noqa: S301
    assert unpickled.encoders() == []
    assert server.seen[-1][1]["authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{client!r} {vars(client)} {again.job!r}"
